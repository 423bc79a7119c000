"""YAML from files that anybody may have written: plain values of it or one clear error, at a bounded cost."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from peft_study.errors import one_line

BYTES, VALUES = 2**20, 100_000  # the largest file, and the most values that it may hold


def read_yaml(file: Path) -> Any:
    """What a file holds: dicts, lists, texts, numbers, booleans, dates and None; no tag makes a Python object.

    Raises `OSError`, or `ValueError` that says in a line where the file is no such YAML: `1e-3` is a number as in YAML
    1.2; a key that is given twice, or is no text, is refused; so are aliases that contain themselves or blow up.
    """
    if (size := file.stat().st_size) > BYTES:
        raise ValueError(f"it has {size:,} bytes, at most {BYTES:,} are read")
    text = file.read_text(encoding="utf-8")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        if (count := _count(root, {})) > VALUES:
            raise ValueError(f"its aliases stand for {count:,} values, at most {VALUES:,} are read")
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """The values under a node with every alias written out; each node is visited once."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("it contains itself by an alias")
        return known[id(node)]
    known[id(node)] = 0  # until it is counted
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    known[id(node)] = 1 + sum(_count(part, known) for part in inner)
    return known[id(node)]


class _Loader(yaml.SafeLoader):
    """YAML as its readers expect it: see `read_yaml`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in nodes]  # type: ignore[no-untyped-call]
        counts = Counter(key for key in keys if isinstance(key, str))
        faults = [f"the key {key!r} is given twice" for key, count in counts.items() if count > 1]
        faults += [f"the key {key!r} is no text; put it in quotes" for key in keys if not isinstance(key, str)]
        if faults:
            raise yaml.constructor.ConstructorError(None, None, faults[0], node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
