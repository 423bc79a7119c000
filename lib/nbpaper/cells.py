"""Cell tags, and the `#| key: value` lines at the top of a code cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from nbpaper.errors import PaperError

REMOVED = {"remove-cell", "papermill-error-cell-tag"}  # papermill's banners point at a failure the paper shows anyway
PARAMETERS = {"injected-parameters": "Parameters of this run", "parameters": "Parameters"}
"""Tags of the cells that hold parameters, and what their code is folded under."""

MAY_FAIL = "raises-exception"
"""Tag of a cell that no other depends on: nbclient and JupyterLab continue after its error, which the paper names."""

FLOAT_LABEL = re.compile(r"(fig|tbl)-[\w-]+")


@dataclass(frozen=True)
class CellOptions:
    """What a code cell asks for. `output` is None unless the cell sets it; an `optional` float may be absent."""

    label: str = ""
    caption: str = ""
    alt: str = ""
    full: bool | None = None
    output: bool | None = None
    optional: bool = False

    @property
    def float_label(self) -> str:
        """The label if it names a figure or a table, else an empty string."""
        return self.label if FLOAT_LABEL.fullmatch(self.label) else ""


def tags_of(cell: NotebookNode) -> set[str]:
    """The cell's tags."""
    return set(cell.metadata.get("tags", []))


def left_out(cell: NotebookNode, number: int, error: NotebookNode) -> str:
    """The sentence that replaces the output of a cell that failed with `error`, and may."""
    options, _ = split_options(cell, number)
    caption = options.caption.partition(".")[0].strip()
    kind = {"fig": "the figure", "tbl": "the table"}.get(options.float_label[:3], f"the output of cell {number}")
    what = f"{kind} “{_cut(caption, 90)}”" if caption else kind
    lines = strip_ansi(error.evalue).strip().splitlines() or [""]
    return f"Left out: {what} ({_cut(f'{error.ename}: {lines[0]}', 200).rstrip(': .')})."


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def split_options(cell: NotebookNode, number: int) -> tuple[CellOptions, str]:
    """Separate a code cell's leading `#|` lines from its code."""
    lines = cell.source.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    text = "\n".join(line[2:].removeprefix(" ") for line in lines[:count])
    return _options(read_yaml(text, number, "its '#|' lines"), number), "\n".join(lines[count:]).strip("\n")


def read_yaml(text: str, number: int, what: str) -> dict[str, Any]:
    """The values of `key: value` lines in cell `number`; `what` names the lines in the error."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or "not YAML"
        raise PaperError.in_cell(number, f"cannot read {what} ({reason}); quote values with colons") from error
    if not isinstance(values, dict):
        raise PaperError.in_cell(number, f"{what} must read 'key: value'")
    return values


def _options(values: dict[str, Any], number: int) -> CellOptions:
    label = str(values.get("label", ""))
    kind = "tbl" if label.startswith("tbl-") else "fig"  # a figure may have an alt text without a label
    if label.startswith(("fig-", "tbl-")) and not FLOAT_LABEL.fullmatch(label):
        raise PaperError.in_cell(number, f"label {label!r} may hold only letters, digits, '-' and '_'")
    span = values.get(f"{kind}-span")
    return CellOptions(
        label=label,
        caption=str(values.get(f"{kind}-cap") or ""),
        alt=str(values.get(f"{kind}-alt") or ""),
        full=None if span is None else str(span) == "full",
        output=values.get("output"),
        optional=values.get("optional") is True,
    )
