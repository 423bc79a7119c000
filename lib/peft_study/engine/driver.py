"""Run a study with Snakemake: `check` refuses an impossible study, `run` starts Snakemake.

`params.yaml` of a run holds the values it was trained with, so a finished run stays finished when its folder is copied.
Snakemake's metadata in `runs/<study>/.snakemake` adds whether the notebook's code or local texts changed.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from typing import NoReturn

from peft_study import paths
from peft_study.engine.forecast import forecast, too_few_steps
from peft_study.engine.locks import holder, lock, lock_of
from peft_study.engine.progress import Events, Progress
from peft_study.engine.status import status, unfinished
from peft_study.errors import StudyError, writing
from peft_study.files import read_yaml
from peft_study.records.layout import outdated
from peft_study.study.study import Study, read_study

_PROFILE = paths.LIB / "profiles" / "default"
_CONFIG = re.compile(r"allow_missing=[01]|runs_per_gpu=[1-9]\d?")
_SPACE = 500 * 2**20  # bytes: what the runs and the report of a small study take
_HELD = "{} at work: {}; wait until that has ended, or end it, then run the same command again"


def check(name: str, dry_run: bool = False, compare_only: bool = False) -> Study:
    """The study `name`, checked: its file, write access and, if runs are left, its model and data."""
    study = read_study(name)
    for folder in (paths.report_folder(name), paths.study_folder(name)):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    if dry_run or not (runs := unfinished(study)):
        return study
    if (free := shutil.disk_usage(folder).free) < _SPACE:
        fault = f"no space left in {folder}: {free >> 20} MiB free, {_SPACE >> 20} needed"
        raise StudyError(f"{fault}; free some, or move runs/ to a larger disk and set PEFT_STUDY_HOME to its folder")
    if not compare_only:
        from peft_study.engine.check import check as check_data

        check_data([study.variants[run] for run in runs], study.metric)
    return study


def run(name: str, words: Sequence[str]) -> None:
    """Run the rest of the study `name` with Snakemake and its options `words`; exits, or returns."""
    options = parse(words)
    study = check(name, options.dryrun, options.compare_only)
    if not options.dryrun:
        _begin_alone(study)
    left, elsewhere = unfinished(study), options.compare_only or options.profile or options.executor
    if not options.compare_only and (line := too_few_steps(study, left)):
        print(line, file=sys.stderr, flush=True)
    if not elsewhere and (line := forecast(study, left, options.cores or options.jobs, gpus() * options.runs_per_gpu)):
        print(line, file=sys.stderr, flush=True)
    words = arguments(study, words, options)
    if options.printshellcmds or options.quiet or options.verbose or options.debug_dag or options.logger:
        code = snakemake(study, words)  # its own output is asked for
    elif options.dryrun:
        print(steps_left(study, words))
        return
    else:
        progress = Progress(study)
        with progress.bars if sys.stdout.isatty() else nullcontext():
            code = snakemake(study, words, progress)
        if progress.faults:
            print("error: Snakemake:", *dict.fromkeys(progress.faults), file=sys.stderr)
        if not progress.ran:
            sys.exit(code)
    if not options.dryrun:
        print(status(name))
    sys.exit(code)


def parse(words: Sequence[str]) -> Namespace:
    """Snakemake's options in `words`, parsed by its own parser, `compare_only` and `runs_per_gpu`.

    Raises `StudyError` for options that this parser refuses, and for options without effect.
    """
    from snakemake.cli import get_argument_parser
    from snakemake.exceptions import CliException

    def refuse(fault: str) -> NoReturn:
        raise StudyError(f"options {' '.join(words)!r}: {fault.rstrip('.')}; ./run_all.sh --help lists the usual ones")

    parser = get_argument_parser()
    parser.error = refuse
    try:
        options = parser.parse_args(list(words))
    except CliException as error:
        refuse(str(error))
    asked = [f"{name}={value}" for name, value in read_yaml(_PROFILE / "config.yaml").get("config", {}).items()]
    for word in (asked := [*asked, *(options.config or ())]):
        if not _CONFIG.fullmatch(word):
            refuse(f"--config {word} has no effect here; allowed: allow_missing=1, runs_per_gpu=2 (or more)")
    config = dict(word.split("=") for word in asked)
    options.compare_only = config.get("allow_missing") == "1"
    options.runs_per_gpu = int(config.get("runs_per_gpu", 1))
    return options


def snakemake(study: Study, arguments: list[str], events: Events | None = None) -> int:
    """Run Snakemake in this process, with its events to a handler rather than printed; returns its exit code.

    The code is 130 after Ctrl-C. Snakemake also writes to `.snakemake/log` in the study's folder. Raises `StudyError`
    if it refuses before any step, and says so to a handler.
    """
    from snakemake.cli import main
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
    from snakemake_interface_logger_plugins.registry.plugin import Plugin

    os.environ["PEFT_STUDY_NAME"], printed = study.name, io.StringIO()
    if events:
        LoggerPluginRegistry().plugins["peft-study"] = Plugin(lambda *_: events, None, "peft-study")
        arguments = ["--logger", "peft-study", *arguments]
    try:
        with redirect_stderr(printed if events else sys.stderr):
            main(arguments)
    except KeyboardInterrupt:  # a second one, or before its scheduler starts
        return 130
    except SystemExit as end:
        code = int(end.code or 0)
    if code and events and not (events.steps or events.stopped):
        fault = " ".join(events.faults) or printed.getvalue().rpartition("error: ")[2]  # argparse: below its usage
        raise StudyError(f"Snakemake refuses: {' '.join(fault.split())}")
    return 130 if events and events.stopped else code


def arguments(study: Study, words: Sequence[str], options: Namespace) -> list[str]:
    """Snakemake's arguments: ours first, so that the user's override them.

    Outdated runs come last, with the targets that the user forces: Snakemake reads that option only once.
    """
    folder = paths.study_folder(study.name)
    arguments = ["--snakefile", str(paths.LIB / "Snakefile"), "--directory", str(folder)]
    if not options.profile:
        profile = os.path.relpath(_PROFILE)  # brackets in an absolute path would be a pattern
        arguments += ["--profile", profile]
        if not options.executor and (names := gpus() * options.runs_per_gpu):
            os.environ["PEFT_STUDY_GPUS"] = ",".join(names)
            arguments += ["--resources", f"gpu={len(names)}"]
    # One profile, not two that are merged. And no lock of Snakemake's: ours ends with the process, that one does not.
    arguments += ["--workflow-profile", "none", "--nolock", *words]
    outputs = [f"{run}/train.ipynb" for run in unfinished(study) if (folder / run / "train.ipynb").exists()]
    outputs = [file for file in outputs if file in (options.targets or outputs)]  # what is forced is a target, too
    if outputs and not options.compare_only:
        arguments += ["--forcerun", *sorted(options.forcerun), *outputs]
    return arguments


def steps_left(study: Study, arguments: list[str]) -> str:
    """The steps that Snakemake would execute, one per line. Raises `StudyError` if Snakemake refuses."""
    snakemake(study, arguments, events := Events())
    if not (reasons := events.steps):
        total = len(study.variants)
        return f"Nothing to be done: {total - len(unfinished(study))} of {total} runs of study {study.name} are done."
    order = ["explore the texts", *(f"train {run}" for run in study.variants)]  # then comparison and report
    lines = [f"Study {study.name}: {len(reasons)} step(s) left (-n -p also prints their commands)."]
    for step in sorted(reasons, key=lambda step: order.index(step) if step in order else len(order)):
        folder = paths.run_folder(study.name, run := step.removeprefix("train "))
        changed = outdated(folder, study.variants[run]) if (folder / "params.yaml").exists() else []
        if "Params have changed" in reasons[step]:
            changed = changed or ["its texts or code"]
        lines.append(f"  {step} again: {', '.join(changed)} changed" if changed else f"  {step}")
    return "\n".join(lines)


def _begin_alone(study: Study) -> None:
    """Lock the study until this process ends. Raises `StudyError` where another process uses the study or its runs.

    Processes that outlive a killed driver continue, and Snakemake would delete their outputs.
    """
    folder = paths.study_folder(study.name)
    if lock(file := folder / ".lock") is None:
        raise StudyError(_HELD.format(f"another ./run_all.sh on the study {study.name!r} is", file.read_text()))
    outputs = {name: folder / f"{name}.ipynb" for name in ("explore", "compare")}
    outputs |= {run: folder / run / "train.ipynb" for run in study.variants}
    left = [f"{name} by {process}" for name, output in outputs.items() if (process := holder(lock_of(output)))]
    left += [f"Slurm job {job} (scancel {job} ends it)" for job in _slurm_jobs(study.name)]
    if left:
        raise StudyError(_HELD.format("a command that was killed, or another terminal, left steps", ", ".join(left)))


def _slurm_jobs(study: str) -> list[str]:
    """The pending and running Slurm jobs of a study; none without Slurm."""
    folder = paths.study_folder(study)
    if not (folder / ".snakemake" / "slurm_logs").exists():
        return []
    jobs = (line.split("|", 1) for line in _output("squeue", "--me", "--noheader", "--format=%i|%Z"))
    return [job for job, place in jobs if os.path.realpath(place) == os.path.realpath(folder)]


def gpus() -> list[str]:
    """The usable GPUs of this machine."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in visible.split(",") if gpu and gpu != "-1"]
    return _output("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")


def _output(*command: str) -> list[str]:
    """The output lines of a command; none if it is absent or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
