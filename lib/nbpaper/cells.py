"""What a cell says of itself out of a reader's sight: its id, its tags, and `paper` in its metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from nbpaper.errors import PaperError

REMOVED = {"remove-cell", "papermill-error-cell-tag"}  # papermill's banners point at a failure the paper shows anyway
PARAMETERS = {"injected-parameters": "Parameters of this run", "parameters": "Parameters"}
"""Tags of the cells that hold parameters, and what their code is folded under."""

CAPTION = "caption"
"""Tag of a Markdown cell: the caption of the figure or table of the code cell before it."""

MAY_FAIL = "raises-exception"
"""Tag of a cell that no other depends on: nbclient and JupyterLab continue after its error, which the paper names."""

FLOAT_LABEL = re.compile(r"(fig|tbl)-[\w-]+")


@dataclass(frozen=True)
class CellOptions:
    """What a code cell asks for: a figure's text for screen readers, the columns of the PDF that its figure or table
    spans (`full` or `column`; empty: as its size needs), and whether there may be none.
    """

    alt: str = ""
    span: str = ""
    optional: bool = False


def read_metadata(kind: type[Any], metadata: NotebookNode, where: str) -> Any:
    """The `paper` of a notebook's or a cell's metadata as a `kind`; `where` names the place in the error."""
    values, allowed = metadata.get("paper", {}), [field.name for field in fields(kind)]
    for key in values:
        if key not in allowed:
            raise PaperError(
                f"{where}: unknown key {key!r} of 'paper' in the metadata; allowed are {', '.join(allowed)}"
            )
    return kind(**values)


def tags_of(cell: NotebookNode) -> set[str]:
    """The cell's tags."""
    return set(cell.metadata.get("tags", []))


def caption_of(cells: list[NotebookNode], number: int) -> str:
    """The caption of cell `number` (from 1): the text of the next cell, if that is one, without its `**Figure.**`."""
    caption = "".join(cell.source for cell in cells[number : number + 1] if CAPTION in tags_of(cell))
    return re.sub(r"^\*\*(Figure|Table)\.\*\*\s*", "", caption)


def left_out(cell: NotebookNode, number: int, caption: str, error: NotebookNode) -> str:
    """The sentence that replaces the output of a cell that failed with `error`, and may."""
    kind = {"fig": "the figure", "tbl": "the table"}.get(cell.id.partition("-")[0], f"the output of cell {number}")
    caption = caption.partition(".")[0].strip()
    what = f"{kind} “{_cut(caption, 90)}”" if caption else kind
    lines = strip_ansi(error.evalue).strip().splitlines() or [""]
    return f"Left out: {what} ({_cut(f'{error.ename}: {lines[0]}', 200).rstrip(': .')})."


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
