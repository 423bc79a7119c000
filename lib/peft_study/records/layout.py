"""A run's folder as every writer and reader of it sees it: files in one step, what was asked for, whether it is done.

Imports nothing heavy: the engine asks these questions of every run before anything starts.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from peft_study import paths
from peft_study.data.labels import LABELS
from peft_study.files import remove, replacing
from peft_study.plain_yaml import read_yaml
from peft_study.study.study import Study
from peft_study.study.variant import Variant

RECORD = ("params.yaml", "*.npz", "*.json", "*.png", "model", "train.ipynb", "train.partial.ipynb")  # of a run
TRACES = ("train.ipynb", "train.partial.ipynb", "train.log", ".lock")  # of a training of ours, finished or not


def remove_record(folder: Path) -> None:
    """Remove what a run left in `folder`, but its checkpoints and its log: what says that it is done comes first."""
    for pattern in ("metrics.json", *RECORD):
        for path in folder.glob(pattern):
            remove(path)


def write_params(folder: Path, variant: Variant) -> None:
    """`params.yaml`: every choice of the run, as it was asked for."""
    with replacing(folder / "params.yaml") as partial:
        partial.write_text(yaml.safe_dump(variant.model_dump(), sort_keys=False), encoding="utf-8")


def recorded_params(folder: Path) -> dict[str, Any] | None:
    """The values that the run in `folder` was asked for; None where they cannot be read."""
    try:
        found = (file := folder / "params.yaml").stat()
        values = _read(file, found.st_ino, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError):
        return None
    return dict(values) if isinstance(values, dict) else None


@cache
def _read(file: Path, *_: int) -> Any:
    """What a file of this inode, time and size holds: YAML is slow, and every run is asked for several times."""
    return read_yaml(file)


def changed(values: dict[str, Any], variant: Variant) -> list[str]:
    """The fields in which the values of a `params.yaml` contradict `variant`; one that it leaves out does not."""
    wanted = variant.model_dump()
    return [name for name, value in values.items() if name not in wanted or value != wanted[name]]


def outdated(folder: Path, variant: Variant) -> list[str]:
    """The fields in which the run in `folder` was asked for other values than those of `variant`.

    A run of this program names every field that there was when it ran; one added since had its default. Of a run that
    is not ours, a field that it does not name is unknown.
    """
    values = recorded_params(folder) or {}
    return changed(values if is_foreign(folder) else Variant().model_dump() | values, variant)


def is_foreign(folder: Path) -> bool:
    """Whether another program left the run in `folder`: it has a result, and no trace of a training of ours.

    What a notebook in JupyterLab left counts as such, unless its training was interrupted: then it is to be made anew.
    """
    left = (folder / "metrics.json").is_file() and not any((folder / name).exists() for name in TRACES)
    return left and not is_interrupted(folder)


def is_interrupted(folder: Path) -> bool:
    """Whether the record in `folder` is of a training that somebody ended before its last step."""
    training = (_metrics(folder) or {}).get("training")
    return isinstance(training, dict) and training.get("interrupted") is True


def is_done(folder: Path, variant: Variant) -> bool:
    """Whether the run in `folder` is complete and was asked for the values of `variant`.

    Our training ends with `train.ipynb`; another program's run needs none, nor a `params.yaml`.
    """
    foreign = is_foreign(folder)
    if not foreign and (recorded_params(folder) is None or not (folder / "train.ipynb").is_file()):
        return False
    return _metrics(folder) is not None and not is_interrupted(folder) and not outdated(folder, variant)


def misnamed_folders(study: Study) -> dict[str, str]:
    """The folders with predictions that are no run of `study`, and the run whose name differs in spelling alone.

    `full-n300-s1` is a spelling of `full-n00300-s1`; one that is none of any run has an empty text.
    """
    spelt = {_spelling(run): run for run in study.variants}
    found = sorted(paths.study_folder(study.name).glob("*/preds_and_labels.npz"))
    names = [file.parent.name for file in found if file.parent.name not in study.variants]
    return {name: spelt.get(_spelling(name), "") for name in names}


def _spelling(name: str) -> tuple[str, ...]:
    """The words and numbers of a run's name, however they are padded, parted and capitalised."""
    return tuple(part.lstrip("0") for part in re.findall(r"[a-z]+|[0-9.]+", name.lower()))


def saved_models() -> dict[str, Path]:
    """The folder of every finished run of any study that kept its model, as `study/run`, by name."""
    found = sorted(paths.home().glob("runs/*/*/model"))
    folders = {f"{model.parent.parent.name}/{model.parent.name}": model.parent for model in found}
    return {
        name: folder
        for name, folder in folders.items()
        if recorded_params(folder) and _metrics(folder) is not None and not is_interrupted(folder)
    }


def label_names(folder: Path) -> tuple[str, ...]:
    """The names of the classes that the record in `folder` is about; those of sentiment where it does not tell."""
    data = (_metrics(folder) or {}).get("data")
    names = data.get("labels") if isinstance(data, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) and len(names) > 1 else LABELS


def _metrics(folder: Path) -> dict[str, Any] | None:
    """What `metrics.json` holds; None where it is absent or damaged."""
    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
