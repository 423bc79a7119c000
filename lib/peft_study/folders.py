"""A run's folder as every writer and reader of it sees it: files in one step, what was asked for, whether it is done.

Imports nothing heavy: the engine asks these questions of every run before anything starts.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from peft_study.config import Variant
from peft_study.errors import writing


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary name beside `file` to write to; it takes the name `file` when the block ends well."""
    partial = file.with_name(f".{file.stem}.partial-{os.getpid()}{file.suffix}")
    with writing(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def write_params(folder: Path, variant: Variant) -> None:
    """`params.yaml`: every choice of the run, as it was asked for."""
    with replacing(folder / "params.yaml") as partial:
        partial.write_text(yaml.safe_dump(variant.model_dump(), sort_keys=False), encoding="utf-8")


def asked(folder: Path) -> dict[str, Any] | None:
    """The values that the run in `folder` was asked for; None where they cannot be read."""
    try:
        values = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return values if isinstance(values, dict) else None


def changed(values: dict[str, Any], variant: Variant) -> list[str]:
    """The fields in which the values of a `params.yaml` are not those of `variant`."""
    wanted = variant.model_dump()
    return [name for name in wanted | values if name not in wanted or values.get(name, ...) != wanted[name]]


def is_done(folder: Path, variant: Variant) -> bool:
    """Whether the run in `folder` is complete and was asked for the values of `variant`."""
    return (folder / "train.ipynb").is_file() and _has_metrics(folder) and asked(folder) == variant.model_dump()


def _has_metrics(folder: Path) -> bool:
    """Whether `metrics.json` is there and readable."""
    try:
        return isinstance(json.loads((folder / "metrics.json").read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False
