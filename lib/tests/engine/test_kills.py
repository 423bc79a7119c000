"""kill -9 at any point: what is finished stays, what is not is made again, and the end is that of a quiet day."""

import json
import os
import random
import shutil
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

SEED = int(os.environ.get("KILLS_SEED", "1"))
POINTS, REAL_POINTS = int(os.environ.get("KILLS_POINTS", "10")), int(os.environ.get("KILLS_REAL_POINTS", "2"))
STUDY = {**TINY, "matrix": {"strategy": ["full", "lora"], "seed": [1, 2]}}
# It lasts three seconds (none where `fast` is there), and leaves its record in several files one by one.
TRAINING = """\
import time
import numpy as np
from pathlib import Path
from peft_study.files import replacing, write_json

pause = 0 if (Path(folder).parent / "fast").exists() else 0.5
time.sleep(5 * pause)
logits = np.random.default_rng([seed, len(strategy)]).normal(size=(400, 2))
with replacing(Path(folder, "preds_and_labels.npz")) as partial:
    np.savez_compressed(partial, logits=logits)
time.sleep(pause)
write_json(Path(folder, "metrics.json"), {"run": {"strategy": strategy, "train_size": train_size, "seed": seed}})
"""


def record(run: Path) -> dict[str, Any]:
    """What a finished run says, whoever reads it, but for the time that it took."""
    with np.load(run / "preds_and_labels.npz") as arrays:
        said = {name: arrays[name].tobytes() for name in arrays.files}
    params = (run / "params.yaml").read_text().replace(str(run.parent), "")
    return said | {"run": json.loads((run / "metrics.json").read_text())["run"], "params": params}


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


@pytest.mark.slow
@pytest.mark.parametrize(("real", "points", "longest"), [(False, POINTS, 1.5), (True, REAL_POINTS, 8)])
def test_a_study_killed_at_random_points_ends_as_one_that_nobody_disturbed(
    checkout: Checkout, tmp_path: Path, settings: dict[str, Any], real: bool, points: int, longest: float
) -> None:
    """Kill driver or run at so many points, up to `longest` seconds after runs are at work, or until all are done."""
    checkout.write_training(TRAINING)
    checkout.write_study(STUDY)
    quiet = Checkout(tmp_path / "quiet")
    if real:
        shutil.copy2(paths.NOTEBOOKS / steps.TRAIN, checkout.folder / "notebooks")
        quiet.environment["PEFT_STUDY_CACHE"] = checkout.environment["PEFT_STUDY_CACHE"] = str(tmp_path / "cache")
        checkout.write_study({**TINY, "matrix": {"strategy": ["full"], "seed": [0]}, "defaults": settings})
    shutil.copytree(checkout.folder, quiet.folder)
    (quiet.study / "fast").touch()
    said = quiet.run("tiny", "--cores", "2", "--until", "train")
    expected = {run: record(quiet.study / run) for run in finished(quiet)}
    assert len(expected) == (1 if real else 4), said.stdout

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
                rng.choice(runs).kill()
                kills["run"] += 1
        for run, notebook in finished(checkout).items():
            assert record(checkout.study / run) == expected[run]
            assert kept.setdefault(run, notebook) == notebook, f"{run} was finished, and is made again"
    assert sum(kills.values()) >= points / 2 and (real or min(kills.values()) > 0)

    (checkout.study / "fast").touch()
    driver.kill()
    driver.wait()
    wait_for(lambda: not victims(checkout))
    last = checkout.run("tiny", "--cores", "2", "--until", "train")
    assert f"{len(expected)} of {len(expected)} runs are done" in last.stdout
    assert {run: record(checkout.study / run) for run in finished(checkout)} == expected
    assert kept.items() <= finished(checkout).items()
    assert not list(checkout.study.glob("**/*.partial*"))
