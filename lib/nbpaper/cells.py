"""Cell tags, and the `#| key: value` lines at the top of a code cell."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from nbformat import NotebookNode

from nbpaper.errors import PaperError

REMOVED = {"remove-cell", "papermill-error-cell-tag"}  # papermill's banners point at a failure the paper shows anyway
ONLY_IN = {"html": "html-only", "typst": "pdf-only"}
PARAMETER_TAGS = {"parameters", "injected-parameters"}
HIDDEN_INPUT_TAGS = {"hide-input", "remove-input"}

FLOAT_LABEL = re.compile(r"(fig|tbl)-[\w-]+")


@dataclass(frozen=True)
class CellOptions:
    """What a code cell asks for. `output` is None unless the cell sets it; an `optional` float may be absent."""

    label: str = ""
    caption: str = ""
    alt: str = ""
    full: bool | None = None
    echo: bool = True
    output: bool | None = None
    include: bool = True
    optional: bool = False
    tags: frozenset[str] = field(default_factory=frozenset)

    @property
    def float_label(self) -> str:
        """The label if it names a figure or a table, else an empty string."""
        return self.label if FLOAT_LABEL.fullmatch(self.label) else ""


def tags_of(cell: NotebookNode) -> frozenset[str]:
    """The cell's tags."""
    return frozenset(cell.metadata.get("tags", []))


def is_kept(cell: NotebookNode, target: str) -> bool:
    """Whether a cell belongs in the given target (`html` or `typst`)."""
    excluded = REMOVED | {tag for name, tag in ONLY_IN.items() if name != target}
    return not tags_of(cell) & excluded


def split_options(cell: NotebookNode, number: int) -> tuple[CellOptions, str]:
    """Separate a code cell's leading `#|` lines from its code."""
    lines = cell.source.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    values = _parse(lines[:count], number)
    return _options(values, tags_of(cell), number), "\n".join(lines[count:]).strip("\n")


def _parse(lines: list[str], number: int) -> dict[str, Any]:
    text = "\n".join(line[2:].removeprefix(" ") for line in lines)
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or "not YAML"
        raise PaperError.in_cell(number, f"cannot read its '#|' lines ({reason}); quote values with colons") from error
    if not isinstance(values, dict):
        raise PaperError.in_cell(number, "its '#|' lines must read 'key: value'")
    return values


def _options(values: dict[str, Any], tags: frozenset[str], number: int) -> CellOptions:
    label = str(values.get("label", ""))
    if label.startswith(("fig-", "tbl-")) and not FLOAT_LABEL.fullmatch(label):
        raise PaperError.in_cell(number, f"label {label!r} may hold only letters, digits, '-' and '_'")

    def first(*keys: str) -> Any:
        return next((values[key] for key in keys if values.get(key) is not None), None)

    span = first("fig-span", "tbl-span")
    return CellOptions(
        label=label,
        caption=str(first("fig-cap", "tbl-cap") or ""),
        alt=str(first("fig-alt", "tbl-alt") or ""),
        full=None if span is None else str(span) == "full",
        echo=values.get("echo") is not False and not tags & HIDDEN_INPUT_TAGS,
        output=values.get("output") if isinstance(values.get("output"), bool) else None,
        include=values.get("include") is not False,
        optional=values.get("optional") is True,
        tags=tags,
    )
