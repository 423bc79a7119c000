"""JupyterLab on a copy of the notebooks, for a browser to drive."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_notebook import Notebook, Server, set_parameters
from playwright.sync_api import Browser

from peft_study import paths
from peft_study.engine import steps

TRAINED = {"strategy": "lora", "train_size": 60, "learning_rate": 1e-4}  # hardly learns: there are mistakes to look at


@pytest.fixture(scope="session")
def home(browser_type_launch_args: dict[str, Any], real_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own with a finished study that the notebooks take for theirs, `quick`."""
    home = tmp_path_factory.mktemp("lab") / "home"
    shutil.copytree(real_home / "runs" / "tiny", home / "runs" / "quick")
    return home


@pytest.fixture(scope="session")
def server(home: Path, real_home: Path) -> Iterator[Server]:
    """JupyterLab on a copy of the notebooks."""
    shutil.copytree(paths.NOTEBOOKS, home / "notebooks")
    values = yaml.safe_load((home / "runs" / "quick" / "study.yaml").read_text())["defaults"]
    set_parameters(home / "notebooks" / steps.TRAIN, values | TRAINED)
    library = os.pathsep.join([str(paths.LIB), os.environ.get("PYTHONPATH", "")])
    places = {"PEFT_STUDY_HOME": str(home), "PEFT_STUDY_CACHE": str(real_home / "cache"), "PYTHONPATH": library}
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={home}", "--ip=127.0.0.1"]
    command += ["--LabApp.expose_app_in_browser=True"]
    server = Server(home.parent, command, places | {"JUPYTER_PREFER_ENV_PATH": "1"})
    yield server
    server.close()


@pytest.fixture(scope="module")
def notebook(request: pytest.FixtureRequest, browser: Browser, server: Server, home: Path) -> Iterator[Notebook]:
    """The notebook that the module names, all of whose cells have run."""
    notebook = Notebook(browser, server, home / "notebooks" / request.module.NOTEBOOK)
    notebook.start()
    notebook.wait()
    yield notebook
    notebook.close()
