"""What is refused before anything starts, and what Snakemake is then asked to do."""

import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from made_runs import make_runs
from made_studies import RUN, STUDY, make_done

from peft_study import paths
from peft_study.engine import driver, locks
from peft_study.errors import StudyError
from peft_study.records.read import load_runs
from peft_study.study.study import read_study

FULL = "full-n01000-s42"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--config", "alow_missing=1"], "--config alow_missing=1 has no effect here"),
        (["--config", "runs_per_gpu=0"], "allowed: allow_missing=1, runs_per_gpu=2 (or more)"),
        (["--cores", "two"], "must be integer or 'all'"),
    ],
)
def test_what_snakemake_refuses_or_would_ignore_is_refused_in_one_line(words: list[str], fault: str) -> None:
    with pytest.raises(StudyError) as raised:
        driver.parse(words)
    text = str(raised.value)
    assert f"options {' '.join(words)!r}" in text and fault in text and "./run_all.sh --help" in text
    assert "\n" not in text


def test_what_snakemake_refuses_later_is_one_line_too(home: Path) -> None:
    (profile := home / "profile").mkdir()
    (profile / "config.yaml").write_text("sores: 3")
    for words, fault in {
        ("no-such-target",): "MissingRuleException: No rule to produce no-such-target",
        ("--profile", str(profile)): "unrecognized arguments: --sores=3",
    }.items():
        with pytest.raises(StudyError, match=f"^Snakemake refuses: {fault}") as raised:
            driver.run("tiny", ["-n", *words])
        assert "\n" not in str(raised.value)


def change_epochs(home: Path, *strategies: str) -> None:
    study = {**STUDY, "strategies": {strategy: {"epochs": 5} for strategy in strategies}}
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump(study))


def test_the_options_of_the_user_come_last_and_runs_with_other_values_are_forced(home: Path) -> None:
    def arguments(*words: str) -> list[str]:
        return driver.arguments(read_study("tiny"), words, driver.parse(words))

    assert arguments("--cores", "1")[-2:] == ["--cores", "1"]
    assert arguments("--profile", "mine").count("--profile") == 1, "theirs, not ours"
    for run in (RUN, FULL):
        make_done(paths.run_folder("tiny", run))
    change_epochs(home, "lora")
    for option in ("--forcerun", "-R"):
        last = ["-n", option, "compare", "--forcerun", "compare", f"{RUN}/train.ipynb"]
        assert arguments("-n", option, "compare")[-6:] == last
    change_epochs(home, "full", "lora")
    lines = driver.steps_left(read_study("tiny"), arguments(f"{RUN}/train.ipynb", "-n")).splitlines()
    assert lines[1:] == [f"  train {RUN} again: epochs changed"], "where targets are named, no other is redone"


def test_a_disk_that_is_full_or_cannot_be_written_is_one_clear_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100 * 2**20))
    with pytest.raises(StudyError, match=r"no space left in .*: 100 MiB free, 500 needed"):
        driver.check("tiny")
    monkeypatch.setattr(tempfile, "TemporaryFile", Mock(side_effect=OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(StudyError, match=r"report/tiny cannot be written \(Read-only file system\)"):
        driver.check("tiny")
    shutil.rmtree(home / "report")
    (home / "report").touch()
    with pytest.raises(StudyError, match=r"report/tiny cannot be written \(Not a directory\)"):
        driver.check("tiny")


@pytest.mark.parametrize("option", ["--profile=slurm", "--executor=slurm", "--config=allow_missing=1"])
def test_nothing_is_forecast_of_runs_that_go_elsewhere_or_are_left_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(driver, "forecast", lambda *_: pytest.fail("forecast"))
    monkeypatch.setattr(driver, "steps_left", lambda *_: "")
    driver.run("tiny", ["-n", option])


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


def test_a_study_of_three_hundred_runs_is_listed_and_read_in_seconds() -> None:
    matrix = {"strategy": ["full", "lora"], "train_size": [250, 500, 1000], "seed": list(range(50))}
    make_runs(count=200, without="s49", name="many", matrix=matrix)
    began = time.monotonic()
    assert len(load_runs("many").table) == 294
    assert time.monotonic() - began < 10
    study, began = read_study("many"), time.monotonic()
    left = driver.steps_left(study, driver.arguments(study, ["-n"], driver.parse(["-n"])))
    assert time.monotonic() - began < 15
    assert left.count("train ") == left.count("s49") == 6
