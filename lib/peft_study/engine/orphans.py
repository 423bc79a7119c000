"""What a driver that was killed left at work: steps on this machine or others, and jobs of a Slurm cluster.

They go on, and their work counts. A new driver waits for them: Snakemake would otherwise delete what they are about to
finish, and make it a second time beside them, on the cores and GPUs that they use.
"""

import os
import subprocess
import sys
import time

from peft_study import paths
from peft_study.engine import steps as batch
from peft_study.engine.locks import is_held
from peft_study.study.study import Study


def wait_for_orphans(study: Study) -> None:
    """Return when nothing is at work in the folder of `study`, having said what is waited for."""
    told: list[str] = []
    while left := at_work(study):
        if left != told:
            print(f"waiting for what an earlier ./run_all.sh left at work: {', '.join(left)}", file=sys.stderr)
            told = left
        time.sleep(0.5)


def at_work(study: Study) -> list[str]:
    """The steps of `study` that are at work, by name, and its jobs on a cluster, each with how to end it."""
    return _steps(study) + _jobs(study)


def _steps(study: Study) -> list[str]:
    """The steps of `study` that a process is at work on: the lock of each is held."""
    folder = paths.study_folder(study.name)
    outputs = {name: folder / f"{name}.ipynb" for name in ("explore", "compare")}
    outputs |= {run: folder / run / "train.ipynb" for run in study.variants}
    return [name for name, output in outputs.items() if is_held(batch.lock_of(output))]


def _jobs(study: Study) -> list[str]:
    """The jobs of `study` that wait or run on a Slurm cluster; none where there is no Slurm."""
    folder = paths.study_folder(study.name)
    if not (folder / ".snakemake" / "slurm_logs").exists():
        return []
    try:
        query = ["squeue", "--me", "--noheader", "--format=%i|%Z"]
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    jobs = (line.split("|", 1) for line in found.splitlines())
    return [
        f"job {job} (scancel {job} ends it)"
        for job, place in jobs
        if os.path.realpath(place) == os.path.realpath(folder)
    ]
