"""What is refused before anything starts, and what Snakemake is then asked to do."""

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from made_studies import RUN, STUDY, make_done

from peft_study import paths
from peft_study.engine import driver, locks
from peft_study.errors import StudyError
from peft_study.study.study import Study, read_study

FULL = "full-n01000-s42"


def dry_run(study: Study, *words: str) -> str:
    """What a dry run with these options lists."""
    return driver.steps_left(study, driver.arguments(study, words, driver.parse(words)))


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--config", "alow_missing=1"], "--config alow_missing=1 has no meaning here"),
        (["--config", "allow_missing=yes"], "allowed: allow_missing=1"),
        (["--cores"], "argument --cores/-c: expected one argument"),
        (["--cores", "two"], "must be integer or 'all'"),
    ],
)
def test_what_snakemake_refuses_or_would_ignore_is_refused_in_one_line(words: list[str], fault: str) -> None:
    with pytest.raises(StudyError) as raised:
        driver.parse(words)
    text = str(raised.value)
    assert f"options {' '.join(words)!r}" in text and fault in text and "./run_all.sh --help" in text
    assert "\n" not in text


def test_the_options_of_the_user_come_last_and_runs_with_other_values_are_forced(home: Path) -> None:
    def arguments(*words: str) -> list[str]:
        return driver.arguments(read_study("tiny"), words, driver.parse(words))

    assert arguments("--cores", "1")[-2:] == ["--cores", "1"]
    make_done(paths.run_folder("tiny", RUN))
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "defaults": {"epochs": 5}}))
    for option in ("--forcerun", "-R"):
        last = ["-n", option, "compare", "--forcerun", "compare", f"{RUN}/train.ipynb"]
        assert arguments("-n", option, "compare")[-6:] == last
    assert arguments("--profile", "mine").count("--profile") == 1, "theirs, not ours"


def test_where_targets_are_named_no_other_run_is_redone(home: Path) -> None:
    for run in (RUN, FULL):
        make_done(paths.run_folder("tiny", run))
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "defaults": {"epochs": 5}}))
    lines = dry_run(read_study("tiny"), f"{RUN}/train.ipynb", "-n").splitlines()
    assert lines[1:] == [f"  train {RUN} again: epochs changed"]


@pytest.mark.parametrize("options", [["--config", "allow_missing=1"], ["--config=allow_missing=1"]])
def test_what_is_only_compared_trains_nothing_and_needs_neither_model_nor_data(
    home: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    make_done(paths.run_folder("tiny", RUN))
    make_done(paths.run_folder("tiny", FULL))
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "strategies": {"full": {"epochs": 5}}}))
    study = read_study("tiny")
    assert f"train {FULL} again: epochs changed" in dry_run(study, "-n")
    assert "train" not in dry_run(study, "-n", *options)
    monkeypatch.setattr("peft_study.engine.check.check", lambda _: pytest.fail("asked for model and data"))
    assert driver.check("tiny", compare_only=driver.parse(options).compare_only) == study


def test_the_folder_of_a_study_may_be_a_link_to_one_of_another_name(home: Path) -> None:
    (home / "runs" / "tiny").rename(home / "elsewhere")
    (home / "runs" / "tiny").symlink_to(home / "elsewhere")
    assert "Study tiny: 6 step(s) left" in dry_run(read_study("tiny"), "-n")


def test_a_full_disk_is_refused_before_anything_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100 * 2**20))
    with pytest.raises(StudyError, match=r"no space left in .*: 100 MiB free, 500 needed"):
        driver.check("tiny")


def test_a_read_only_file_system_is_one_clear_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(StudyError, match=r"report/tiny cannot be written \(Read-only file system\)"):
        driver.check("tiny")


@pytest.mark.parametrize("options", [["--profile", "slurm"], ["--executor=slurm"], ["--config", "allow_missing=1"]])
def test_nothing_is_forecast_of_runs_that_go_elsewhere_or_are_left_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setattr(driver, "forecast", lambda *_: pytest.fail("forecast"))
    monkeypatch.setattr(driver, "steps_left", lambda *_: "")
    driver.run("tiny", ["-n", *options])


@pytest.mark.parametrize("lock", [".lock", ".explore.lock", f"{RUN}/.lock"])
def test_a_study_at_work_is_refused_with_the_process_that_is_at_work(
    home: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setattr(driver, "check", lambda name, *_: read_study(name))
    monkeypatch.setattr(driver, "snakemake", lambda *_: pytest.fail("started beside it"))
    held = locks.lock(home / "runs" / "tiny" / lock)
    assert held is not None
    with pytest.raises(StudyError, match=rf"at work: .*process {os.getpid()} on .*; wait until that has ended, or end"):
        driver.run("tiny", [])
    os.close(held)


def test_slurm_jobs_that_a_killed_driver_left_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "check", lambda name, *_: read_study(name))
    (home / "runs" / "tiny" / ".snakemake" / "slurm_logs").mkdir(parents=True)
    queue = f"7|{home}/runs/tiny\n8|{home}/runs/other\n"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, queue))
    with pytest.raises(StudyError, match=r"left steps at work: Slurm job 7 \(scancel 7 ends it\); wait"):
        driver.run("tiny", ["--config", "allow_missing=1"])
