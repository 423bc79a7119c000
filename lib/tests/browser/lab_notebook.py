"""JupyterLab for tests: a server on a folder of its own, and a notebook in it as a reader drives it, with a mouse.

`window.jupyterapp` opens, runs and saves; whatever a reader would click or read is clicked and read in the page.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, expect

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, also the ones out of sight
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
OPEN = """async path => {
  const app = window.jupyterapp;
  await app.restored;
  app.shell.collapseLeft();
  window.panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await Promise.all([window.panel.context.ready, window.panel.sessionContext.ready]);
}"""
RUN = """() => {
  window.ran = null;
  window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ran = true });
}"""
ERRORS = """() => window.panel.content.widgets.flatMap(cell => cell.model.type !== 'code' ? [] :
  cell.model.outputs.toJSON().filter(o => o.output_type === 'error' || o.name === 'stderr')
    .map(o => o.evalue ? `${o.ename}: ${o.evalue}` : o.text))"""
RAW = re.compile(r"\[@(?!nobody)|(?<!\w)@(?:fig|tbl)-|#\||PosixPath\(.*")  # [@nobody] is planted in a review
FIND = "code => window.panel.content.widgets.findIndex(cell => cell.model.sharedModel.source.includes(code))"


def set_parameters(notebook: Path, values: dict[str, Any]) -> None:
    """Change the parameters of a notebook's file, and nothing else of it."""
    text = notebook.read_text(encoding="utf-8")
    for name, value in values.items():
        literal = json.dumps(repr(value))[1:-1]  # Python's, within a string of JSON
        pattern = re.compile(rf'("{name}: [^=]*= ).*?(?=  #|\\n")')
        text, count = pattern.subn(lambda found, literal=literal: found[1] + literal, text)  # type: ignore[misc]
        assert count == 1, name
    notebook.write_text(text, encoding="utf-8")


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; returns what it prints."""
    return subprocess.run(["git", "-C", str(folder), *words], stdout=subprocess.PIPE, text=True, check=True).stdout


class Server:
    """A JupyterLab server that `command` starts, with settings and workspaces of its own under `home`."""

    def __init__(self, home: Path, command: list[str], environment: dict[str, str]) -> None:
        for name, values in SETTINGS.items():
            file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        own = {f"JUPYTER_{key}_DIR": str(home / key.lower()) for key in ("CONFIG", "DATA", "RUNTIME")}
        own |= {f"JUPYTERLAB_{key}_DIR": str(home / key.lower()) for key in ("SETTINGS", "WORKSPACES")}
        own |= {"IPYTHONDIR": str(home / "ipython")}
        log = home / "server.log"
        with log.open("w") as file:
            command = [*command, "--no-browser", "--allow-root"]
            self._process = subprocess.Popen(command, env=os.environ | own | environment, stdout=file, stderr=file)
        while not (found := re.search(r"(http://127[^/]+)/lab\S*token=(\w+)", log.read_text())):
            assert self._process.poll() is None, log.read_text()
            time.sleep(0.2)
        self.address, (self.url, self.token) = found[0], found.groups()

    def close(self) -> None:
        self._process.kill()  # asked to end while kernels start, Jupyter's server waits for ever; they end with it
        self._process.wait()


class Notebook:
    """A notebook, open in JupyterLab."""

    def __init__(self, browser: Browser, server: Server, file: Path) -> None:
        self.server, self.file = server, file
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.page.set_default_timeout(30_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.open()

    def open(self) -> None:
        """Open the notebook, or open it again with a fresh page: the kernel, if there is one, stays."""
        self.page.goto(f"{self.server.url}/lab?reset&token={self.server.token}")
        self.page.wait_for_function("window.jupyterapp && window.jupyterapp.restored")
        self.page.evaluate(OPEN, f"notebooks/{self.file.name}")

    def start(self) -> None:
        """Start to run all cells."""
        self.page.evaluate(RUN)

    def wait(self, seconds: float = 120) -> None:
        """Wait until all cells have run."""
        self.page.wait_for_function("window.ran", timeout=1000 * seconds)

    def errors(self) -> list[str]:
        """The errors that cells show, what they wrote to stderr, the page's own, and markup that stays raw."""
        raw = RAW.findall(self.page.locator(".jp-Notebook").inner_text())
        return [*self.page.evaluate(ERRORS), *self.complaints, *raw]

    def changes(self) -> str:
        """Save, and give what git lists as changed in the checkout: notebooks, study and report."""
        self.page.evaluate("() => window.panel.context.save()")
        return git(self.file.parent.parent, "status", "--porcelain")

    def interrupt(self) -> None:
        """Press ■ in the toolbar."""
        self.page.locator(".jp-NotebookPanel-toolbar [data-command='notebook:interrupt-kernel']").click()

    def cell(self, code: str) -> "Panel":
        """The cell with that code in it, and what it shows."""
        place = self.page.evaluate(FIND, code)
        assert place >= 0, f"no cell with {code!r}"
        return Panel(self.page.locator(".jp-Notebook .jp-Cell").nth(place))

    def close(self) -> None:
        """End the kernel and close the page."""
        self.page.evaluate("() => window.panel.sessionContext.shutdown()")
        self.page.close()


class Panel:
    """The output of a cell: controls by their description, and what is shown below them."""

    def __init__(self, cell: Locator) -> None:
        self.output = cell.locator(".jp-Cell-outputArea")

    def control(self, description: str) -> Locator:
        """The row of a control: its description and its field."""
        label = self.output.page.locator(".widget-label", has_text=description)
        return self.output.locator(".jupyter-widgets", has=label).last

    def select(self, description: str, *options: str) -> None:
        """Choose in a list."""
        self.control(description).locator("select").select_option(label=list(options))

    def fill(self, description: str, text: Any) -> None:
        """Type into a field and leave it."""
        field = self.control(description).locator("input, textarea").first
        field.fill(str(text))
        field.blur()

    def click(self, button: str) -> None:
        """Press a button."""
        self.output.get_by_role("button", name=button).click()

    def says(self, text: Any) -> None:
        """Wait until the text is shown below the controls, markup in it as text."""
        expect(self.shown).to_contain_text(text)
        assert self.output.locator("script").count() == 0

    @property
    def shown(self) -> Locator:
        """What is shown below the controls."""
        return self.output.locator(".widget-output").last
