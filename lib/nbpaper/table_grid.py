"""Where the cells of a table stand: spans, gaps, and the header rows of pandas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cell:
    """One table cell. `column` is its leftmost column, counted from 0."""

    text: str = ""
    column: int = 0
    colspan: int = 1
    rowspan: int = 1
    header: bool = False
    bold: bool = False
    italic: bool = False
    color: str = ""
    background: str = ""


Row = list[Cell]


def place(rows: list[Row]) -> list[Row]:
    """Give every cell its column, stepping over cells that reach down from rows above."""
    placed: list[Row] = []
    reach: dict[int, int] = {}  # column -> rows it is still taken, this one included
    for index, row in enumerate(rows):
        column, cells = 0, []
        taken = {key: left for key, left in reach.items() if left > 0}
        for cell in row:
            while taken.get(column):
                column += 1
            rowspan = min(cell.rowspan, len(rows) - index)
            colspan = next((k for k in range(1, cell.colspan) if taken.get(column + k)), cell.colspan)
            cells.append(replace(cell, column=column, rowspan=rowspan, colspan=colspan))
            taken.update(dict.fromkeys(range(column, column + colspan), rowspan))
            column += colspan
        placed.append(cells)
        reach = {key: left - 1 for key, left in taken.items()}
    return placed


def _covered(rows: list[Row]) -> Iterator[set[int]]:
    """For each row, the columns that its own cells and those above it cover."""
    reach: dict[int, int] = {}
    for row in rows:
        reach = {column: left - 1 for column, left in reach.items() if left > 1}
        for cell in row:
            reach.update(dict.fromkeys(range(cell.column, cell.column + cell.colspan), cell.rowspan))
        yield set(reach)


def fill_gaps(rows: list[Row], columns: int) -> list[Row]:
    """Add an empty cell wherever a row leaves a column uncovered."""
    filled = []
    for row, covered in zip(rows, _covered(rows), strict=True):
        gaps = [Cell(column=column) for column in range(columns) if column not in covered]
        filled.append(sorted([*row, *gaps], key=lambda cell: cell.column))
    return filled


def merge_index_names(head: list[Row]) -> list[Row]:
    """pandas puts the names of the index into a header row of their own; lift them into the row above."""
    if len(head) < 2:
        return head
    names = {cell.column: cell for cell in head[-1] if cell.text}
    above = {cell.column: cell for cell in head[-2]}
    free = all(column in above and not above[column].text and above[column].colspan == 1 for column in names)
    if not names or not free or len(names) == len(head[-1]):
        return head
    lifted = [replace(cell, text=names[cell.column].text) if cell.column in names else cell for cell in head[-2]]
    return [*head[:-2], lifted]
