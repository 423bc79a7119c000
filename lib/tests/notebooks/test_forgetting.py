"""Notebook B: what an encoder forgets is measured once per run, and then read from the record."""

import shutil
from pathlib import Path

import nbformat
import pytest
from made_runs import REAL_RUNS

from peft_study import paths
from peft_study.engine import steps
from peft_study.records.read import load_runs

NOTEBOOK = paths.NOTEBOOKS / "B_what_is_forgotten.ipynb"


def test_halves_are_matched_once_per_run_and_later_without_its_model(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, study := tmp_path / "home" / "runs" / finished.name)
    monkeypatch.setenv("PEFT_STUDY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    steps.execute(NOTEBOOK, tmp_path / "first.ipynb", {"study": study.name, "texts": 30})
    halves = load_runs(study.name).of_part("halves30_")
    assert set(halves.table.index) == set(REAL_RUNS) and halves.preds.shape == (30, len(REAL_RUNS))
    shares = {run: halves.right(run).mean() for run in REAL_RUNS}
    for run in REAL_RUNS:
        shutil.rmtree(study / run / "model")
    steps.execute(NOTEBOOK, tmp_path / "again.ipynb", {"study": study.name, "texts": 30})
    first, again = (nbformat.read(tmp_path / f"{name}.ipynb", as_version=4) for name in ("first", "again"))
    said, repeated = (notebook.cells[-2].outputs[0]["data"]["text/markdown"] for notebook in (first, again))
    assert said == repeated and "Before fine-tuning, the halves of **" in said
    last = [100 * shares[run] for run in REAL_RUNS if "n00100" in run]
    assert all(f"{share:.1f} [" in said for share in last)
