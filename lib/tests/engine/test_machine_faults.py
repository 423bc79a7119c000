"""What a machine can lack: space on a disk, which is a real one here; and a study larger than any that is shipped."""

import shutil
import subprocess
import time

import pytest
from made_checkouts import FULL, LORA, Checkout
from made_runs import make_runs

from peft_study.engine import driver
from peft_study.records.read import load_runs
from peft_study.study.study import read_study

LARGE = """\
from pathlib import Path
from peft_study.files import replacing
with replacing(Path(folder, "weights")) as partial:
    partial.write_bytes(bytes(2**20))
Path(folder, "metrics.json").write_text("{}")
"""
MOUNT = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(MOUNT, capture_output=True).returncode != 0,
    reason="a mount of one's own needs Linux and root: run these tests there",
)
def test_a_run_that_fills_the_disk_says_so_and_is_made_when_there_is_space(checkout: Checkout) -> None:
    checkout.write_training(LARGE)
    script = f"""
        cp runs/tiny/study.yaml . && mount -t tmpfs -o size=512k tmpfs runs/tiny && cp study.yaml runs/tiny
        ! python -m peft_study train tiny {FULL}
        ! ls runs/tiny/{FULL}/train.ipynb 2> /dev/null
        dd if=/dev/zero of=runs/tiny/filled bs=1k count=1000 2> /dev/null || true
        ! python -m peft_study train tiny {LORA}
        rm runs/tiny/filled && mount -o remount,size=5m runs/tiny
        python -m peft_study train tiny {FULL} && ls -A runs/tiny/{FULL}
    """
    said = checkout.run("-m", "bash", "-euc", script, command="unshare")
    assert said.returncode == 0, said.stdout
    files = said.stdout.splitlines()
    first, second = (line for line in files if line.startswith("error: no space left to write"))
    assert "weights; free some and run" in first and f"runs/tiny/{LORA}" in second
    assert {"train.ipynb", "metrics.json", "params.yaml", "weights"} <= set(files)
    assert not [name for name in files if "partial" in name]


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
