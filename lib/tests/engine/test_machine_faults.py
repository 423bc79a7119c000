"""What a machine can lack: space, the right to write, a network; and studies larger than any here.

The full disk, the read-only one and the machine without a network are real: namespaces of Linux make them, for root.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from made_checkouts import FULL, LORA, Checkout, Said
from made_runs import make_runs

from peft_study import paths
from peft_study.records.read import load_runs

LARGE = """\
from pathlib import Path
from peft_study.files import replacing
with replacing(Path(folder, "weights")) as partial:
    partial.write_bytes(bytes(2**20))
Path(folder, "metrics.json").write_text("{}")
"""


def can(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


own_mounts = pytest.mark.skipif(
    not can("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"),
    reason="a mount of one's own needs Linux and root: run these tests there",
)
own_network = pytest.mark.skipif(
    not can("unshare", "-n", "ip", "link", "set", "lo", "up"),
    reason="a network of one's own needs Linux, root and the command ip (Debian, Ubuntu: apt install iproute2)",
)


def inside(checkout: Checkout, namespace: str, script: str) -> Said:
    """What a shell says in a namespace of its own, in the folder of the checkout."""
    return checkout.says("unshare", namespace, "bash", "-euc", script)


@own_mounts
def test_a_run_that_fills_the_disk_says_so_and_is_made_when_there_is_space(checkout: Checkout) -> None:
    checkout.write_training(LARGE)
    said = inside(
        checkout,
        "-m",
        f"""
        cp runs/tiny/study.yaml . && mount -t tmpfs -o size=512k tmpfs runs/tiny && cp study.yaml runs/tiny
        ! python -m peft_study train tiny {FULL}
        ! ls runs/tiny/{FULL}/train.ipynb 2> /dev/null
        dd if=/dev/zero of=runs/tiny/filled bs=1k count=1000 2> /dev/null || true
        ! python -m peft_study train tiny {LORA}
        rm runs/tiny/filled && mount -o remount,size=5m runs/tiny
        python -m peft_study train tiny {FULL} && ls -A runs/tiny/{FULL}
        """,
    )
    assert said.returncode == 0, said.stdout
    files = said.stdout.splitlines()
    first, second = (line for line in files if line.startswith("error: no space left to write"))
    assert "weights; free some and run" in first and f"runs/tiny/{LORA}" in second
    assert {"train.ipynb", "metrics.json", "params.yaml", "weights"} <= set(files)
    assert not [name for name in files if "partial" in name]


@own_network
def test_a_machine_without_a_network_trains_on_what_it_has(checkout: Checkout) -> None:
    said = inside(checkout, "-n", f"ip link set lo up\npython -m peft_study train tiny {FULL}")
    assert said.returncode == 0, said.stdout
    assert set(checkout.made()) == {FULL}


@own_network
def test_a_model_of_the_hub_without_a_network_is_one_line_for_the_whole_study(checkout: Checkout) -> None:
    shutil.copy2(paths.LIB / "peft_study" / "engine" / "check.py", checkout.folder / "lib" / "peft_study" / "engine")
    folder = str(checkout.folder / "no reviews")
    checkout.write_study(
        {
            "title": "t",
            "question": "q",
            "defaults": {"model": "some/model", "dataset": folder},
            "matrix": {"strategy": ["full", "lora"], "seed": list(range(20))},
        }
    )
    checkout.environment |= {"HF_HOME": str(checkout.folder / "hub"), "HF_HUB_OFFLINE": "0"}
    began = time.monotonic()
    said = inside(checkout, "-n", "ip link set lo up\n./run_all.sh tiny && exit 9 || echo code $?")
    head, model, data, code = said.stdout.splitlines()
    assert head == "error: there are 2 faults:" and code == "code 2"
    assert (
        "model = 'some/model' could not be fetched from the hub" in model and "check the name and the network" in model
    )
    assert folder in data
    assert time.monotonic() - began < 60, "the hub is asked once, not for every run"


def test_a_study_of_three_hundred_runs_is_listed_and_read_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = {"strategy": ["full", "lora"], "train_size": [250, 500, 1000], "seed": list(range(50))}
    runs = make_runs(count=200, without="s49", name="many", matrix=matrix)
    assert len(runs.table) == 294
    began = time.monotonic()
    assert len(load_runs("many").table) == 294
    assert time.monotonic() - began < 10
    checkout = Checkout(tmp_path / "checkout")
    checkout.fill()
    checkout.environment["PEFT_STUDY_HOME"] = os.environ["PEFT_STUDY_HOME"]
    began = time.monotonic()
    said = checkout.run("many", "-n").stdout
    assert time.monotonic() - began < 15
    assert said.count("train ") == 6 and json.dumps(said).count("s49") == 6
