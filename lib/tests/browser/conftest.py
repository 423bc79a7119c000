"""JupyterLab in a copy of the checkout, for a browser to drive."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_notebook import Notebook, Server, git, set_parameters
from playwright.sync_api import Browser, expect

from peft_study import paths
from peft_study.engine import steps

expect.set_options(timeout=30_000)  # milliseconds: other programs may keep the machine busy
TRAINED = {"strategy": "lora", "train_size": 60, "learning_rate": 1e-4}  # hardly learns: there are mistakes to look at


@pytest.fixture(scope="session")
def home(browser_type_launch_args: dict[str, Any], real_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose notebooks and finished study `quick`, with its report, are in git."""
    home = tmp_path_factory.mktemp("lab") / "home"
    for kind in ("runs", "report"):
        shutil.copytree(real_home / kind / "tiny", home / kind / "quick")
    mine, ignored = home / "runs" / "scratch" / "mine", shutil.ignore_patterns("train.*", ".lock")
    shutil.copytree(home / "runs" / "quick" / "lora-n00060-s1", mine, ignore=ignored)
    shutil.copytree(paths.NOTEBOOKS, home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    values = yaml.safe_load((home / "runs" / "quick" / "study.yaml").read_text())["defaults"]
    set_parameters(home / "notebooks" / steps.TRAIN, values | TRAINED)
    shutil.copy2(paths.CHECKOUT / "run_all.sh", home)
    (home / "lib").symlink_to(paths.LIB)
    (home / ".gitignore").write_text("runs/scratch/\n.ipynb_checkpoints/\n")
    git(home, "init", "--quiet")
    git(home, "add", ".")
    git(home, "-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "-m", "x")
    return home


@pytest.fixture(scope="session")
def server(home: Path, real_home: Path) -> Iterator[Server]:
    """JupyterLab in that checkout, started as a user does."""
    library = os.pathsep.join([str(paths.LIB), os.environ.get("PYTHONPATH", "")])
    places = {"PEFT_STUDY_HOME": str(home), "PEFT_STUDY_CACHE": str(real_home / "cache"), "PYTHONPATH": library}
    places |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "JUPYTER_PREFER_ENV_PATH": "1"}
    command = ["bash", str(home / "run_all.sh"), "lab", "--ip=127.0.0.1", "--LabApp.expose_app_in_browser=True"]
    server = Server(home.parent, command, places)
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
