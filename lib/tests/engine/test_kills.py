"""kill -9 at any point: what is finished stays, what is not is made again, and the end is that of a quiet day."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from made_checkouts import TINY, Checkout, wait_for

from peft_study import paths
from peft_study.engine import steps

SEED, POINTS = int(os.environ.get("KILLS_SEED", "1")), int(os.environ.get("KILLS_POINTS", "10"))
REAL_POINTS, REAL_SEEDS = int(os.environ.get("KILLS_REAL_POINTS", "2")), int(os.environ.get("KILLS_REAL_SEEDS", "1"))
STUDY = {**TINY, "matrix": {"strategy": ["full", "lora"], "seed": [1, 2]}}
# A tiny model, trained in three seconds (at once where `fast` is there), and its record in several files one by one.
TRAINING = """\
import time
import numpy as np
from pathlib import Path
from peft_study.files import replacing, write_json

pause = 0 if (Path(folder).parent / "fast").exists() else 0.05
rng = np.random.default_rng(seed + 10 * (strategy == "lora"))
inputs, weights, log = rng.normal(size=(400, 8)), np.zeros(8), []
labels = (inputs.sum(axis=1) + rng.normal(size=400) > 0).astype(int)
for step in range(60):
    chances = 1 / (1 + np.exp(-inputs @ weights))
    weights += 0.01 * inputs.T @ (labels - chances)
    log.append({"step": step, "loss": float(-np.log(np.where(labels, chances, 1 - chances)).mean())})
    time.sleep(pause)
write_json(Path(folder, "log_history.json"), log)
time.sleep(pause)
logits = np.stack([-inputs @ weights, inputs @ weights], axis=1)
with replacing(Path(folder, "preds_and_labels.npz")) as partial:
    np.savez_compressed(partial, preds=logits.argmax(axis=1), labels=labels, logits=logits, ids=np.arange(400))
time.sleep(pause)
identity = {"strategy": strategy, "train_size": train_size, "seed": seed}
write_json(Path(folder, "metrics.json"), {"run": identity, "evaluation": {"test": {"loss": log[-1]["loss"]}}})
"""


def record(run: Path) -> dict[str, Any]:
    """What a finished run says, whoever reads it, but for the time that it took."""
    with np.load(run / "preds_and_labels.npz") as arrays:
        found: dict[str, Any] = {name: arrays[name].tobytes() for name in arrays.files}
    metrics, log = (json.loads((run / name).read_text()) for name in ("metrics.json", "log_history.json"))
    found |= {name: metrics.get(name) for name in ("run", "data", "parameters")}
    found |= {"test": metrics["evaluation"]["test"], "losses": [entry.get("loss") for entry in log]}
    return found | {"params": (run / "params.yaml").read_text().replace(str(run.parent), "")}


def finished(checkout: Checkout) -> dict[str, tuple[int, int]]:
    """The finished runs, each with what tells its notebook from one that is made later."""
    found = {file.parent.name: file.stat() for file in checkout.study.glob("*/train.ipynb")}
    return {run: (stat.st_ino, stat.st_mtime_ns) for run, stat in found.items()}


def started(checkout: Checkout) -> "subprocess.Popen[str]":
    return checkout.start("tiny", "--cores", "2", "--until", "train")


def victims(checkout: Checkout) -> list[psutil.Process]:
    """The steps and the kernels that are at work."""
    found = []
    for process in checkout.processes():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if "ipykernel_launcher" in line or line[1:4] == ["-m", "peft_study", "train"]:
            found.append(process)
    return found


def made_on_a_quiet_day(checkout: Checkout, place: Path) -> dict[str, dict[str, Any]]:
    """The records of all runs, where nobody disturbs a copy of the study."""
    quiet = Checkout(place)
    shutil.copytree(checkout.folder, quiet.folder)
    (quiet.study / "fast").touch()
    driver = started(quiet)
    text, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, text
    return {run: record(quiet.study / run) for run in finished(quiet)}


def kill_and_go_on(
    checkout: Checkout, expected: dict[str, dict[str, Any]], points: int, longest: float
) -> dict[str, int]:
    """Kill the driver or a run, at so many points that come up to `longest` seconds after runs are at work, or until
    all runs are done. The end must be the `expected` one. Returns how many of each were killed."""
    rng, kept, kills = random.Random(SEED), dict[str, tuple[int, int]](), {"driver": 0, "run": 0}
    driver, hurt = started(checkout), False
    while sum(kills.values()) < points and len(kept) < len(expected):
        if rng.random() < 0.8:  # else the driver may not have started any run yet
            wait_for(lambda at=driver: at.poll() is not None or bool(victims(checkout)))
        time.sleep(rng.uniform(0, longest))
        runs = victims(checkout)
        if driver.poll() is not None:
            text, _ = driver.communicate()
            assert driver.returncode == 0 or hurt or "left steps at work" in text, text
            driver, hurt = started(checkout), False
        else:
            hurt = True
            if not runs or rng.random() < 0.4:
                driver.kill()
                driver.wait()
                kills["driver"] += 1
            else:
                rng.choice(runs).send_signal(signal.SIGKILL)
                kills["run"] += 1
        for run, notebook in finished(checkout).items():
            assert record(checkout.study / run) == expected[run]
            assert kept.setdefault(run, notebook) == notebook, f"{run} was finished, and is made again"
    (checkout.study / "fast").touch()
    driver.kill()
    driver.wait()
    wait_for(lambda: not victims(checkout))
    last = started(checkout)
    said, _ = last.communicate(timeout=300)
    assert last.returncode == 0, said

    assert {run: record(checkout.study / run) for run in finished(checkout)} == expected
    assert kept.items() <= finished(checkout).items()
    assert not list(checkout.study.glob("**/*.partial*"))
    count = len(expected)
    assert f"{count} of {count} runs are done" in checkout.run("tiny", "--until", "train").stdout
    return kills


def really_train(checkout: Checkout, tmp_path: Path, defaults: dict[str, Any], matrix: dict[str, Any]) -> None:
    """Put the real 02 in the place of its stand-in, with a study of these values."""
    shutil.copy2(paths.NOTEBOOKS / steps.TRAIN, checkout.folder / "notebooks")
    shutil.copy2(paths.LIB / "peft_study" / "engine" / "check.py", checkout.folder / "lib" / "peft_study" / "engine")
    checkout.environment["PEFT_STUDY_CACHE"] = str(tmp_path / "cache")
    checkout.write_study({**TINY, "matrix": matrix, "defaults": defaults})


@pytest.mark.slow
def test_a_study_killed_at_random_points_ends_as_one_that_nobody_disturbed(checkout: Checkout, tmp_path: Path) -> None:
    checkout.write_training(TRAINING)
    checkout.write_study(STUDY)
    expected = made_on_a_quiet_day(checkout, tmp_path / "quiet")
    kills = kill_and_go_on(checkout, expected, POINTS, longest=1.5)
    assert len(expected) == 4 and sum(kills.values()) >= POINTS / 2 and min(kills.values()) > 0


@pytest.mark.slow
def test_real_trainings_that_are_killed_leave_what_undisturbed_ones_do(
    checkout: Checkout, tmp_path: Path, settings: dict[str, Any]
) -> None:
    really_train(checkout, tmp_path, settings, {"strategy": ["full"], "seed": list(range(REAL_SEEDS))})
    expected = made_on_a_quiet_day(checkout, tmp_path / "quiet")
    kills = kill_and_go_on(checkout, expected, REAL_POINTS, longest=8)
    assert len(expected) == REAL_SEEDS and sum(kills.values()) > 0


@pytest.mark.slow
def test_a_run_whose_kernel_is_killed_goes_on_from_its_checkpoint(
    checkout: Checkout, tmp_path: Path, settings: dict[str, Any]
) -> None:
    really_train(checkout, tmp_path, settings | {"resume": True, "epochs": 30.0}, {"strategy": ["full"], "seed": [0]})
    driver = started(checkout)
    wait_for(lambda: bool(list(checkout.study.glob("*/checkpoints/checkpoint-*/trainer_state.json"))))
    (kernel,) = (process for process in victims(checkout) if "ipykernel_launcher" in process.cmdline())
    kernel.kill()
    said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 1 and "Kernel died" in said and "0 of 1 runs are done" in said
    again = started(checkout)
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said
    (run,) = finished(checkout)
    training = json.loads((checkout.study / run / "metrics.json").read_text())["training"]
    assert len(training["resumed"]) == 1 and training["steps"] == training["planned_steps"]
    assert not list(checkout.study.glob("*/checkpoints"))
