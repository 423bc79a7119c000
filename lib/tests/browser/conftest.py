"""Tests in a browser: they are skipped, with a reason, where there is no Chromium."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_notebook import Server

from peft_study import paths

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """The system's Chromium, wherever it is and whatever it is called."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no browser: install Chromium (Debian, Ubuntu: apt install chromium) or Chrome to run these tests")
    return {"executable_path": found, "headless": True, "args": list(QUIET)}


@pytest.fixture(scope="session")
def home(browser_type_launch_args: dict[str, Any], real_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own with a finished study that the notebooks take for theirs, `quick`, and a second one, `tiny`."""
    home = tmp_path_factory.mktemp("lab") / "home"
    for study in ("quick", "tiny"):
        shutil.copytree(real_home / "runs" / "tiny", home / "runs" / study)
    return home


@pytest.fixture(scope="session")
def server(home: Path, real_home: Path) -> Iterator[Server]:
    """JupyterLab on a copy of the notebooks."""
    root = home.parent / "root"
    shutil.copytree(paths.NOTEBOOKS, root / "notebooks")
    environment = {
        "PEFT_STUDY_HOME": str(home),
        "PEFT_STUDY_CACHE": str(real_home / "cache"),
        "PYTHONPATH": os.pathsep.join([str(paths.LIB), os.environ.get("PYTHONPATH", "")]),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    server = Server(home.parent, root, environment)
    yield server
    server.close()
