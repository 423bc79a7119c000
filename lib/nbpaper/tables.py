"""Reads the HTML tables that pandas writes into a plain structure that both targets can typeset.

Only text survives, so that nothing in a cell can act as markup.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, replace
from html import unescape

from bs4 import BeautifulSoup, Tag

from nbpaper.table_grid import Cell, Row, merge_index_names, place

NUMERIC = re.compile(
    r"(< )?[+\-−]?[\d.,]*\d[\d.,]*(e[+\-]?\d+)?\s?(%|\s*±.*|\s*[\[(].*[\])])?|NaN|nan|[–—-]?", re.IGNORECASE
)
PANDAS_SIZE = re.compile(r"(\d+ rows × \d+ columns)?")
FORMATTING = {"a", "b", "br", "code", "em", "i", "p", "small", "span", "strong", "sub", "sup", "u"}
LONG = 40
"""Tables with more rows than this may run over several columns and pages."""

SHORT_HEADING = 9
"""Characters that a line of a heading may have, however narrow its column is."""

MAX_SPAN = 1000  # what browsers allow


@dataclass(frozen=True)
class Table:
    """A table whose rows cover every column: gaps are filled with empty cells, spans never leave the table."""

    head: list[Row]
    body: list[Row]
    alignments: list[str]

    @property
    def is_long(self) -> bool:
        """Whether the table must be allowed to break over pages."""
        return len(self.body) > LONG

    def starts_group(self, index: int) -> bool:
        """Whether a row of the body opens a new group of rows: those that share one cell of the first column."""
        grouped = any(cell.rowspan > 1 for row in self.body for cell in row if cell.column == 0)
        return grouped and index > 0 and any(cell.column == 0 and cell.text for cell in self.body[index])

    def column_widths(self) -> list[int]:
        """The longest line of each column in characters; spanning cells do not count."""
        return _widths(self.head + self.body, len(self.alignments))

    def with_narrow_head(self, limit: int) -> Table:
        """The table with headings broken into lines where it is wider than `limit` characters for their sake."""
        if sum(self.column_widths()) + 2 * len(self.alignments) <= limit:
            return self
        widths = [max(width, SHORT_HEADING) for width in _widths(self.body, len(self.alignments))]
        return replace(self, head=[[_broken(cell, widths) for cell in row] for row in self.head])


def _widths(rows: list[Row], columns: int) -> list[int]:
    widths = [1] * columns
    for cell in (cell for row in rows for cell in row if cell.colspan == 1):
        widths[cell.column] = max(widths[cell.column], *(len(line) for line in cell.text.split("\n")))
    return widths


def _broken(cell: Cell, widths: list[int]) -> Cell:
    if cell.colspan > 1:
        return cell
    lines = textwrap.wrap(cell.text, widths[cell.column], break_long_words=False, break_on_hyphens=False)
    return replace(cell, text="\n".join(lines))


def parse_table(html: str) -> Table | None:
    """The table in an output's HTML, or None when the HTML is not just one table."""
    if "<table" not in html.lower():
        return None
    soup = BeautifulSoup(html, "html.parser")
    tables = soup.find_all("table")
    if len(tables) != 1:
        return None
    rows = tables[0].extract().find_all("tr")
    if not PANDAS_SIZE.fullmatch(soup.get_text(" ", strip=True)):  # the text of style sheets does not count
        return None
    head_rows = _rows([row for row in rows if row.find_parent("thead")])
    placed = place(head_rows + _rows([row for row in rows if not row.find_parent("thead")]))
    head, body = merge_index_names(placed[: len(head_rows)]), placed[len(head_rows) :]
    columns = max((cell.column + cell.colspan for row in placed for cell in row), default=0)
    return Table(head, body, _alignments(body, columns)) if columns else None


def _rows(elements: list[Tag]) -> list[Row]:
    return [
        [_cell(cell, rows_left=len(elements) - index) for cell in row.find_all(["th", "td"])]
        for index, row in enumerate(elements)
    ]


def _cell(element: Tag, rows_left: int) -> Cell:
    text = _text(element)
    if NUMERIC.fullmatch(text):
        text = re.sub(r"^-(?=[\d.])", "−", text)  # a minus sign as wide as a plus
    rowspan = min(_span(element, "rowspan"), rows_left)
    return Cell(text, colspan=_span(element, "colspan"), rowspan=rowspan, header=element.name == "th")


def _text(element: Tag) -> str:
    """The text of a cell. Markup beyond simple formatting was never meant as markup: it is shown as it is written."""
    if any(child.name not in FORMATTING for child in element.find_all(True)):
        return unescape(element.decode_contents()).strip()
    for line_break in element.find_all("br"):
        line_break.replace_with("\n")
    lines = (" ".join(line.split()) for line in element.get_text().split("\n"))
    return "\n".join(line for line in lines if line)


def _span(element: Tag, name: str) -> int:
    value = str(element.get(name, "1"))
    return min(max(int(value), 1), MAX_SPAN) if value.isdecimal() else 1


def _alignments(body: list[Row], columns: int) -> list[str]:
    """Numbers to the right, words to the left."""
    texts: list[list[str]] = [[] for _ in range(columns)]
    for cell in (cell for row in body for cell in row if cell.colspan == 1):
        texts[cell.column].append(cell.text)
    return ["right" if any(column) and all(map(NUMERIC.fullmatch, column)) else "left" for column in texts]
