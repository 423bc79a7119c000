"""Turns the cells of a paper into pieces: the small, ordered parts that pandoc joins into one document."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nbformat import NotebookNode

from nbpaper.cells import PARAMETER_TAGS
from nbpaper.errors import PaperError
from nbpaper.outputs import WIDGET, Shown, Target, is_visible, show
from nbpaper.preprocessor import PaperCell

WIDE_TABLE = 56
"""A table whose columns need more characters than this spans both columns of the PDF unless the cell says otherwise."""


@dataclass(frozen=True)
class Piece:
    """One part of the document.

    `markdown`: text in Markdown; raw HTML in it counts only when `trusted` (a Markdown cell, not an output).
    `raw`: text in the target's own language. `code`: a code cell, folded under `summary`.
    `float`: a figure or table with a label and a caption; `body` says what its text is,
    `full` that it spans both columns of the PDF, `long` that it may run over several pages.
    """

    kind: Literal["markdown", "raw", "code", "float"]
    cell: int
    text: str
    trusted: bool = False
    summary: str = ""
    label: str = ""
    caption: str = ""
    full: bool = False
    long: bool = False
    body: Literal["raw", "markdown"] = "raw"

    def as_dict(self) -> dict[str, Any]:
        """The piece as the Lua reader takes it."""
        return asdict(self)


def compose(cells: list[PaperCell], target: Target, log: logging.Logger) -> list[Piece]:
    """All pieces of the paper, in order."""
    return [piece for cell in cells for piece in _cell_pieces(cell, target, log)]


def _cell_pieces(cell: PaperCell, target: Target, log: logging.Logger) -> Iterator[Piece]:
    if cell.node.cell_type == "markdown":
        yield Piece("markdown", cell.number, cell.node.source, trusted=True)
        return
    if target.shows_code and cell.options.echo and cell.code.strip():
        yield Piece("code", cell.number, cell.code, summary=_summary(cell))
    if cell.options.output is not False and not (cell.options.tags & PARAMETER_TAGS):
        yield from _output_pieces(cell, target, log)


def _summary(cell: PaperCell) -> str:
    if "injected-parameters" in cell.options.tags:
        return "Parameters of this run"
    return "Parameters" if "parameters" in cell.options.tags else "Code"


def _output_pieces(cell: PaperCell, target: Target, log: logging.Logger) -> Iterator[Piece]:
    label = cell.options.float_label
    for output in cell.node.get("outputs", []):
        notes = _notes(output)
        alt = str(notes.get("alt") or cell.options.alt or notes.get("caption") or cell.options.caption)
        try:
            shown = show(output, target, alt, asked=cell.options.output is True)
        except ValueError as error:
            raise PaperError.in_cell(cell.number, f"one of its pictures is damaged ({error})") from error
        if shown is None:
            yield from _gap(output, cell.number, target, log)
        elif label and _fits(label, output, shown):
            yield _float(cell, label, notes, shown)
            label = ""
        elif not (cell.options.float_label and _is_plain_result(output)):
            yield _unnumbered(cell.number, shown)
    if label and not cell.options.optional and not _is_told(cell.node):
        raise PaperError.in_cell(cell.number, _missing(label, cell.node))


def _is_told(node: NotebookNode) -> bool:
    """Whether a sentence stands where the figure or table should: the reason why there is none."""
    return any("text/markdown" in output.get("data", {}) for output in node.get("outputs", []))


def _notes(output: NotebookNode) -> dict[str, Any]:
    """A caption or alt text that the code computed: `display(figure, metadata={"caption": …})`."""
    metadata = output.get("metadata", {})
    return {**metadata, **metadata.get("nbpaper", {})}


def _fits(label: str, output: NotebookNode, shown: Shown) -> bool:
    """Whether an output is what the label announces; the error of a failed cell stands in for anything."""
    if output.output_type == "error":
        return True
    if label.startswith("fig-"):
        return shown.kind == "image"
    return shown.kind == "table" or (shown.kind == "markdown" and "|" in shown.text)  # a sentence is no table


def _float(cell: PaperCell, label: str, notes: dict[str, Any], shown: Shown) -> Piece:
    caption = str(notes.get("caption") or cell.options.caption)
    wide = long = False
    if shown.table:
        caption = caption or _escaped(shown.table.caption)
        widths = shown.table.column_widths()
        long = shown.table.is_long
        wide = sum(widths) + 2 * len(widths) > WIDE_TABLE and not long
    full = wide if cell.options.full is None else cell.options.full
    body: Literal["raw", "markdown"] = "markdown" if shown.kind == "markdown" else "raw"
    return Piece("float", cell.number, shown.text, label=label, caption=caption, full=full, long=long, body=body)


def _unnumbered(number: int, shown: Shown) -> Piece:
    return Piece("markdown" if shown.kind == "markdown" else "raw", number, shown.text)


def _is_plain_result(output: NotebookNode) -> bool:
    """The `<Axes: …>` that plotting calls return next to their figure."""
    return set(output.get("data", {})) == {"text/plain"}


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in r"\`*_{}[]()#+-.!@$<>|~^'" + '"' else char for char in text)


def _missing(label: str, node: NotebookNode) -> str:
    if not node.get("outputs"):
        return f"{label!r} has no output; execute the notebook first"
    wanted = "an image" if label.startswith("fig-") else "a table"
    return f"{label!r} needs {wanted} among its outputs, and has none"


def _gap(output: NotebookNode, number: int, target: Target, log: logging.Logger) -> Iterator[Piece]:
    """A line in place of HTML that the target cannot show, so that nobody overlooks it."""
    data = output.get("data", {})
    html = data.get("text/html", "")
    if WIDGET not in data and is_visible("".join(html)):
        log.warning("cell %d: nothing in %s can be shown in %s", number, ", ".join(sorted(data)), target.name)
        yield Piece("raw", number, target.gap())
