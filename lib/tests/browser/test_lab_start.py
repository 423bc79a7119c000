"""`./run_all.sh lab`: the three notebooks are open, on this machine only, behind a token."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from lab_notebook import free_port
from playwright.sync_api import Browser, expect

from peft_study import paths
from peft_study.engine.steps import COMPARE, EXPLORE, TRAIN

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(browser: Browser, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `./run_all.sh lab` says to open in a browser."""
    place = tmp_path_factory.mktemp("start")
    own = {f"JUPYTER_{key}_DIR": str(place / key.lower()) for key in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": str(place / "workspaces"), "PYTHONPATH": str(paths.LIB)}
    own |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PEFT_STUDY_HOME": str(home)}
    log = place / "log"
    command = [
        "bash",
        str(paths.CHECKOUT / "run_all.sh"),
        "lab",
        f"--port={free_port()}",
        "--no-browser",
        "--allow-root",
    ]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=os.environ | own, stdout=file, stderr=file)
    try:
        while not (found := re.findall(r"http://127\S+token=\w+", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield found[0]
    finally:
        process.kill()  # asked to end while kernels start, Jupyter's server waits for ever; they end with it
        process.wait()


def test_the_three_notebooks_are_open_in_order_and_the_first_is_in_front(address: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(address)
    tabs = page.locator("#jp-main-dock-panel .lm-TabBar-tab")
    expect(tabs).to_have_text([EXPLORE, TRAIN, COMPARE], timeout=60_000)
    expect(tabs.first).to_have_class(re.compile("lm-mod-current"))
    expect(page.locator(".jp-NotebookPanel:visible h1").first).to_contain_text("What is in the reviews")
    page.close()


def test_nobody_else_can_open_it(address: str) -> None:
    plain, port = re.match(r"(http://[^/]+:(\d+))", address).groups()  # type: ignore[union-attr]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{plain}/api/contents")
    listening = [c for c in psutil.net_connections() if c.status == "LISTEN" and c.laddr.port == int(port)]
    assert listening and {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}
