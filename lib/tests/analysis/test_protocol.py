"""When the plan of a study was committed, and that the records of a clone are compared like those of its author."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from made_foreign import edit
from made_runs import make_runs

from peft_study import paths
from peft_study.analysis.protocol import described, deviations, planned
from peft_study.engine.status import status
from peft_study.records import layout
from peft_study.records.read import Runs, load_runs

PLANNED = "2026-03-02T08:00:00+02:00"


def git(*words: str) -> None:
    moments = {"GIT_AUTHOR_DATE": PLANNED, "GIT_COMMITTER_DATE": PLANNED}
    who = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    subprocess.run(["git", *who, *words], cwd=paths.home(), env=os.environ | moments, check=True, capture_output=True)


def dated(runs: Runs, date: str) -> Runs:
    """The runs, recorded at `date` after an hour of training."""
    for run_id in runs.table.index:
        edit(run_id, lambda content: content["environment"].update(date=date))
        edit(run_id, lambda content: content["training"].update(wall_seconds=3600))
    return load_runs("made")


@pytest.mark.parametrize(
    ("date", "order"), [("2026-03-02T07:00:01+00:00", "before"), ("2026-03-02T06:59:59+00:00", "after")]
)
def test_the_plan_precedes_the_runs_if_it_was_committed_before_the_first_began(date: str, order: str) -> None:
    runs = dated(make_runs(), date)
    assert planned(runs) == "", "outside git nobody knows"
    git("init")
    git("add", "runs/made/study.yaml")
    assert planned(runs) == "", "not yet committed"
    git("commit", "-m", "Plan")
    assert f"of 2026-03-02, {order} the first of these runs began." in planned(runs)
    assert deviations(runs) == ""
    (paths.study_folder("made") / "deviations.md").write_text("One test was added.\n", encoding="utf-8")
    assert deviations(runs) == "**Deviations from the plan.** One test was added."
    edit(runs.table.index[0], lambda content: content["environment"].update(date=None))
    assert planned(load_runs("made")) == "", "a run without a date may have come first"


def test_what_differs_from_the_commit_or_has_no_history_is_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = dated(make_runs(), "2026-03-02T08:00:00+00:00")
    git("init")
    git("add", "runs/made")
    git("commit", "-m", "Plan")
    git("commit", "-m", "Nothing", "--allow-empty")
    git("clone", "--depth=1", f"file://{paths.home()}", str(tmp_path / "shallow"))
    assert planned(runs)
    (paths.study_folder("made") / "study.yaml").open("a").write("# changed since\n")
    assert planned(runs) == ""
    monkeypatch.setenv("PEFT_STUDY_HOME", str(tmp_path / "shallow"))
    assert planned(runs) == ""


def test_committed_records_are_done_and_compared_as_those_of_the_program_that_made_them() -> None:
    runs = make_runs()
    for run_id in runs.table.index:
        edit(run_id, lambda content: content["environment"].update(packages={"peft_study": "1", "torch": "2"}))
        (paths.run_folder("made", str(run_id)) / "train.ipynb").unlink()
    cloned = load_runs("made")
    assert cloned.table["test.accuracy"].equals(runs.table["test.accuracy"]) and cloned.foreign == []
    assert described(cloned) == described(runs) != ""
    assert "4 of 4 runs are done" in status("made")
    folder = paths.run_folder("made", str(runs.table.index[0]))
    shutil.rmtree(folder)
    assert not layout.is_done(folder, runs.study.variants[folder.name]), "trained again where its record is removed"
