"""The one command, from the outside: run_all.sh in a copy of this checkout, with stand-ins for its notebooks."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from made_checkouts import FULL, LORA, TINY, Checkout, wait_for

from peft_study.engine import steps


def test_what_is_refused_or_only_listed_starts_nothing(checkout: Checkout) -> None:
    said = checkout.run("tiny", "-n")
    head, *lines = said.stdout.splitlines()
    assert head == "Study tiny: 6 step(s) left (-n -p also prints their commands)." and said.returncode == 0
    assert [line.strip() for line in lines[:3]] == ["explore the texts", f"train {FULL}", f"train {LORA}"]
    last = ["compare the runs", "write a page for each run", "write the report"]
    assert sorted(line.strip() for line in lines[3:]) == last
    assert "python -m peft_study train" in checkout.run("tiny", "-n", "-p").stdout
    (checkout.folder / "faulty").touch()
    said = checkout.run("tiny")
    assert (said.returncode, said.stdout) == (2, "error: no column text\n")
    assert checkout.made() == {} and not (checkout.study / "explore.ipynb").exists()


@pytest.mark.slow
def test_a_study_runs_to_the_report_whatever_fails_on_the_way_and_is_finished_wherever_it_moves(
    checkout: Checkout,
) -> None:
    (checkout.study / "fail").touch()
    said = checkout.run("tiny")
    assert said.returncode == 1 and "1 of 2 runs are done" in said.stdout
    assert said.stdout.count(f"{LORA}: failed: ValueError: unlucky") == 2, "when it fails, and in the closing list"
    assert "Snakemake" not in said.stdout and "rror in rule" not in said.stdout, "its cause is in our words"
    assert f"open runs/tiny/{LORA}/train.partial.ipynb; train.log is beside it" in said.stdout
    assert (checkout.study / LORA / "train.partial.ipynb").exists()
    assert not (checkout.study / LORA / "train.ipynb").exists()
    before, report = checkout.made(), checkout.folder / "report" / "tiny"
    assert set(before) == {FULL}, "a failing run stops no other"

    (checkout.folder / "faulty").touch()
    said = checkout.run("tiny", "--config", "allow_missing=1")
    assert said.returncode == 0 and (report / "report.html").exists(), said.stdout
    assert checkout.made() == before, "what is only compared trains nothing, and needs neither model nor data"

    (checkout.study / "fail").unlink()
    (checkout.folder / "faulty").unlink()
    said = checkout.run("tiny")
    assert said.returncode == 0 and "Study tiny: 2 of 2 runs are done." in said.stdout, said.stdout
    lines = said.stdout.splitlines()
    assert lines[0] == f"training {LORA} (2 of 2)" and re.fullmatch(
        rf"{LORA} done in [\d.]+ seconds, test macro F1 48\.7%", lines[1]
    )
    assert sorted(lines[2:5]) == ["comparing the runs", "writing a page for each run", "writing the report"]
    assert lines[5:] == [
        "Study tiny: 2 of 2 runs are done.",
        "  Full fine-tuning wins.",
        "  With 1,000 labels, choose it.",
        "  Not distinguishable (50.0%): LoRA.",
        "  How sure: better.",
        *(f"  report/tiny/report.{kind}" for kind in ("html", "pdf")),
    ]
    for file in ("report.html", "report.pdf", "explore.html", f"runs/{FULL}.html", f"runs/{LORA}.html"):
        assert (report / file).stat().st_size > 0
    assert not list(checkout.study.glob("**/*.partial.ipynb"))
    assert yaml.safe_load((checkout.study / FULL / "params.yaml").read_text())["strategy"] == "full"
    assert "training full" in (checkout.study / FULL / "train.log").read_text()
    made = checkout.made()
    assert set(made) == {FULL, LORA} and made[FULL] == before[FULL]

    moved = Checkout(checkout.folder.with_name("moved here"))
    checkout.folder.rename(moved.folder)
    began, said = time.monotonic(), moved.run("tiny")
    assert time.monotonic() - began < 15 and said.returncode == 0
    assert said.stdout.startswith("Study tiny: 2 of 2 runs are done.") and moved.made() == made

    (moved.folder / "elsewhere" / "runs").mkdir(parents=True)
    (moved.folder / "elsewhere" / "runs" / "small").symlink_to(moved.study)  # a link of another name
    moved.environment["PEFT_STUDY_HOME"] = "elsewhere"  # counts from where the command is given
    said = moved.run("small", "-n")
    assert "compare the runs" in said.stdout and "write the report" in said.stdout and "train " not in said.stdout


@pytest.mark.slow
def test_homes_temporary_folders_and_caches_may_have_any_name(checkout: Checkout, tmp_path: Path) -> None:
    odd = tmp_path / "-ü [x] {run} 'q' \"d\" $HOME $(x) # % & * ? \\ ; $USER"
    for name, folder in (("PEFT_STUDY_HOME", "home"), ("PEFT_STUDY_CACHE", "cache"), ("TMPDIR", "tmp")):
        (odd / folder).mkdir(parents=True)
        checkout.environment[name] = str(odd / folder)
    shutil.move(checkout.study.parent, odd / "home")
    said = checkout.run("tiny")
    assert said.returncode == 0 and (odd / "home" / "report" / "tiny" / "report.pdf").exists(), said.stdout
    assert checkout.run("tiny").stdout.startswith("Study tiny: 2 of 2 runs are done.")


def test_a_reader_who_has_seen_enough_ends_the_command_quietly(checkout: Checkout) -> None:
    for words in (("tiny", "-n"), ("no-such-study",)):
        process = checkout.start(*words)
        assert process.stdout
        process.stdout.close()
        assert process.wait(60) == 141


def test_what_changed_is_trained_again_and_nothing_else(checkout: Checkout) -> None:
    (texts := checkout.folder / "own.csv").write_text("text,label\na,0\n")
    own = {**TINY, "defaults": {"dataset": "own.csv", "ood_dataset": None}}
    checkout.write_study(own)
    assert checkout.run("tiny", "--until", "train", "explore").returncode == 0

    notebook = nbformat.read(path := checkout.folder / "notebooks" / steps.TRAIN, as_version=4)
    notebook.cells[0].source = "# Another title"
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="saved by hand")]
    nbformat.write(notebook, path)
    said = checkout.run("tiny", "-n").stdout
    assert "compare the runs" in said and "explore the texts" not in said and "train " not in said

    (prose := path.with_name("prose")).write_bytes(path.read_bytes())
    notebook.cells[2].source += "\nprint('more')"
    nbformat.write(notebook, path)
    said = checkout.run("tiny", "-n").stdout
    assert all(f"train {run} again: its texts or code changed" in said for run in (FULL, LORA))
    assert "explore the texts" not in said
    assert "train " not in checkout.run("tiny", "-n", "--config", "allow_missing=1").stdout, "it is only compared"

    prose.replace(path)
    before = texts.read_text()
    texts.write_text("text,label\na,1\n")
    said = checkout.run("tiny", "-n").stdout
    assert "explore the texts again" in said and f"train {FULL} again: its texts or code changed" in said

    texts.write_text(before)
    new = {"strategies": {"lora": {"epochs": 5}}, "matrix": {"strategy": ["full", "lora"], "seed": [1, 2]}}
    checkout.write_study({**own, **new})
    for _ in range(2):
        said = checkout.run("tiny", "-n").stdout
        assert f"train {LORA} again: epochs changed" in said and "train full-n01000-s2" in said
        assert f"train {FULL}" not in said
        shutil.rmtree(checkout.study / ".snakemake", ignore_errors=True)  # as git has it: no notes, times in any order
        for age, file in enumerate(sorted(checkout.study.rglob("*"))):
            os.utime(file, (1e9 + age, 1e9 + age))


@pytest.mark.slow
def test_an_interrupted_study_goes_on_and_keeps_what_is_done(checkout: Checkout) -> None:
    def start_and_wait() -> "subprocess.Popen[str]":
        driver = checkout.start("tiny", "--cores", "2", "--until", "train")
        log, output = checkout.study / FULL / "train.log", checkout.study / LORA / "train.ipynb"
        wait_for(lambda: output.exists() and log.exists() and "training full" in log.read_text())
        return driver

    (checkout.study / "wait").touch()
    driver = start_and_wait()
    said = checkout.run("tiny")
    assert said.returncode == 2
    assert f"another ./run_all.sh on the study 'tiny' is at work: process {driver.pid} on " in said.stdout
    assert checkout.run("tiny", "-n").returncode == 0, "looking is allowed meanwhile"
    os.killpg(driver.pid, signal.SIGINT)  # Ctrl-C
    printed, _ = driver.communicate(timeout=30)
    assert driver.returncode != 0
    assert f"{FULL}: stopped" in printed and "1 of 2 runs are done" in printed
    wait_for(lambda: not checkout.processes(), 10)
    before = checkout.made()
    assert set(before) == {LORA}

    (checkout.study / FULL / "train.log").unlink()
    driver = start_and_wait()
    driver.kill()
    driver.wait()
    said = checkout.run("tiny")
    assert said.returncode == 2, "what goes on without its driver is not trained again beside it"
    assert f"left steps at work: {FULL} by process " in said.stdout and LORA not in said.stdout
    assert f"train tiny {FULL})" in said.stdout
    (checkout.study / "wait").unlink()
    wait_for(lambda: not checkout.processes())
    outlived = checkout.made()
    assert set(outlived) == {FULL, LORA} and outlived[LORA] == before[LORA], "its work counts"
    assert "2 of 2 runs are done" in checkout.run("tiny", "--until", "train").stdout
    assert checkout.made() == outlived


SLOW = """\
import json, time
from pathlib import Path
for step in range(1, 41):
    Path(folder, ".progress.json").write_text(json.dumps({"step": step, "steps": 40, "loss": 0.5}))
    time.sleep(2)
"""


@pytest.mark.slow
def test_a_terminal_shows_the_step_of_each_run_and_ctrl_c_ends_with_the_closing_list(checkout: Checkout) -> None:
    checkout.write_training(SLOW)
    code = "import os, pty, sys; os.environ['COLUMNS'] = '80'; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    command = [sys.executable, "-c", code, "./run_all.sh", "tiny", "--cores", "2", "--until", "train"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    said = ""
    with subprocess.Popen(command, cwd=checkout.folder, env=checkout.environment, text=True, **pipes) as terminal:
        assert terminal.stdin and terminal.stdout
        for line in terminal.stdout:
            said += line
            if re.search(r" of 40  loss 0\.500 +[\d.]+ seconds left", said):
                break
        print("\x03", end="", flush=True, file=terminal.stdin)
        rest = terminal.stdout.read()
    assert terminal.returncode == 130
    assert re.search(r"tiny: 0 of 2 runs done .*\d (seconds|minutes) left", said)
    shown = rest[rest.index("Study tiny: 0 of 2 runs are done.") :].splitlines()
    assert [line.strip() for line in shown[1:3]] == [f"{FULL}: stopped", f"{LORA}: stopped"]
    assert shown[-1] == "./run_all.sh tiny runs the remaining steps and keeps finished runs." and len(shown) == 4
    wait_for(lambda: not checkout.processes(), 10)


ON_A_GPU = """\
import json, os, time
from pathlib import Path
began, gpu, here = time.time(), os.environ["CUDA_VISIBLE_DEVICES"], Path(folder)
(here / f"on-{gpu}").touch()
while len(list(here.parent.parent.glob(f"*/*/on-{gpu}"))) < int(os.environ["TOGETHER"]) and time.time() < began + 30:
    time.sleep(0.1)
time.sleep(1)
(here / "metrics.json").write_text(json.dumps({"gpu": gpu, "began": began, "ended": time.time()}))
"""


def spans_on(checkout: Checkout) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in checkout.study.parent.glob("*/*/metrics.json")]


@pytest.mark.slow
def test_two_studies_at_once_share_the_gpus_and_never_one_of_them(checkout: Checkout) -> None:
    checkout.environment |= {"CUDA_VISIBLE_DEVICES": "0,3", "TOGETHER": "1"}
    checkout.write_training(ON_A_GPU)
    other = "my größte " + "n" * 50  # sixty characters
    shutil.copytree(checkout.study, checkout.study.with_name(other))
    drivers = [checkout.start(study, "--until", "train") for study in ("tiny", other)]
    assert [driver.wait(120) for driver in drivers] == [0, 0]
    spans = spans_on(checkout)
    assert len(spans) == 4 and {span["gpu"] for span in spans} == {"0", "3"}
    for gpu in ("0", "3"):
        on_it = sorted((span["began"], span["ended"]) for span in spans if span["gpu"] == gpu)
        assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(on_it))


def test_runs_share_a_gpu_where_that_is_asked_for(checkout: Checkout) -> None:
    checkout.environment |= {"CUDA_VISIBLE_DEVICES": "3", "TOGETHER": "2"}
    checkout.write_training(ON_A_GPU)
    assert checkout.start("tiny", "--until", "train", "--config", "runs_per_gpu=2").wait(120) == 0
    first, second = spans_on(checkout)
    assert first["gpu"] == second["gpu"] == "3"
    assert max(first["began"], second["began"]) < min(first["ended"], second["ended"])


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def bare(checkout: Checkout, tmp_path: Path) -> Checkout:
    """A copy on a machine without Python: its PATH has the tools of every system and what a test puts there."""
    (tools := tmp_path / "tools").mkdir()
    for name in [
        "bash",
        "sh",
        "cat",
        "cksum",
        "cp",
        "dirname",
        "df",
        "awk",
        "sed",
        "grep",
        "tail",
        "mkdir",
        "rm",
        "env",
    ]:
        (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH"):
        checkout.environment.pop(name, None)
    checkout.environment["PATH"] = f"{tmp_path / 'bin'}:{tools}"
    return checkout


def test_help_needs_no_set_up_and_what_the_set_up_lacks_is_one_clear_line(bare: Checkout, tmp_path: Path) -> None:
    said = bare.run("--help")
    assert said.returncode == 0 and "./run_all.sh STUDY" in said.stdout and "#" not in said.stdout
    fake(tmp_path / "bin", "df", "echo header; echo disk 9 9 1048576 9% /")
    for python, fault in {
        "exit 1  # too old: the question of the version fails": "Python 3.11 to 3.14 is needed",
        'case "$2" in *ensurepip*|*peft_study*) exit 1;; esac': "apt install python3-venv",
        'case "$2" in *peft_study*) exit 1;; esac': "needs 4 GB of disk here, and 1024 MB are free",
    }.items():
        fake(tmp_path / "bin", "python3", python)
        said = bare.run("tiny")
        assert said.returncode == 1 and said.stdout.startswith("run_all.sh: ")
        assert fault in said.stdout and said.stdout.count("\n") == 1
    assert not (bare.folder / ".venv").exists()


def test_a_failed_installation_says_why_and_is_not_taken_for_done(bare: Checkout, tmp_path: Path) -> None:
    """It begins with an environment that a Python of another version had made."""
    python = """case "$*" in
*"import peft_study"* | *", peft_study"*) exit 1 ;;
*"-m venv"*) [ ! -e .venv/bin/old ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*"-m pip install --no-deps --require-hashes"*) echo "ERROR: no network" >&2; exit 1 ;;
esac"""
    fake(tmp_path / "bin", "python3", python)
    fake(bare.folder / ".venv" / "bin", "python", "exit 1  # its packages are those of another version")
    fake(bare.folder / ".venv" / "bin", "old", "")
    inputs = "{ cat lib/requirements.lock lib/pyproject.toml; pwd -P; } | cksum > .venv/made-from"
    subprocess.run(["bash", "-c", inputs], cwd=bare.folder, check=True)
    said = bare.run("tiny")
    assert said.returncode == 1 and "setting up .venv, once" in said.stdout
    assert "ERROR: no network" in said.stdout and ".venv/setup.log" in said.stdout
    (bare.folder / ".venv" / "made-from").unlink()
    said = bare.run("tiny")
    assert said.returncode == 1 and not (bare.folder / ".venv" / "made-from").exists()


def test_texts_are_labelled_from_any_folder_whatever_modules_lie_there(checkout: Checkout, tmp_path: Path) -> None:
    """The run is half a record: what is read of the table is known before."""
    (checkout.study / LORA).mkdir()
    (own := tmp_path / "own").mkdir()
    (own / "random.py").write_text("raise SystemExit('another module')")
    (own / "texts.csv").write_text("text\n")
    command = [str(checkout.folder / "run_all.sh"), "label", f"tiny/{LORA}"]
    for words, fault in ((["texts.csv"], "texts.csv holds no rows"), (["../no.csv"], "there is no file ../no.csv")):
        said = subprocess.run([*command, *words], cwd=own, env=checkout.environment, capture_output=True, text=True)
        assert (said.returncode, said.stdout) == (2, "") and fault in said.stderr and said.stderr.count("\n") == 1


def test_jupyterlab_as_root_or_in_a_container_says_which_options_it_needs(checkout: Checkout, tmp_path: Path) -> None:
    fake(tmp_path / "bin", "id", "echo 0")
    checkout.environment["PATH"] = f"{tmp_path / 'bin'}:{checkout.environment['PATH']}"
    checkout.environment["container"] = "podman"
    said = checkout.run("lab", "--no-browser")
    assert said.returncode == 1 and "publish a port (docker run -p 127.0.0.1:8888:8888" in said.stdout
    assert said.stdout.endswith("./run_all.sh lab --no-browser --allow-root --ip=0.0.0.0 --port=8888\n")
