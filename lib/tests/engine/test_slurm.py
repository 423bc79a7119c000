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


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def odd_name() -> str:
    """Not that odd: Snakemake's executor for Slurm takes no quotes in a path."""
    return "a checkout"


@pytest.fixture
def on_slurm(checkout: Checkout, slurm: Cluster) -> Checkout:
    """A copy whose profile has the three lines of this cluster, and whose patience is that of a test."""
    profile = checkout.folder / "lib" / "profiles" / "slurm" / "config.yaml"
    lines = {
        "slurm_partition: gpu": "slurm_partition: main",
        "mem_mb: 16000": "mem_mb: 500",
        "runtime: 240": "runtime: 9",
    }
    text = profile.read_text()
    for line, other in lines.items():
        assert text.count(line) == 1, "README names this line as one to edit"
        text = text.replace(line, other)
    text = text.replace("train: 4", "train: 1").replace("latency-wait: 60", "latency-wait: 5")
    profile.write_text(text + "slurm-init-seconds-before-status-checks: 2\n")
    checkout.environment["SLURM_CONF"] = slurm.environment["SLURM_CONF"]
    checkout.environment["PATH"] = f"{slurm.folder}/bin:{checkout.environment['PATH']}"
    checkout.write_training(TRAINING)
    checkout.write_study(STUDY)
    return checkout


def started(checkout: Checkout) -> list[dict[str, str]]:
    """The trainings that have begun, in their order."""
    file = checkout.study / "started"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_cancelled_job_and_a_lost_node_cost_nothing_but_their_time(on_slurm: Checkout, slurm: Cluster) -> None:
    driver = on_slurm.start(*PROFILE)
    wait_for(lambda: len(started(on_slurm)) == 4, 120)
    first = started(on_slurm)
    assert len({(run["node"], run["gpu"]) for run in first}) == 4, "one run per GPU, on all GPUs of both nodes"
    assert {run["node"] for run in first} == {"node1", "node2"}

    cancelled = next(run for run in first if run["node"] == "node1")
    slurm.tell("scancel", cancelled["job"])
    slurm.kill_node("node2")
    wait_for(lambda: "down" in slurm.tell("sinfo", "--noheader", "--Node", "--format=%T"))
    (on_slurm.study / "go").touch()
    said, _ = driver.communicate(timeout=150)
    assert driver.returncode == 0, said
    assert "6 of 6 runs are done" in said

    runs = {run: json.loads(text) for run, text in on_slurm.made().items()}
    assert len(runs) == 6
    lost = {run["run"] for run in first if run["node"] == "node2"} | {cancelled["run"]}
    assert all(runs[run["run"]]["made"] == run["made"] for run in first if run["run"] not in lost)
    assert all(runs[run]["node"] == "node1" for run in lost)
    logs = on_slurm.study / ".snakemake" / "slurm_logs" / "rule_train"
    assert {file.parent.name for file in logs.glob("*/*.log")} == set(runs)
    slurm.tell("slurmd", "-N", "node2")


def test_jobs_that_outlive_a_killed_driver_are_named_and_their_work_counts(on_slurm: Checkout, slurm: Cluster) -> None:
    wait_for(lambda: "down" not in slurm.tell("sinfo", "--noheader", "--Node", "--format=%T"))
    on_slurm.write_study({**STUDY, "matrix": {"strategy": ["full", "lora"], "seed": [1]}})
    driver = on_slurm.start(*PROFILE)
    wait_for(lambda: len(started(on_slurm)) == 2, 120)
    driver.kill()
    driver.wait()
    said = on_slurm.run(*PROFILE)
    assert said.returncode == 2 and "left steps at work: " in said.stdout
    assert all(f"Slurm job {job} (scancel {job} ends it)" in said.stdout for job in slurm.jobs())
    (on_slurm.study / "go").touch()
    wait_for(lambda: not slurm.jobs(), 120)
    said = on_slurm.run(*PROFILE)
    assert said.returncode == 0 and "2 of 2 runs are done" in said.stdout, said.stdout
    assert sorted(run["run"] for run in started(on_slurm)) == sorted(on_slurm.made()), "none was trained twice"
