"""What became of a study: which runs are done, which failed and where to look, where the reports are, what to do next.

It is read from the folders alone: a run is done when its folder is complete and was asked for the study's values; what
failed says so in the last line of its log; what was stopped or killed has a log and no such line.
"""

from pathlib import Path

from peft_study import paths
from peft_study.engine import steps as batch
from peft_study.records.layout import is_done, is_foreign, is_interrupted, misnamed_folders, outdated, recorded_params
from peft_study.study.study import Study, read_study
from peft_study.study.variant import Variant

NOT_STARTED, STOPPED, FAILED, OUTDATED, DONE = "not started", "stopped", "failed", "outdated", "done"
_THEIRS = "another program left it: correct its params.yaml, or move its folder away"


def left(study: Study) -> list[str]:
    """The runs that are not done, or not with the values that the study asks for now."""
    folder = paths.study_folder(study.name)
    return [run for run, variant in study.variants.items() if not is_done(folder / run, variant)]


def status(name: str) -> str:
    """The closing list of a study, for the terminal."""
    study = read_study(name)
    folder, total = paths.study_folder(name), len(study.variants)
    count = total - len(left(study))
    spelt = {run: name for name, run in misnamed_folders(study).items()}
    lines = []
    for run, variant in study.variants.items():
        lines += _lines(
            run,
            folder / run / "train",
            *_of_run(folder / run, variant, "" if (folder / run).exists() else spelt.get(run, "")),
        )
    for step in ("explore", "compare", "report", "pages"):
        if (outcome := _of_step(folder / step, _is_made(study, step)))[0] == FAILED:
            lines += _lines(step, folder / step, *outcome)
    advice = _advice(name, count, total) if lines else []
    return "\n".join(
        [f"Study {name}: {count} of {total} runs are done.", *lines, *_reports(study, count == total), *advice]
    )


def _of_run(folder: Path, variant: Variant, misnamed: str = "") -> tuple[str, str]:
    """What became of a run, and why; `misnamed` is a folder that may hold it under another name."""
    done = is_done(folder, variant)
    if misnamed:
        return NOT_STARTED, f"{misnamed} is no run of this study; did you mean {folder.name}?"
    if is_interrupted(folder):
        return STOPPED, "its training was interrupted"
    if not done and is_foreign(folder):
        fields = ", ".join(outdated(folder, variant))
        return OUTDATED, f"{fields} differ from those of the study; {_THEIRS}" if fields else "metrics.json is damaged"
    if done or not (folder / "train.ipynb").exists():
        return _of_step(folder / "train", done)
    if recorded_params(folder) is None:
        return OUTDATED, "params.yaml is missing or damaged"
    other = outdated(folder, variant)
    return OUTDATED, f"{', '.join(other)} changed since" if other else "metrics.json is missing or damaged"


def _of_step(step: Path, done: bool) -> tuple[str, str]:
    """What became of a step (the path of its notebook without the suffix), and why."""
    if done:
        return DONE, ""
    try:
        ends = _log(step).read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-1:]
    except OSError:
        return NOT_STARTED, ""
    if ends and ends[0].startswith(batch.FAILURE):
        return FAILED, ends[0].removeprefix(batch.FAILURE)
    return STOPPED, ""


def _is_made(study: Study, step: str) -> bool:
    """Whether the notebook or the report of a step is there."""
    if step == "pages":
        return False  # those that are made say nothing of the others, its log does
    made = _made_reports(study) if step == "report" else [paths.study_folder(study.name) / f"{step}.ipynb"]
    return bool(made) and all(path.exists() for path in made)


def _lines(what: str, step: Path, state: str, why: str) -> list[str]:
    """What became of a step, and for a failed one where to look."""
    if state == DONE:
        return []
    lines = [f"  {what}: {state}" + (f": {why}" if why else "")]
    if state == FAILED:
        partial, log = step.with_name(f"{step.name}.partial.ipynb"), _log(step)
        where = f"open {_shown(partial)}; {log.name} is beside it" if partial.exists() else f"read {_shown(log)}"
        lines.append(f"    {where}")
    return lines


def _log(step: Path) -> Path:
    return step.with_name(f"{step.name}.log")


def _made_reports(study: Study) -> list[Path]:
    folder = paths.report_folder(study.name)
    return [folder / name for name in ("report.html", "report.pdf") if (folder / name).exists()]


def _reports(study: Study, complete: bool) -> list[str]:
    """Where the reports are, and whether they are older than a run, or of a study that is not `complete`."""
    metrics = [path for run in study.variants if (path := paths.run_folder(study.name, run) / "metrics.json").exists()]
    newest = max((path.stat().st_mtime for path in metrics), default=0)
    lacking = "" if complete else " (without what is not done)"
    return [
        f"  {_shown(path)}" + (" (older than some runs)" if path.stat().st_mtime < newest else lacking)
        for path in _made_reports(study)
    ]


def _advice(name: str, count: int, total: int) -> list[str]:
    """What to do when not all is done."""
    advice = [f"./run_all.sh {name} does what is left and keeps what is done."]
    if 0 < count < total:
        advice.append(f"./run_all.sh {name} --config allow_missing=1 reports on the runs that are done.")
    return advice


def _shown(path: Path) -> str:
    """A path as the reader of the terminal would type it."""
    return str(path.relative_to(paths.CHECKOUT)) if path.is_relative_to(paths.CHECKOUT) else str(path)
