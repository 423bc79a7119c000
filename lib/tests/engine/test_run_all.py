"""The one command, from the outside: run_all.sh in a copy of this checkout, with stand-ins for its notebooks."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import nbformat
import pytest
import yaml
from made_checkouts import FULL, LORA, TINY, Checkout, Said, wait_for

from peft_study.engine import steps


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Said]:
    """A copy whose study has run from beginning to end, and what it said."""
    copy = Checkout(tmp_path_factory.mktemp("finished") / "checkout")
    copy.fill()
    return copy, copy.run("tiny")


@pytest.fixture
def finished(first_run: tuple[Checkout, object], tmp_path: Path) -> Checkout:
    """A copy of the finished checkout elsewhere: what a moved or synchronised folder is."""
    shutil.copytree(first_run[0].folder, tmp_path / "moved here")
    return Checkout(tmp_path / "moved here")


# ---- what is refused before anything starts


def test_help_needs_no_set_up(checkout: Checkout) -> None:
    checkout.environment["PATH"] = "/usr/bin:/bin"
    checkout.environment.pop("PYTHONPATH")
    for option in ("--help", "-h"):
        said = checkout.run(option)
        assert said.returncode == 0
        assert "./run_all.sh STUDY" in said.stdout and "#" not in said.stdout
    assert not (checkout.folder / ".venv").exists()


def test_an_unknown_study_is_refused_with_the_nearest_name(checkout: Checkout) -> None:
    said = checkout.run("tinny")
    assert said.returncode == 2
    assert "unknown study 'tinny'; did you mean 'tiny'?" in said.stdout
    assert "Traceback" not in said.stdout


def test_a_file_in_place_of_the_report_folder_is_one_clear_error(checkout: Checkout) -> None:
    (checkout.folder / "report").write_text("")
    said = checkout.run("tiny")
    assert said.returncode == 2
    assert str(checkout.folder / "report") in said.stdout and "Traceback" not in said.stdout


def test_the_data_is_checked_before_any_run_starts(checkout: Checkout) -> None:
    checkout.write_check("raise StudyError('no column text')")
    said = checkout.run("tiny")
    assert said.returncode == 2
    assert said.stdout == "error: no column text\n"
    assert checkout.made() == {}


# ---- a study from beginning to end


def test_a_study_runs_from_nothing_to_the_report(first_run: tuple[Checkout, Said]) -> None:
    checkout, said = first_run
    assert said.returncode == 0, said.stdout
    assert "Study tiny: 2 of 2 runs are done." in said.stdout
    assert set(checkout.made()) == {FULL, LORA}
    for path in ("report/tiny/report.html", "report/tiny/report.pdf"):
        assert (checkout.folder / path).stat().st_size > 0
        assert path in said.stdout
    for page in ("explore", f"runs/{FULL}", f"runs/{LORA}"):
        assert (checkout.folder / "report" / "tiny" / f"{page}.html").stat().st_size > 0
    assert (checkout.study / "explore.ipynb").exists() and (checkout.study / "compare.ipynb").exists()
    assert not list(checkout.study.glob("**/*.partial.ipynb"))
    assert yaml.safe_load((checkout.study / FULL / "params.yaml").read_text())["strategy"] == "full"
    assert "training full" in (checkout.study / FULL / "train.log").read_text()


def test_a_dry_run_lists_what_is_left_and_does_none_of_it(checkout: Checkout) -> None:
    began = time.monotonic()
    said = checkout.run("tiny", "-n")
    assert time.monotonic() - began < 10
    assert said.returncode == 0
    steps = ["explore the reviews", f"train {FULL}", f"train {LORA}"]
    last = ["compare the runs", "write a page for each run", "write the report"]
    head, *lines = said.stdout.splitlines()
    assert head == "Study tiny: 6 step(s) left (-n -p prints all of each)."
    assert [line.strip() for line in lines[:3]] == steps and sorted(line.strip() for line in lines[3:]) == last
    assert "python -m peft_study train" in checkout.run("tiny", "-n", "-p").stdout
    assert checkout.run("tiny", "-n", "--no-such-option").returncode == 2
    assert checkout.made() == {} and not (checkout.study / "explore.ipynb").exists()


def test_a_finished_study_does_nothing_even_when_its_folder_has_moved(finished: Checkout) -> None:
    before, began = finished.made(), time.monotonic()
    said = finished.run("tiny")
    assert time.monotonic() - began < 15
    assert said.returncode == 0
    assert "Nothing to be done" in said.stdout and "2 of 2 runs are done" in said.stdout
    assert finished.made() == before


def test_prose_and_outputs_retrain_nothing_and_code_retrains_every_run(finished: Checkout) -> None:
    path = finished.folder / "notebooks" / steps.TRAIN
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "# Another title"
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="saved by hand")]
    nbformat.write(notebook, path)
    assert "Nothing to be done" in finished.run("tiny", "-n").stdout
    notebook.cells[2].source += "\nprint('more')"
    nbformat.write(notebook, path)
    said = finished.run("tiny", "-n").stdout
    assert all(f"train {run} again: its texts or code changed" in said for run in (FULL, LORA))
    said = finished.run("tiny", "-n", "--config", "allow_missing=1").stdout
    assert "Nothing to be done" in said, "what is only compared is never trained"


def test_changed_values_and_new_runs_are_trained_and_no_other(finished: Checkout) -> None:
    finished.write_study({**TINY, "matrix": {"strategy": ["full", "lora"], "seed": [1, 2]}})
    said = finished.run("tiny", "-n").stdout
    assert "train full-n01000-s2" in said and f"train {FULL}" not in said
    finished.write_study({**TINY, "strategies": {"lora": {"epochs": 5}}})
    changed = f"train {LORA} again: epochs changed"
    said = finished.run("tiny", "-n").stdout
    assert changed in said and f"train {FULL}" not in said
    shutil.rmtree(finished.study / ".snakemake")  # as git has it: no notes, and times in any order
    for age, path in enumerate(sorted(finished.study.rglob("*"))):
        os.utime(path, (1e9 + age, 1e9 + age))
    said = finished.run("tiny", "-n").stdout
    assert changed in said and f"train {FULL}" not in said


def test_texts_that_changed_in_their_file_retrain_their_runs_and_explore_them_again(finished: Checkout) -> None:
    (texts := finished.folder / "own.csv").write_text("text,label\na,0\n")
    own = {"defaults": {"dataset": "own.csv", "ood_dataset": None}, "matrix": {"strategy": ["full"], "seed": [1]}}
    finished.write_study({**TINY, **own})
    assert finished.run("tiny", "--until", "train", "explore").returncode == 0
    said = finished.run("tiny", "-n").stdout
    assert "explore the reviews" not in said and "train " not in said
    texts.write_text("text,label\na,1\n")
    said = finished.run("tiny", "-n").stdout
    assert "explore the reviews again" in said and f"train {FULL} again: its texts or code changed" in said


def test_what_is_deleted_renamed_or_elsewhere_is_made_whole_again(finished: Checkout) -> None:
    (finished.folder / "elsewhere" / "runs").mkdir(parents=True)
    finished.study.rename(finished.folder / "elsewhere" / "runs" / "small")
    finished.environment["PEFT_STUDY_HOME"] = "elsewhere"  # counts from where the command is given
    said = finished.run("small")
    assert said.returncode == 0 and "training" not in said.stdout, said.stdout
    assert (finished.folder / "elsewhere" / "report" / "small" / "report.html").exists()
    shutil.rmtree(finished.folder / "elsewhere" / "report")
    said = finished.run("small", "-n").stdout
    assert "compare the runs" in said and "write the report" in said and "train " not in said


# ---- what goes wrong, and the way back


@pytest.mark.slow
def test_a_failing_run_stops_no_other_and_is_named_at_the_end(checkout: Checkout) -> None:
    (checkout.study / "fail").touch()
    said = checkout.run("tiny")
    assert said.returncode == 1
    assert f"{LORA}: failed: ValueError: unlucky" in said.stdout
    assert f"open runs/tiny/{LORA}/train.partial.ipynb; train.log is beside it" in said.stdout
    assert "1 of 2 runs are done" in said.stdout
    assert (checkout.study / LORA / "train.partial.ipynb").exists()
    assert not (checkout.study / LORA / "train.ipynb").exists()
    before = checkout.made()
    assert set(before) == {FULL}

    said = checkout.run("tiny", "--config", "allow_missing=1")
    assert said.returncode == 0, said.stdout
    assert (checkout.folder / "report" / "tiny" / "report.html").exists()
    assert checkout.made() == before

    (checkout.study / "fail").unlink()
    said = checkout.run("tiny", "--until", "train")
    assert said.returncode == 0, said.stdout
    assert "2 of 2 runs are done" in said.stdout
    assert checkout.made()[FULL] == before[FULL]
    assert not (checkout.study / LORA / "train.partial.ipynb").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "kill -9"])
def test_an_interrupted_study_goes_on_and_keeps_what_is_done(checkout: Checkout, how: str) -> None:
    (checkout.study / "wait").touch()
    driver = checkout.start("tiny", "--cores", "2", "--until", "train")
    wait_for(lambda: LORA in checkout.made() and (checkout.study / LORA / "train.ipynb").exists())
    wait_for(lambda: "training full" in (checkout.study / FULL / "train.log").read_text())
    if how == "Ctrl-C":
        said = checkout.run("tiny")
        assert said.returncode == 2
        assert f"another ./run_all.sh on the study 'tiny' is at work: process {driver.pid} on " in said.stdout
        assert checkout.run("tiny", "-n").returncode == 0, "looking is allowed meanwhile"
        os.killpg(driver.pid, signal.SIGINT)
        printed, _ = driver.communicate(timeout=30)
        assert driver.returncode != 0
        assert f"{FULL}: stopped" in printed and "1 of 2 runs are done" in printed
        wait_for(lambda: not checkout.processes(), 10)
    else:
        driver.kill()
        driver.wait()
        said = checkout.run("tiny")
        assert said.returncode == 2, "what goes on without its driver is not trained again beside it"
        at_work = f"left steps at work: {FULL} by process "
        assert at_work in said.stdout and f"train tiny {FULL})" in said.stdout and LORA not in said.stdout
    before = checkout.made()
    (checkout.study / "wait").unlink()
    wait_for(lambda: not checkout.processes())
    if how == "kill -9":
        before = checkout.made()
        assert set(before) == {FULL, LORA}, "its work counts"
    assert "2 of 2 runs are done" in checkout.run("tiny", "--until", "train").stdout
    assert before.items() <= checkout.made().items()
    wait_for(lambda: not checkout.processes(), 10)


ON_A_GPU = """\
import json, os, time
from pathlib import Path
began = time.time()
time.sleep(1)
span = {"gpu": os.environ["CUDA_VISIBLE_DEVICES"], "began": began, "ended": time.time()}
Path(folder, "metrics.json").write_text(json.dumps(span))
"""


@pytest.mark.slow
def test_two_studies_at_once_share_the_gpus_and_never_one_of_them(checkout: Checkout) -> None:
    checkout.environment["CUDA_VISIBLE_DEVICES"] = "0,3"
    checkout.write_training(ON_A_GPU)
    other = "my größte " + "n" * 50  # sixty characters
    shutil.copytree(checkout.study, checkout.study.with_name(other))
    drivers = [checkout.start(study, "--until", "train") for study in ("tiny", other)]
    assert [driver.wait(120) for driver in drivers] == [0, 0]
    spans = [json.loads(file.read_text()) for file in checkout.study.parent.glob("*/*/metrics.json")]
    assert len(spans) == 4 and {span["gpu"] for span in spans} == {"0", "3"}
    for gpu in ("0", "3"):
        on_it = sorted((span["began"], span["ended"]) for span in spans if span["gpu"] == gpu)
        assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(on_it))


# ---- what the set-up needs


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def bare(checkout: Checkout, tmp_path: Path) -> Checkout:
    """A copy on a machine without Python: its PATH has the tools of every system and what a test puts there."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "cat", "cksum", "dirname", "df", "awk", "sed", "grep", "tail", "mkdir", "rm", "env"):
        (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH"):
        checkout.environment.pop(name, None)
    checkout.environment["PATH"] = f"{tmp_path / 'bin'}:{tools}"
    return checkout


@pytest.mark.parametrize(
    ("python", "fault"),
    [
        ("exit 1  # too old: the question of the version fails", "Python 3.11 to 3.14 is needed"),
        ('case "$2" in *ensurepip*|*peft_study*) exit 1;; esac', "apt install python3-venv"),
        ('case "$2" in *peft_study*) exit 1;; esac', "needs 4 GB of disk here, and 1024 MB are free"),
    ],
)
def test_what_the_set_up_lacks_is_one_clear_line(bare: Checkout, tmp_path: Path, python: str, fault: str) -> None:
    fake(tmp_path / "bin", "python3", python)
    fake(tmp_path / "bin", "df", "echo header; echo disk 9 9 1048576 9% /")
    said = bare.run("tiny")
    assert said.returncode == 1 and said.stdout.startswith("run_all.sh: ")
    assert fault in said.stdout and said.stdout.count("\n") == 1
    assert not (bare.folder / ".venv").exists()


def test_a_failed_installation_says_why_and_is_not_taken_for_done(bare: Checkout, tmp_path: Path) -> None:
    python = """case "$*" in
*"import peft_study"* | *", peft_study"*) exit 1 ;;
*"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*"-m pip"*) echo "ERROR: no network" >&2; exit 1 ;;
esac"""
    fake(tmp_path / "bin", "python3", python)
    (tmp_path / "tools" / "cp").symlink_to(shutil.which("cp") or "/bin/cp")
    for _ in range(2):
        said = bare.run("tiny")
        assert said.returncode == 1
        assert "ERROR: no network" in said.stdout and ".venv/setup.log" in said.stdout
        assert not (bare.folder / ".venv" / "made-from").exists()


def test_an_environment_of_another_python_is_made_anew(bare: Checkout, tmp_path: Path) -> None:
    fake(tmp_path / "bin", "python3", 'case "$*" in *peft_study*) exit 1;; *"-m venv"*) echo no venv; exit 1;; esac')
    fake(bare.folder / ".venv" / "bin", "python", "exit 1  # its packages are those of another version")
    inputs = "{ cat lib/requirements.lock lib/pyproject.toml; pwd -P; } | cksum > .venv/made-from"
    subprocess.run(["bash", "-c", inputs], cwd=bare.folder, check=True)
    said = bare.run("tiny")
    assert "setting up .venv, once" in said.stdout and said.returncode == 1
    assert not (bare.folder / ".venv" / "bin").exists()
