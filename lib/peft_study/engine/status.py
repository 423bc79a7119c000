"""What became of a study: which runs are done, which failed and where to look, where the reports are, what to do next.

It is read from the folders alone: a run is done when its folder is complete and was asked for the study's values; what
failed says so in the last line of its log; what was stopped or killed has a log and no such line.
"""

from pathlib import Path

from peft_study import paths
from peft_study.engine.steps import FAILURE
from peft_study.records.layout import is_done, is_foreign, is_interrupted, misnamed_folders, outdated, recorded_params
from peft_study.study.study import Study, read_study
from peft_study.study.variant import Variant


def unfinished(study: Study) -> list[str]:
    """The runs that are not done, or not with the values that the study asks for now."""
    folder = paths.study_folder(study.name)
    return [run for run, variant in study.variants.items() if not is_done(folder / run, variant)]


def status(name: str) -> str:
    """The closing list of a study, for the terminal."""
    study = read_study(name)
    folder, total, left = paths.study_folder(name), len(study.variants), unfinished(study)
    misnamed = {run: stray for stray, run in misnamed_folders(study).items()}
    lines = [f"Study {name}: {total - len(left)} of {total} runs are done."]
    for run in left:
        state = _state(folder / run, study.variants[run])
        if run in misnamed and not (folder / run).exists():
            state += f": {misnamed[run]} is no run of this study; did you mean {run}?"
        lines += [f"  {run}: {state}", *_where(folder / run / "train")]
    for step in ("explore", "compare", "report", "pages"):
        if (fault := _last_line(folder / step)).startswith(FAILURE):
            lines += [f"  {step}: failed: {fault.removeprefix(FAILURE)}", *_where(folder / step)]
    faults = len(lines) > 1
    metrics = [file for run in study.variants if (file := folder / run / "metrics.json").exists()]
    newest = max((file.stat().st_mtime for file in metrics), default=0)
    for report in sorted(paths.report_folder(name).glob("report.*")):
        note = " (older than some runs)" if report.stat().st_mtime < newest else " (without what is not done)"
        lines.append(f"  {_relative(report)}{note if left or report.stat().st_mtime < newest else ''}")
    if faults:
        lines.append(f"./run_all.sh {name} does what is left and keeps what is done.")
    if faults and 0 < len(left) < total:
        lines.append(f"./run_all.sh {name} --config allow_missing=1 reports on the runs that are done.")
    return "\n".join(lines)


def _state(folder: Path, variant: Variant) -> str:
    """Why the run in `folder` does not count as done."""
    fields = ", ".join(outdated(folder, variant))
    if is_interrupted(folder):
        return "stopped: its training was interrupted"
    if is_foreign(folder):
        cause = f"{fields} differ from those of the study" if fields else "metrics.json is damaged"
        return f"outdated: {cause}; another program left it: correct its params.yaml, or move its folder away"
    if (folder / "train.ipynb").exists():
        if recorded_params(folder) is None:
            return "outdated: params.yaml is missing or damaged"
        return f"outdated: {fields} changed since" if fields else "outdated: metrics.json is missing or damaged"
    last = _last_line(folder / "train")
    if last.startswith(FAILURE):
        return f"failed: {last.removeprefix(FAILURE)}"
    return "stopped" if (folder / "train.log").exists() else "not started"


def _last_line(step: Path) -> str:
    """The last line of the log of a step (the path of its notebook without the suffix); empty where there is none."""
    try:
        text = step.with_name(f"{step.name}.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rstrip().rpartition("\n")[2]


def _where(step: Path) -> list[str]:
    """Where to look for the cause of a failure of `step`."""
    if not _last_line(step).startswith(FAILURE):
        return []
    partial, log = step.with_name(f"{step.name}.partial.ipynb"), step.with_name(f"{step.name}.log")
    return [
        f"    open {_relative(partial)}; {log.name} is beside it" if partial.exists() else f"    read {_relative(log)}"
    ]


def _relative(path: Path) -> str:
    """A path as the reader of the terminal would type it."""
    return str(path.relative_to(paths.CHECKOUT) if path.is_relative_to(paths.CHECKOUT) else path)
