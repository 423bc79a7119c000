"""JupyterLab on a copy of the notebooks, for a browser to drive."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_notebook import Notebook, Server
from playwright.sync_api import Browser

from peft_study import paths
from peft_study.engine import steps

TRAINED = {"strategy": "lora", "train_size": 60, "learning_rate": 1e-4}  # hardly learns: there are mistakes to look at


def set_parameters(notebook: Path, values: dict[str, Any]) -> None:
    """Change the parameters of a notebook's file, and nothing else of it."""
    text = notebook.read_text(encoding="utf-8")
    for name, value in values.items():
        literal = json.dumps(repr(value))[1:-1]  # Python's, within a string of JSON
        pattern = re.compile(rf'("{name}: [^=]*= ).*?(?=  #|\\n")')
        text, count = pattern.subn(lambda found, literal=literal: found[1] + literal, text)  # type: ignore[misc]
        assert count == 1, name
    notebook.write_text(text, encoding="utf-8")


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
    values = yaml.safe_load((home / "runs" / "quick" / "study.yaml").read_text())["defaults"]
    set_parameters(root / "notebooks" / steps.TRAIN, values | TRAINED)
    library = os.pathsep.join([str(paths.LIB), os.environ.get("PYTHONPATH", "")])
    places = {"PEFT_STUDY_HOME": str(home), "PEFT_STUDY_CACHE": str(real_home / "cache"), "PYTHONPATH": library}
    server = Server(home.parent, root, places | {"JUPYTER_PREFER_ENV_PATH": "1"})
    yield server
    server.close()


@pytest.fixture(scope="module")
def notebook(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Notebook]:
    """The notebook that the module names, all of whose cells have run."""
    notebook = Notebook(browser, server, request.module.NOTEBOOK)
    notebook.start()
    notebook.wait()
    yield notebook
    notebook.close()
