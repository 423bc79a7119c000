"""A record, the folder that a run leaves: its files, the parameters it was run with, whether it is complete.

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
from peft_study.files import read_yaml, remove, replacing
from peft_study.study.study import Study
from peft_study.study.variant import Variant

RECORD = ("params.yaml", "*.npz", "*.json", "*.png", "model", "train.ipynb", "train.partial.ipynb")
TRACES = ("train.ipynb", "train.partial.ipynb", "train.log", ".lock")  # of a training by this program, finished or not


def remove_record(folder: Path) -> None:
    """Remove the record in `folder`, but not its checkpoints and its log; `metrics.json`, which completes it, first."""
    for pattern in ("metrics.json", *RECORD):
        for path in folder.glob(pattern):
            remove(path)


def write_params(folder: Path, variant: Variant) -> None:
    """`params.yaml`: every field of the variant."""
    with replacing(folder / "params.yaml") as partial:
        partial.write_text(yaml.safe_dump(variant.model_dump(), sort_keys=False), encoding="utf-8")


def read_params(folder: Path) -> dict[str, Any]:
    """The values in `params.yaml`. Raises `OSError` or `ValueError` where they cannot be read."""
    state = (file := folder / "params.yaml").stat()
    return dict(_read_params(file, state.st_ino, state.st_mtime_ns, state.st_size))


@cache
def _read_params(file: Path, *_: int) -> dict[str, Any]:
    """The values in a file of this inode, time and size: parsing YAML is slow, and every run is read several times."""
    values = read_yaml(file)
    if not isinstance(values, dict):
        raise ValueError(f"it holds {type(values).__name__}, and must be a mapping of fields")
    return values


def recorded_params(folder: Path) -> dict[str, Any] | None:
    """The values in `params.yaml`; None where they cannot be read."""
    try:
        return read_params(folder)
    except (OSError, ValueError):
        return None


def read_metrics(folder: Path) -> dict[str, Any]:
    """The blocks of `metrics.json`. Raises `OSError`, `ValueError` or `RecursionError` where they cannot be read."""
    blocks = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if not isinstance(blocks, dict):
        raise ValueError(f"it holds {type(blocks).__name__}, and must be a mapping of blocks")
    return blocks


def _metrics(folder: Path) -> dict[str, Any] | None:
    """The blocks of `metrics.json`; None where they cannot be read."""
    try:
        return read_metrics(folder)
    except (OSError, ValueError, RecursionError):
        return None


def contradicted(params: dict[str, Any], variant: Variant) -> list[str]:
    """The fields of `params` whose values are not those of `variant`.

    Neither a field that it leaves out is among them, nor one that variants have no longer.
    """
    values = variant.model_dump()
    return [name for name, value in params.items() if name in values and value != values[name]]


def outdated(folder: Path, variant: Variant) -> list[str]:
    """The fields in which the values on record are not those of `variant`.

    A record of this program names every field that there was when it was written; one added since had its default. A
    field that a record of another program leaves out is unknown.
    """
    params = recorded_params(folder) or {}
    return contradicted(params if is_foreign(folder) else Variant().model_dump() | params, variant)


def is_foreign(folder: Path) -> bool:
    """Whether another program wrote the record in `folder`: it has a result, and no trace of a training by this one.

    A complete record written from JupyterLab counts as such, one of an interrupted training does not.
    """
    traced = any((folder / name).exists() for name in TRACES)
    return (folder / "metrics.json").is_file() and not traced and not is_interrupted(folder)


def is_interrupted(folder: Path) -> bool:
    """Whether the training on record was interrupted before its last step."""
    training = (_metrics(folder) or {}).get("training")
    return isinstance(training, dict) and training.get("interrupted") is True


def is_done(folder: Path, variant: Variant) -> bool:
    """Whether the record in `folder` is complete and has the values of `variant`.

    A training by this program ends with `train.ipynb`; a record of another needs none, nor a `params.yaml`.
    """
    if not is_foreign(folder) and (recorded_params(folder) is None or not (folder / "train.ipynb").is_file()):
        return False
    return _metrics(folder) is not None and not is_interrupted(folder) and not outdated(folder, variant)


def misnamed_folders(study: Study) -> dict[str, str]:
    """The folders with predictions that are no run of `study`, each with the run whose name it misspells, else "".

    `full-n300-s1` is a spelling of `full-n00300-s1`.
    """
    runs = {_spelling(run): run for run in study.variants}
    folders = sorted(file.parent.name for file in paths.study_folder(study.name).glob("*/preds_and_labels.npz"))
    return {name: runs.get(_spelling(name), "") for name in folders if name not in study.variants}


def _spelling(name: str) -> tuple[str, ...]:
    """The words and numbers of a run's name, without padding, separators and capitals."""
    return tuple(part.lstrip("0") for part in re.findall(r"[a-z]+|[0-9.]+", name.lower()))


def saved_models() -> dict[str, Path]:
    """The folders of the complete records of any study that kept a model, by `study/run`."""
    folders = [model.parent for model in sorted(paths.home().glob("runs/*/*/model"))]
    return {
        f"{folder.parent.name}/{folder.name}": folder
        for folder in folders
        if recorded_params(folder) and _metrics(folder) is not None and not is_interrupted(folder)
    }


def label_names(folder: Path) -> tuple[str, ...]:
    """The names of the classes on record in `folder`; those of sentiment where there are none."""
    data = (_metrics(folder) or {}).get("data")
    names = data.get("labels") if isinstance(data, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) and len(names) > 1 else LABELS
