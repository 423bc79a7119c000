"""The closing list: what became of every run, read from the folders alone."""

from pathlib import Path

import yaml
from made_studies import RUN, STUDY, make_done

from peft_study import paths
from peft_study.engine.status import status
from peft_study.records.layout import is_done, remove_record
from peft_study.study.study import read_study


def change_epochs(home: Path) -> None:
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "defaults": {"epochs": 5}}))


def test_a_run_is_done_when_its_folder_is_complete_and_asked_for_the_same_values(home: Path) -> None:
    folder, variant = paths.run_folder("tiny", RUN), read_study("tiny").variants[RUN]
    assert not is_done(folder, variant)
    make_done(folder)
    assert is_done(folder, variant)
    assert not is_done(folder, variant.model_copy(update={"epochs": 7}))
    for name in ("params.yaml", "metrics.json"):
        make_done(folder.with_name(f"{RUN}-{name}"), run=RUN)
        (folder.with_name(f"{RUN}-{name}") / name).write_text("{not whole")
        assert not is_done(folder.with_name(f"{RUN}-{name}"), variant)


def test_the_closing_list_says_what_became_of_every_run(home: Path) -> None:
    assert "0 of 2 runs are done" in status("tiny")
    make_done(paths.run_folder("tiny", RUN))
    failed = paths.run_folder("tiny", "full-n01000-s42")
    failed.mkdir()
    (failed / "train.log").write_text("loading\nerror: ValueError: unlucky\n")
    (failed / "train.partial.ipynb").write_text("{}")
    text = status("tiny")
    assert "1 of 2 runs are done" in text
    assert "full-n01000-s42: failed: ValueError: unlucky" in text
    assert str(failed / "train.partial.ipynb") in text
    assert "allow_missing=1" in text
    (failed / "train.log").write_text("loading\n")
    assert "full-n01000-s42: stopped" in status("tiny")


def test_the_closing_list_names_the_values_that_changed_since(home: Path) -> None:
    make_done(paths.run_folder("tiny", RUN))
    change_epochs(home)
    assert f"{RUN}: outdated: epochs changed since" in status("tiny")


def test_what_another_program_left_with_other_values_is_not_promised_to_be_redone(home: Path) -> None:
    make_done(paths.run_folder("tiny", RUN))
    (paths.run_folder("tiny", RUN) / "train.ipynb").unlink()
    assert "1 of 2 runs are done" in status("tiny")
    change_epochs(home)
    assert f"{RUN}: outdated: epochs changed since; another program left it" in status("tiny")


def test_a_report_that_is_older_than_a_run_says_so(home: Path) -> None:
    (report := paths.report_folder("tiny")).mkdir(parents=True)
    (report / "report.html").touch()
    assert "report.html (without what is not done)" in status("tiny")
    for run in read_study("tiny").variants:
        make_done(paths.run_folder("tiny", run))
    assert "report.html (older than some runs)" in status("tiny")
    (report / "report.html").touch()
    assert status("tiny").endswith("report.html")


def test_a_link_in_a_run_is_removed_and_what_it_leads_to_is_not(home: Path, tmp_path: Path) -> None:
    make_done(folder := paths.run_folder("tiny", RUN))
    (elsewhere := tmp_path / "large disk").mkdir()
    (elsewhere / "model.safetensors").write_bytes(b"weights")
    (folder / "model").symlink_to(elsewhere)
    remove_record(folder)
    assert not list(folder.iterdir()) and (elsewhere / "model.safetensors").exists()
