"""From the name of a study to Snakemake at work: `check` refuses what cannot work, `run` hands over to Snakemake.

Which values a run was made with stands in its `params.yaml`, so that a finished run counts as finished wherever its
folder is copied to. Snakemake's own notes, in `runs/<study>/.snakemake`, add whether the code of its notebook changed,
or the texts, where they are a file or a folder.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from peft_study import paths
from peft_study.engine.locks import lock
from peft_study.engine.options import Options, read
from peft_study.engine.orphans import wait_for_orphans
from peft_study.engine.status import left, status
from peft_study.errors import StudyError, writing
from peft_study.records.layout import outdated
from peft_study.study.study import Study, read_study

_SPACE = 500 * 2**20  # bytes: what the runs and the report of a small study take


def check(name: str, dry_run: bool = False, compare_only: bool = False) -> Study:
    """The study `name` if it can be run: its file, a place to write, then (where runs are left) its model and data."""
    study = read_study(name)
    folder = paths.study_folder(name)
    for place in (folder, paths.report_folder(name)):
        _be_writable(place)
    if dry_run or not left(study):
        return study
    if (free := shutil.disk_usage(folder).free) < _SPACE:
        raise StudyError(
            f"no space left in {folder}: {free >> 20} MiB free, {_SPACE >> 20} needed; free some, or set "
            "PEFT_STUDY_HOME to a folder on a larger disk with this study's runs/"
        )
    if not compare_only:
        from peft_study.engine.check import check as check_data

        check_data([study.variants[run] for run in left(study)])
    return study


def _be_writable(folder: Path) -> None:
    """Make `folder` if need be, and try to write in it."""
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise StudyError(f"{folder} cannot be written: {error}") from error


def run(name: str, given: Sequence[str]) -> None:
    """Become Snakemake at work on the study `name`, with the options `given` added; only a short dry run returns."""
    options = read(given)
    study = check(name, options.dry_run, options.compare_only)
    if not options.elsewhere and not options.compare_only:
        _foretell(study, options)
    if options.dry_run and not options.talkative:
        print(steps_left(study, options))
        return
    if not options.dry_run:
        held = lock(paths.study_folder(name) / ".lock")
        if held is None:
            raise StudyError(f"another ./run_all.sh is at work on the study {name!r}; wait for it, or stop it first")
        os.set_inheritable(held, True)  # ours until Snakemake ends, however it ends
        wait_for_orphans(study)
        if not left(study):
            print(status(name), file=sys.stderr)  # Snakemake says no more than that nothing is to be done
    sys.stdout.flush()
    os.environ["PEFT_STUDY_NAME"] = name
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *arguments(study, options)])


def steps_left(study: Study, options: Options) -> str:
    """What Snakemake would do, a step on a line. Raises `StudyError` with what it says where it refuses."""
    command = [sys.executable, "-m", "snakemake", *arguments(study, options)]
    environment = os.environ | {"PEFT_STUDY_NAME": study.name}
    said = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if said.returncode:
        raise StudyError(f"Snakemake refuses: {said.stdout.strip()}")
    reasons = dict(re.findall(r"^Job \d+: (.+)\nReason: (.+)$", said.stdout, re.MULTILINE))
    if not reasons:
        missing, total = len(left(study)), len(study.variants)
        rest = f"{missing} of the {total} runs of study {study.name} are not done" if missing else ""
        return f"Nothing to be done: {rest or f'study {study.name} is complete'}."
    order = ["explore the reviews", *(f"train {run}" for run in study.variants)]  # then comparing and reporting
    steps = sorted(reasons, key=lambda step: order.index(step) if step in order else len(order))
    redone = [step for step, reason in reasons.items() if "Params have changed" in reason and step.startswith("train ")]
    again = dict.fromkeys(redone, "its texts or the code of its notebook")
    for run in left(study):
        if (folder := paths.run_folder(study.name, run)).joinpath("params.yaml").exists():
            again[f"train {run}"] = ", ".join(outdated(folder, study.variants[run]))
    steps = [f"{step} again: {again[step]} changed" if again.get(step) else step for step in steps]
    count = "1 step is" if len(steps) == 1 else f"{len(steps)} steps are"
    return "\n  ".join([f"Study {study.name}: {count} left (-n -p shows all of each).", *steps])


def _foretell(study: Study, options: Options) -> None:
    """Say what a long study will take here, before it starts, and refuse what the disk has no room for."""
    if not (runs := left(study)):
        return
    from peft_study.engine.forecast import forecast, machine, require_space, told

    if expected := forecast(study, runs, machine(options.cores, _gpus(), len(runs))):
        print(told(expected), end="\n\n", file=sys.stderr, flush=True)
        if not options.dry_run:
            require_space(expected)


def arguments(study: Study, options: Options) -> list[str]:
    """Snakemake's arguments: ours first, so that those of the user win.

    Runs that have to be made anew come last, beside those that the user names: Snakemake reads that option only once.
    """
    arguments = ["--snakefile", str(paths.LIB / "Snakefile"), "--directory", str(paths.study_folder(study.name))]
    if not options.profile:
        arguments += ["--profile", str(paths.LIB / "profiles" / "default")]
        if not options.elsewhere and (gpus := _gpus()):
            os.environ["PEFT_STUDY_GPUS"] = ",".join(gpus)
            arguments += ["--resources", f"gpu={len(gpus)}"]
    if sys.stderr.isatty() and not options.logger and not options.dry_run:
        arguments += ["--logger", "rich"]
    # One profile, not two that are merged. And no lock of Snakemake's: ours ends with the process, that one does not.
    arguments += ["--workflow-profile", "none", "--nolock", *options.given]
    made = [f"{run}/train.ipynb" for run in left(study) if (paths.run_folder(study.name, run) / "train.ipynb").exists()]
    remade = [file for file in made if file in (options.targets or made)]  # what is forced is a target, too
    if remade and not options.compare_only:
        arguments += ["--forcerun", *options.forced, *remade]
    return arguments


def _gpus() -> list[str]:
    """The GPUs of this machine that may be used."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in visible.split(",") if gpu and gpu != "-1"]
    try:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []
