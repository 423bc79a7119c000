"""JupyterLab for tests: a server on a folder of its own, and a notebook in it as a reader drives it, with a mouse.

`window.jupyterapp` opens, runs and saves; whatever a reader would click or read is clicked and read in the page.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, expect

EXTRA = ("metadata.language_info", "metadata.papermill", "cell.metadata.papermill", "cell.metadata.execution")
TOKEN = "a-token-of-the-tests"
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, also the ones out of sight
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
OPEN = """async path => {
  const app = window.jupyterapp;
  await app.restored;
  app.shell.collapseLeft();
  const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await panel.context.ready;
  await panel.sessionContext.ready;
  window.panel = panel;
}"""
RUN = """() => {
  window.ran = null;
  window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ran = true });
}"""
ERRORS = """() => window.panel.content.widgets.flatMap(cell => cell.model.type !== 'code' ? [] :
  cell.model.outputs.toJSON().filter(o => o.output_type === 'error' || o.name === 'stderr')
    .map(o => o.evalue ? `${o.ename}: ${o.evalue}` : o.text))"""


class Server:
    """A JupyterLab server whose root is `root`, with settings and workspaces of its own under `home`."""

    def __init__(self, home: Path, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        for name, values in SETTINGS.items():
            file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        places = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
        own = {f"JUPYTER_{key}": str(home / folder) for key, folder in places.items()}
        own |= {f"JUPYTERLAB_{key}_DIR": str(home / key.lower()) for key in ("SETTINGS", "WORKSPACES")}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        options = [f"--port={self.url.rpartition(':')[2]}", f"--ServerApp.root_dir={root}"]
        options += ["--no-browser", "--ip=127.0.0.1", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
        options += ["--LabApp.expose_app_in_browser=True", "--allow-root"]
        self.log = home / "server.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options],
                env={**os.environ, **own, "IPYTHONDIR": str(home / "ipython"), **environment},
                stdout=log,
                stderr=log,
            )
        self._wait()

    def _wait(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/api?token={TOKEN}", timeout=1).close()
                return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
        raise RuntimeError(self.log.read_text())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


class Notebook:
    """A notebook, open in JupyterLab."""

    def __init__(self, browser: Browser, server: Server, path: str) -> None:
        self.server, self.path = server, path
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.open()

    def open(self) -> None:
        """Open the notebook, or open it again with a fresh page: the kernel, if there is one, stays."""
        self.page.goto(f"{self.server.url}/lab?reset&token={TOKEN}")
        self.page.wait_for_function("window.jupyterapp && window.jupyterapp.restored")
        self.page.evaluate(OPEN, self.path)

    def start(self) -> None:
        """Start to run all cells."""
        self.page.evaluate(RUN)

    def run(self) -> None:
        """Run all cells to their end."""
        self.start()
        self.wait()

    def wait(self, seconds: float = 120) -> None:
        """Wait until all cells have run."""
        self.page.wait_for_function("window.ran", timeout=1000 * seconds)

    def errors(self) -> list[str]:
        """The errors that cells show, and what they wrote to stderr."""
        return self.page.evaluate(ERRORS)

    def save(self) -> bytes:
        """Save, and give what is in the file."""
        self.page.evaluate("() => window.panel.context.save()")
        return (self.server.root / self.path).read_bytes()

    def interrupt(self) -> None:
        """Press ■ in the toolbar."""
        self.page.locator(".jp-NotebookPanel-toolbar [data-command='notebook:interrupt-kernel']").click()

    def replace(self, old: str, new: str) -> None:
        """Change a line of a cell, as somebody who types."""
        edit = """([before, after]) => {
          const cells = window.panel.content.widgets.map(cell => cell.model.sharedModel);
          const cell = cells.find(cell => cell.source.includes(before));
          cell.setSource(cell.source.replace(before, after));
        }"""
        self.page.evaluate(edit, [old, new])

    def cell(self, code: str) -> "Panel":
        """The cell with that code in it, and what it shows."""
        find = "code => window.panel.content.widgets.findIndex(cell => cell.model.sharedModel.source.includes(code))"
        place = self.page.evaluate(find, code)
        assert place >= 0, f"no cell with {code!r}"
        return Panel(self.page.locator(".jp-Notebook .jp-Cell").nth(place))

    def close(self) -> None:
        """End the kernel and close the page."""
        self.page.evaluate("() => window.panel.sessionContext.shutdown()")
        self.page.close()


def stripped(notebook: bytes) -> bytes:
    """A notebook's file as the check of the tests and the hook for commits want it."""
    command = [sys.executable, "-m", "nbstripout", "--keep-id", "--extra-keys", " ".join(EXTRA), "-t"]
    return subprocess.run(command, input=notebook, stdout=subprocess.PIPE, check=True).stdout


class Panel:
    """The output of a cell: controls by their description, and what is shown below them."""

    def __init__(self, cell: Locator) -> None:
        self.output = cell.locator(".jp-Cell-outputArea")

    def control(self, description: str) -> Locator:
        """The row of a control: its description and its field."""
        exact = self.output.page.locator(".widget-label", has_text=description)
        return self.output.locator(".jupyter-widgets", has=exact).last

    def select(self, description: str, *options: str) -> None:
        """Choose in a list."""
        self.control(description).locator("select").select_option(label=list(options))

    def fill(self, description: str, text: Any) -> None:
        """Type into a field and leave it."""
        field = self.control(description).locator("input, textarea").first
        field.fill(str(text))
        field.blur()

    def slide(self, description: str, text: str) -> None:
        """Type into the figure beside a slider."""
        readout = self.control(description).locator(".widget-readout")
        readout.click()
        readout.fill(text)
        readout.press("Enter")

    def says(self, text: Any) -> None:
        """Wait until the text is shown."""
        expect(self.shown).to_contain_text(text)

    @property
    def shown(self) -> Locator:
        """What is shown below the controls."""
        return self.output.locator(".widget-html").last
