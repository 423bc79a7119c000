"""Where the cells of a table stand: spans, gaps, and the header rows of pandas."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cell:
    """One table cell. `column` is its leftmost column, counted from 0."""

    text: str = ""
    column: int = 0
    colspan: int = 1
    rowspan: int = 1
    header: bool = False


Row = list[Cell]


def place(rows: list[Row]) -> list[Row]:
    """Give every cell its column, stepping over cells that reach down from rows above; empty cells fill the rest."""
    placed: list[tuple[Row, dict[int, int]]] = []
    taken: dict[int, int] = {}  # column -> rows that it is taken for, this one included
    for row in rows:
        column, cells = 0, []
        taken = {key: left - 1 for key, left in taken.items() if left > 1}
        for cell in row:
            while column in taken:
                column += 1
            colspan = next((k for k in range(1, cell.colspan) if column + k in taken), cell.colspan)
            cells.append(replace(cell, column=column, colspan=colspan))
            taken |= dict.fromkeys(range(column, column + colspan), cell.rowspan)
            column += colspan
        placed.append((cells, taken))
    columns = max((column + 1 for _, covered in placed for column in covered), default=0)
    return [_filled(cells, set(range(columns)) - set(covered)) for cells, covered in placed]


def _filled(cells: Row, gaps: set[int]) -> Row:
    return sorted([*cells, *(Cell(column=column) for column in gaps)], key=lambda cell: cell.column)


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
