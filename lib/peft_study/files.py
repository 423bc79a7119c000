"""Files: atomic writing, removal, hashing; YAML from untrusted sources."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from peft_study.errors import one_line, writing
from peft_study.paths import live

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BYTES, VALUES = 2**20, 100_000  # of a YAML file: its largest size, and the most values with aliases expanded

_LFS = b"version https://git-lfs.github.com/spec"


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary file (or folder) beside `file`, renamed to `file` if the block succeeds."""
    partial = file.with_name(f".{file.stem}.partial-{os.getpid()}{''.join(file.suffixes)}")  # .csv.gz is a format
    with writing(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(file)
        finally:
            remove(partial)


def _only(where_live: bool, function: Callable[..., None]) -> Callable[..., None]:
    """`function`, which does nothing outside JupyterLab, or nothing in it."""

    @wraps(function)
    def called(*args: Any, **options: Any) -> None:
        if live() == where_live:
            function(*args, **options)

    return called


where_live = partial(_only, True)  # for interactive pieces: executed notebooks have no dead controls
unless_live = partial(_only, False)  # for what writes into a study or its report: looking at them changes nothing


def make_readable(folder: Path) -> None:
    """Give the files in `folder` the permissions of new files; safetensors lets none but the owner read weights."""
    os.umask(mask := os.umask(0))
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~mask)


def remove_partial(folder: Path) -> None:
    """Remove the temporary files that killed writers left in `folder`."""
    for file in folder.glob(".*.partial*"):
        remove(file)


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def fingerprint(*files: Path) -> str:
    """A hash of the contents of the `files` that exist, in any order."""
    sums = []
    for file in filter(Path.is_file, files):
        with open(file, "rb") as stream:
            sums.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()


def is_lfs_pointer(file: Path) -> bool:
    """Whether `file` is a git-lfs pointer to a large file that was not downloaded (`git lfs pull` downloads it)."""
    with open(file, "rb") as stream:
        return stream.read(len(_LFS)) == _LFS


def write_json(file: Path, content: Any) -> None:
    """Write `content` as indented JSON, in one step."""
    with replacing(file) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Values that JSON does not know: NumPy numbers as Python numbers, others as text."""
    return value.item() if hasattr(value, "item") else str(value)


def write_figure(file: Path, figure: "Figure") -> None:
    """Save a figure under its name, in one step."""
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150, bbox_inches="tight")


def read_yaml(file: Path) -> Any:
    """The content of a YAML file: dicts, lists, texts, numbers, booleans, dates and None, and no Python object.

    As in YAML 1.2, `1e-3` is a number and `no` a text. Raises `OSError`, or `ValueError` for invalid YAML, duplicate
    keys, keys that are not texts, and aliases that are circular or expand to too many values.
    """
    if (size := file.stat().st_size) > BYTES:
        raise ValueError(f"it has {size:,} bytes, at most {BYTES:,} are read")
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class _Loader(yaml.SafeLoader):
    """The loader of `read_yaml`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values, self._inside = 0, dict[int, int]()  # so far, and within each node that is complete

    def compose_node(self, parent: Any, index: Any) -> Any:
        is_alias, before = self.check_event(yaml.AliasEvent), self._values
        node = super().compose_node(parent, index)
        if is_alias and id(node) not in self._inside:
            raise ValueError("it contains itself by an alias")
        self._values += self._inside[id(node)] if is_alias else 1
        if self._values > VALUES:
            raise ValueError(f"it holds more than {VALUES:,} values, with its aliases expanded")
        self._inside.setdefault(id(node), self._values - before)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        seen = set[Any]()
        for key in keys:
            name = self.construct_object(key, deep=True)  # type: ignore[no-untyped-call]
            fault = (
                "is not a text; put it in quotes" if not isinstance(name, str) else "is given twice" * (name in seen)
            )
            if fault:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} {fault}", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_BOOLEAN = "tag:yaml.org,2002:bool"  # true and false alone, as in YAML 1.2: yes, no, on and off are texts
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
