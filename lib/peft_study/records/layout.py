"""A record, the folder that a run leaves: its files, the parameters it was run with, whether it is complete.

Imports nothing heavy: the engine asks these questions of every run before anything starts.
"""

import json
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from peft_study import paths
from peft_study.errors import StudyError
from peft_study.files import read_yaml, remove, replacing
from peft_study.study.study import Study
from peft_study.study.variant import Variant

RECORD = ("params.yaml", "*.npz", "*.json", "*.png", "model", "train.ipynb", "train.partial.ipynb")
TRACES = ("train.ipynb", "train.partial.ipynb", "train.log", ".lock")  # of a training by a study here, finished or not
PROGRAM = "peft_study"  # among the packages of a record of this program


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
    return _mapping(read_yaml(file))


def read_variant(folder: Path) -> Variant:
    """The variant in `params.yaml`, without fields that variants have no longer.

    Raises `OSError` or `ValueError` where it cannot be read.
    """
    return Variant(**{name: value for name, value in read_params(folder).items() if name in Variant.model_fields})


def recorded_params(folder: Path) -> dict[str, Any] | None:
    """The values in `params.yaml`; None where they cannot be read."""
    with suppress(OSError, ValueError):
        return read_params(folder)
    return None


def read_metrics(folder: Path) -> dict[str, Any]:
    """The blocks of `metrics.json`. Raises `OSError`, `ValueError` or `RecursionError` where they cannot be read."""
    return _mapping(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))


def _mapping(content: Any) -> dict[str, Any]:
    """The content of a file that must be a mapping."""
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, and must be a mapping")
    return content


def recorded_metrics(folder: Path) -> dict[str, Any] | None:
    """The blocks of `metrics.json`; None where they cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        return read_metrics(folder)
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


def is_imported(folder: Path) -> bool:
    """Whether the record in `folder` was made elsewhere: it has a result, and no trace of a training by a study here.

    Such are the records that git tracks, those of another program, and complete ones written from JupyterLab.
    """
    traced = any((folder / name).exists() for name in TRACES)
    return (folder / "metrics.json").is_file() and not traced and not is_interrupted(folder)


def is_foreign(folder: Path) -> bool:
    """Whether another program wrote the record in `folder`: it is imported, and does not name this one."""
    if not is_imported(folder):
        return False
    environment = (recorded_metrics(folder) or {}).get("environment")
    packages = environment.get("packages") if isinstance(environment, dict) else None
    return not (isinstance(packages, dict) and PROGRAM in packages)


def is_interrupted(folder: Path) -> bool:
    """Whether the training on record was interrupted before its last step."""
    training = (recorded_metrics(folder) or {}).get("training")
    return isinstance(training, dict) and training.get("interrupted") is True


def is_done(folder: Path, variant: Variant) -> bool:
    """Whether the record in `folder` is complete and has the values of `variant`.

    A training here ends with `train.ipynb`; an imported record needs none, nor a `params.yaml`.
    """
    if not is_imported(folder) and (recorded_params(folder) is None or not (folder / "train.ipynb").is_file()):
        return False
    return is_finished(folder) and not outdated(folder, variant)


def is_finished(folder: Path) -> bool:
    """Whether a training has ended as planned and left its record in `folder`, whatever its values."""
    return recorded_metrics(folder) is not None and not is_interrupted(folder)


def require_unfinished(folder: Path) -> Path:
    """`folder`, where a training may begin; `StudyError` if it holds a finished run, which is never replaced."""
    if is_finished(folder):
        again = "set `folder` to another one or to None, and run again from the cell that loads the encoder"
        raise StudyError(f"{folder} holds a finished run; {again}")
    return folder


def new_record(variant: Variant, folder: str | None = None) -> Path:
    """The folder of a run that starts now: `folder`, or one of the variant's name in `runs/scratch/`.

    There the name gets a number where a finished run, or one of other values, has it: `lora-n01000-s42-2`. A folder of
    the same values whose training has not ended is taken again, with its checkpoints. Raises `StudyError` where
    `folder` holds a finished run.
    """
    if folder is not None:
        return require_unfinished(Path(folder))
    run = paths.run_folder(paths.SCRATCH, variant.run_id())
    places = (run.with_name(f"{run.name}-{number}") if number > 1 else run for number in count(1))
    place = next(place for place in places if not place.exists() or _is_unfinished(place, variant))
    write_params(place, variant)
    return place


def _is_unfinished(folder: Path, variant: Variant) -> bool:
    """Whether a training of these values has begun in `folder` and not ended."""
    return not is_finished(folder) and recorded_params(folder) == variant.model_dump()


def strays(study: Study) -> list[str]:
    """The folders with predictions that are no run of `study`: `full-n300-s1`, where it asks for `full-n00300-s1`."""
    folders = {file.parent.name for file in paths.study_folder(study.name).glob("*/preds_and_labels.npz")}
    return sorted(folders - study.variants.keys())


def recorded_labels(folder: Path) -> tuple[str, ...] | None:
    """The names of the classes on record in `folder`; None where there are none."""
    data = (recorded_metrics(folder) or {}).get("data")
    names = data.get("labels") if isinstance(data, dict) else None
    return tuple(map(str, names)) if isinstance(names, list) and len(names) > 1 else None
