"""The same command on a cluster: a real Slurm of two nodes on this machine, one job per run, lost jobs made again."""

import json
from collections.abc import Iterator

import pytest
from made_checkouts import Checkout, wait_for
from made_cluster import Cluster, cluster, lacking

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")]

STUDY = {"title": "Tiny", "question": "?", "matrix": {"strategy": ["full", "lora"], "seed": [1, 2, 3]}}
PROFILE = ["tiny", "--until", "train", "--profile", "lib/profiles/slurm"]
TRAINING = """\
import json, os, time, uuid
from pathlib import Path
study, job, node = Path(folder).parent, os.environ["SLURM_JOB_ID"], os.environ["SLURMD_NODENAME"]
made = {"made": str(uuid.uuid4()), "job": job, "node": node, "gpu": os.environ["CUDA_VISIBLE_DEVICES"]}
with open(study / "started", "a") as file:
    file.write(json.dumps({"run": Path(folder).name, **made}) + "\\n")
while not (study / "go").exists():
    time.sleep(0.1)
Path(folder, "metrics.json").write_text(json.dumps(made))
"""


@pytest.fixture
def odd_name() -> str:
    """Not that odd: Snakemake's executor for Slurm takes no quotes in a path."""
    return "a checkout"


@pytest.fixture
def on_slurm(checkout: Checkout) -> Iterator[tuple[Checkout, Cluster]]:
    """A copy whose profile has the three lines of this cluster, and whose patience is that of a test."""
    profile = checkout.folder / "lib" / "profiles" / "slurm" / "config.yaml"
    text = profile.read_text()
    for line, cheap in {
        "partition: gpu": "partition: main",
        "mem_mb: 16000": "mem_mb: 500",
        "runtime: 240": "runtime: 9",
    }.items():
        assert text.count(line) == 1, "README names this line as one to edit"
        text = text.replace(line, cheap)
    text = text.replace("train: 4", "train: 1").replace("latency-wait: 60", "latency-wait: 5")
    profile.write_text(text + "slurm-init-seconds-before-status-checks: 2\n")
    checkout.write_training(TRAINING)
    checkout.write_study(STUDY)
    with cluster() as slurm:
        checkout.environment |= slurm.environment | {"PATH": f"{slurm.folder}/bin:{checkout.environment['PATH']}"}
        yield checkout, slurm


def started(checkout: Checkout) -> list[dict[str, str]]:
    """The trainings that have begun, in their order."""
    file = checkout.study / "started"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_lost_jobs_and_nodes_and_a_killed_driver_cost_nothing_but_their_time(
    on_slurm: tuple[Checkout, Cluster],
) -> None:
    checkout, slurm = on_slurm
    driver = checkout.start(*PROFILE)
    wait_for(lambda: len(started(checkout)) == 4, 120)
    first = started(checkout)
    assert len({(run["node"], run["gpu"]) for run in first}) == 4, "one run per GPU, on all GPUs of both nodes"
    assert {run["node"] for run in first} == {"node1", "node2"}

    cancelled = next(run for run in first if run["node"] == "node1")
    slurm.tell("scancel", cancelled["job"])
    slurm.kill_node("node2")
    wait_for(lambda: "down" in slurm.tell("sinfo", "--noheader", "--Node", "--format=%T"))
    (checkout.study / "go").touch()
    said, _ = driver.communicate(timeout=150)
    assert driver.returncode == 0, said
    assert "6 of 6 runs are done" in said

    runs = {run: json.loads(text) for run, text in checkout.made().items()}
    assert len(runs) == 6
    lost = {run["run"] for run in first if run["node"] == "node2"} | {cancelled["run"]}
    assert all(runs[run["run"]]["made"] == run["made"] for run in first if run["run"] not in lost)
    assert all(runs[run]["node"] == "node1" for run in lost)
    logs = checkout.study / ".snakemake" / "slurm_logs" / "rule_train"
    assert {file.parent.name for file in logs.glob("*/*.log")} == set(runs)

    (checkout.study / "go").unlink()
    checkout.write_study({**STUDY, "matrix": {"strategy": ["full", "lora"], "seed": [1, 2, 3, 4]}})
    before = len(started(checkout))
    driver = checkout.start(*PROFILE)
    wait_for(lambda: len(started(checkout)) == before + 2, 120)
    driver.kill()
    driver.wait()
    refused = checkout.run(*PROFILE)
    assert refused.returncode == 2 and "left steps at work: " in refused.stdout
    assert slurm.jobs() and all(f"Slurm job {job} (scancel {job} ends it)" in refused.stdout for job in slurm.jobs())
    (checkout.study / "go").touch()
    wait_for(lambda: not slurm.jobs(), 120)
    again = checkout.run(*PROFILE)
    assert again.returncode == 0 and "8 of 8 runs are done" in again.stdout, again.stdout
    assert len(started(checkout)) == before + 2, "none was trained twice"
