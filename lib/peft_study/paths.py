"""The project's folders, and whether a reader or the batch runs a notebook in them."""

import os
from pathlib import Path

LIB = Path(__file__).resolve().parents[1]
CHECKOUT = LIB.parent
ASSETS = LIB / "assets.txt"
NOTEBOOKS = CHECKOUT / "notebooks"
CHECKPOINTS = "checkpoints"  # in a run's folder, until its record is written
PROGRESS = ".progress.json"  # likewise: the step of its training
SCRATCH = "scratch"  # in place of a study: the runs that 02 trains in JupyterLab


def live() -> bool:
    """Whether the notebook runs in JupyterLab: a Jupyter server started its kernel, rather than papermill.

    The server names the notebook in `JPY_SESSION_NAME`; papermill does not set it, and the engine removes one inherited
    from a terminal of JupyterLab.
    """
    return "JPY_SESSION_NAME" in os.environ


def home() -> Path:
    """The folder that holds `runs/` and `report/`: the checkout, or `PEFT_STUDY_HOME` (a larger disk, a test)."""
    return Path(os.environ.get("PEFT_STUDY_HOME") or CHECKOUT).resolve()


def cache() -> Path:
    """The folder of unpacked assets and tokenised texts: `PEFT_STUDY_CACHE`, or `~/.cache/peft-study`."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "peft-study"
    return Path(os.environ.get("PEFT_STUDY_CACHE") or default).expanduser().resolve()


def studies() -> list[str]:
    """The names of all studies, sorted."""
    return sorted(path.parent.name for path in (home() / "runs").glob("*/study.yaml"))


def study_folder(study: str) -> Path:
    """The folder of a study: its `study.yaml`, one folder per run, the executed notebooks."""
    return home() / "runs" / study


def run_folder(study: str, run_id: str) -> Path:
    """The folder of a run's record."""
    return study_folder(study) / run_id


def report_folder(study: str) -> Path:
    """`report.html`, `report.pdf` and `figures/` of a study."""
    return home() / "report" / study
