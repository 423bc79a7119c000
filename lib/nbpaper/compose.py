"""Turns the cells of a paper into pieces: the small, ordered parts that pandoc joins into one document."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nbformat import NotebookNode

from nbpaper.cells import MAY_FAIL, PARAMETERS, left_out, tags_of
from nbpaper.errors import PaperError
from nbpaper.outputs import WIDGET, Shown, Target, is_visible, show
from nbpaper.paper import PaperCell

WIDE_TABLE = 56
"""A table whose columns need more characters than this spans both columns of the PDF unless the cell says otherwise."""


@dataclass(frozen=True)
class Piece:
    """One part of the document.

    `markdown`: text in Markdown; raw HTML in it counts only when `trusted` (a Markdown cell, not an output).
    `raw`: text in the target's own language. `code`: a code cell, folded under `summary`.
    `float`: a figure or table with a label and a caption; `body` says what its text is,
    `full` that it spans both columns of the PDF, `long` that it may run over several pages. `appendix`: its first
    heading starts the appendix.
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
    appendix: bool = False
    body: Literal["raw", "markdown"] = "raw"


def compose(cells: list[PaperCell], target: Target, log: logging.Logger) -> list[Piece]:
    """All pieces of the paper, in order."""
    return [piece for cell in cells for piece in _cell_pieces(cell, target, log)]


def absent_labels(cells: list[PaperCell], pieces: list[Piece]) -> list[str]:
    """The labels of cells that made no figure or table: a reference to one is valid, and says that it is left out."""
    made = {piece.label for piece in pieces}
    return [cell.label for cell in cells if cell.label not in {"", *made}]


def _cell_pieces(cell: PaperCell, target: Target, log: logging.Logger) -> Iterator[Piece]:
    tags = tags_of(cell.node)
    if cell.node.cell_type == "markdown":
        yield Piece("markdown", cell.number, cell.node.source, trusted=True, appendix="appendix" in tags)
        return
    parameters = next((summary for tag, summary in PARAMETERS.items() if tag in tags), "")
    if target.shows_code and cell.node.source.strip() and "remove-input" not in tags:
        yield Piece("code", cell.number, cell.node.source, summary=parameters or "Code")
    if not parameters:
        yield from _output_pieces(cell, target, log)


def _output_pieces(cell: PaperCell, target: Target, log: logging.Logger) -> Iterator[Piece]:
    label = cell.label
    for output in cell.node.outputs:
        if output.output_type == "error" and MAY_FAIL in tags_of(cell.node):
            log.warning(sentence := left_out(cell.node, cell.number, cell.caption, output))
            yield Piece("raw", cell.number, target.gap(sentence))
            return
        try:
            shown = show(output, target, cell.options.alt or cell.caption)
        except ValueError as error:
            raise PaperError.in_cell(cell.number, f"one of its pictures is damaged ({error})") from error
        if shown is None:
            yield from _gap(output, cell.number, target, log)
        elif label and _fits(label, output, shown):
            yield _float(cell, shown)
            label = ""
        elif not (cell.label and set(output.get("data", {})) == {"text/plain"}):  # as in `<Axes: …>`
            yield Piece("markdown" if shown.kind == "markdown" else "raw", cell.number, shown.text)
    if label and not cell.options.optional and not _has_markdown(cell.node):
        raise PaperError.in_cell(cell.number, _missing(label, cell.node))


def _has_markdown(node: NotebookNode) -> bool:
    """Whether a sentence stands where the figure or table should: the reason why there is none."""
    return any("text/markdown" in output.get("data", {}) for output in node.outputs)


def _fits(label: str, output: NotebookNode, shown: Shown) -> bool:
    """Whether an output is what the label announces; the error of a failed cell stands in for anything."""
    if output.output_type == "error":
        return True
    if label.startswith("fig-"):
        return shown.kind == "image"
    return shown.kind == "table" or (shown.kind == "markdown" and "|" in shown.text)  # a sentence is no table


def _float(cell: PaperCell, shown: Shown) -> Piece:
    wide, long = shown.wide, False
    if shown.table:
        widths = shown.table.column_widths()
        long = shown.table.is_long
        wide = sum(widths) + 2 * len(widths) > WIDE_TABLE and not long
    full = cell.options.span == "full" if cell.options.span else wide
    body: Literal["raw", "markdown"] = "markdown" if shown.kind == "markdown" else "raw"
    return Piece(
        "float", cell.number, shown.text, label=cell.label, caption=cell.caption, full=full, long=long, body=body
    )


def _missing(label: str, node: NotebookNode) -> str:
    if not node.outputs:
        return f"{label!r} has no output; execute the notebook first"
    wanted = "an image" if label.startswith("fig-") else "a table"
    return f"{label!r} needs {wanted} among its outputs, and has none"


def _gap(output: NotebookNode, number: int, target: Target, log: logging.Logger) -> Iterator[Piece]:
    """A line in place of HTML that the target cannot show, so that nobody overlooks it."""
    data = output.get("data", {})
    if WIDGET not in data and is_visible(data.get("text/html", "")):
        log.warning("cell %d: nothing in %s can be shown in %s", number, ", ".join(sorted(data)), target.name)
        yield Piece("raw", number, target.gap(f"An output stands here that {target.lacks}."))
