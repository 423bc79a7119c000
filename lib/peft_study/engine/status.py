"""The state of a study: finished and failed runs, logs, reports, and the next command.

It is read from the folders: a run is done when its record is complete and has the study's values; a failure is the last
line of a log; a stopped or killed step has a log without that line.
"""

import re
from pathlib import Path

from peft_study import paths
from peft_study.engine.steps import FAILURE, LEFT_OUT
from peft_study.records.layout import is_done, is_imported, is_interrupted, outdated, recorded_params, strays
from peft_study.study.study import Study, read_study
from peft_study.study.variant import Variant

_CLOSING = re.compile(r", choose |^(How sure: |Not distinguishable )")


def unfinished(study: Study) -> list[str]:
    """The runs that are not done with the study's current values."""
    folder = paths.study_folder(study.name)
    return [run for run, variant in study.variants.items() if not is_done(folder / run, variant)]


def status(name: str) -> str:
    """The closing list of a study, for the terminal."""
    study = read_study(name)
    folder, total, left = paths.study_folder(name), len(study.variants), unfinished(study)
    lines = [f"Study {name}: {total - len(left)} of {total} runs are done."]
    for run in left:
        lines.append(f"  {run}: {_state(folder / run, study.variants[run])}")
    lines += [f"  {stray} is no run of this study" for stray in strays(study)]
    omissions: dict[str, str] = {}  # the first step to report each
    for step in ("explore", *study.variants, "compare"):
        log = _log(folder / (f"{step}/train" if step in study.variants else step))
        omissions |= {line: step for line in log if line.startswith(LEFT_OUT) and line not in omissions}
    lines += [f"  {step}: {line}" for line, step in omissions.items()]
    faults = {step: fault for step in ("explore", "compare", "report", "pages") if (fault := failure(folder / step))}
    lines += [f"  {step}: {fault}" for step, fault in faults.items()]
    metrics = [file for run in study.variants if (file := folder / run / "metrics.json").exists()]
    newest = max((file.stat().st_mtime for file in metrics), default=0)
    if not (left or faults):
        lines += _answer(name)
    for report in sorted(paths.report_folder(name).glob("report.*")):
        older = " (older than some runs)" if report.stat().st_mtime < newest else ""
        lines.append(f"  {_relative(report)}{older or (' (without the unfinished runs)' if left else '')}")
    if left or faults:
        lines.append(f"./run_all.sh {name} runs the remaining steps and keeps finished runs.")
    if 0 < len(left) < total:
        lines.append(f"./run_all.sh {name} --config allow_missing=1 reports on the finished runs.")
    return "\n".join(lines)


def _answer(study: str) -> list[str]:
    """Of the study's written answer the first sentence and those on what to choose, how sure that is, and chance."""
    file = paths.report_folder(study) / "answer.md"
    answer = file.read_text(encoding="utf-8") if file.exists() else ""
    first, *others = (part.partition(". ")[0].strip(" .\n").replace("*", "") for part in answer.split("\n\n"))
    return [f"  {line}." for line in (first, *filter(_CLOSING.search, others)) if line]


def _state(folder: Path, variant: Variant) -> str:
    """Why the run in `folder` is not done."""
    if is_interrupted(folder):
        return "stopped: its training was interrupted"
    if (folder / "train.ipynb").exists() or is_imported(folder):
        fields = ", ".join(outdated(folder, variant)) if recorded_params(folder) else ""
        cause = f"{fields} changed since" if fields else "params.yaml or metrics.json is missing or damaged"
        mend = "; it was made elsewhere: correct its params.yaml, or move its folder away" * is_imported(folder)
        return f"outdated: {cause}{mend}"
    return failure(folder / "train") or ("stopped" if (folder / "train.log").exists() else "not started")


def _log(step: Path) -> list[str]:
    """The lines of a step's log, beside its notebook; none without one."""
    log = step.with_name(f"{step.name}.log")
    return log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines() if log.exists() else []


def failure(step: Path) -> str:
    """Why a step (its notebook's path without the suffix) failed, and its log; empty if it did not fail."""
    log, partial = (step.with_name(f"{step.name}.{kind}") for kind in ("log", "partial.ipynb"))
    last = (_log(step) or [""])[-1]
    if not last.startswith(FAILURE):
        return ""
    where = f"open {_relative(partial)}; {log.name} is beside it" if partial.exists() else f"read {_relative(log)}"
    return f"failed: {last.removeprefix(FAILURE)}\n    {where}"


def _relative(path: Path) -> str:
    """A path relative to the working directory."""
    return str(path.relative_to(paths.CHECKOUT) if path.is_relative_to(paths.CHECKOUT) else path)
