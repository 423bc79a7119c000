"""The closing list: what became of every run, read from the folders alone."""

from pathlib import Path

import yaml
from made_studies import RUN, STUDY, make_done

from peft_study import paths
from peft_study.engine.status import status
from peft_study.records.layout import remove_record
from peft_study.study.study import read_study


def test_the_closing_list_says_what_became_of_every_run(home: Path) -> None:
    assert "0 of 2 runs are done" in status("tiny")
    make_done(done := paths.run_folder("tiny", RUN))
    (failed := paths.run_folder("tiny", "full-n01000-s42")).mkdir()
    (failed / "train.log").write_text("loading\nerror: ValueError: unlucky\n")
    (failed / "train.partial.ipynb").write_text("{}")
    text = status("tiny")
    assert "1 of 2 runs are done" in text and "allow_missing=1" in text
    assert f"full-n01000-s42: failed: ValueError: unlucky\n    open {failed / 'train.partial.ipynb'}" in text
    (failed / "train.log").write_text("loading\n")
    assert "full-n01000-s42: stopped" in status("tiny")
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "defaults": {"epochs": 5}}))
    assert f"{RUN}: outdated: epochs changed since" in status("tiny")
    (done / "train.ipynb").unlink()
    assert f"{RUN}: outdated: epochs changed since; it was made elsewhere" in status("tiny")


def test_the_closing_list_names_what_was_left_out(home: Path) -> None:
    make_done(folder := paths.run_folder("tiny", RUN))
    (folder / "train.log").write_text("loading\nLeft out: the figure “Loss” (ValueError: no).\ndone\n")
    (home / "runs" / "tiny" / "explore.log").write_text("Left out: a.\nLeft out: a.\n")
    text = status("tiny")
    assert (
        f"  {RUN}: Left out: the figure “Loss” (ValueError: no)." in text and text.count("explore: Left out: a.") == 1
    )


def test_a_report_that_is_older_than_a_run_says_so(home: Path) -> None:
    (report := paths.report_folder("tiny")).mkdir(parents=True)
    (report / "report.html").touch()
    assert "report.html (without the unfinished runs)" in status("tiny")
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
