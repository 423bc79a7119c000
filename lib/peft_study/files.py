"""Files in one step: written under a temporary name and moved; removed, hashed, read as YAML."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peft_study.errors import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def remove_partial(folder: Path) -> None:
    """Remove what writers that were killed left under temporary names in `folder`."""
    for partial in folder.glob(".*.partial*"):
        remove(partial)


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def fingerprint(*files: Path) -> str:
    """A fingerprint of the contents of `files`, those that exist, in any order."""
    sums = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file())
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def write_json(file: Path, content: Any) -> None:
    """Write `content` as indented JSON, in one step."""
    with replacing(file) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """What JSON cannot hold, as what it can: NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else str(value)


def write_figure(file: Path, figure: "Figure") -> None:
    """Save a figure under its name, in one step."""
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150, bbox_inches="tight")
