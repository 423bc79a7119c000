"""Reads the HTML tables that pandas and its Styler write into a plain structure both targets can typeset.

Only text and a few styles survive (bold, italic, colours), so nothing in a cell can act as markup.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, replace
from html import unescape
from typing import TYPE_CHECKING

from nbpaper.table_grid import Cell, Row, fill_gaps, merge_index_names, place

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

NUMERIC = re.compile(
    r"[+\-−]?[\d.,]*\d[\d.,]*(e[+\-]?\d+)?\s?(%|\s*±.*|\s*[\[(].*[\])])?|NaN|nan|[–—-]?", re.IGNORECASE
)
COLOUR = re.compile(
    r"#[0-9a-f]{3}|#[0-9a-f]{6}|(black|gray|silver|white|navy|blue|aqua|teal|red|yellow|green|lime|orange)"
)
PANDAS_SIZE = re.compile(r"\d+ rows × \d+ columns")
FORMATTING = {"a", "b", "br", "code", "em", "i", "p", "small", "span", "strong", "sub", "sup", "u"}
LONG = 40
"""Tables with more rows than this may run over several columns and pages."""

SHORT_HEADING = 9
"""Characters that a line of a heading may have, however narrow its column is."""

MAX_SPAN = 1000  # what browsers allow

Style = dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table whose rows cover every column: gaps are filled with empty cells, spans never leave the table."""

    head: list[Row]
    body: list[Row]
    alignments: list[str]
    caption: str = ""
    note: str = ""

    @property
    def columns(self) -> int:
        """How many columns the grid has."""
        return len(self.alignments)

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
        return _widths(self.head + self.body, self.columns)

    def with_narrow_head(self, limit: int) -> Table:
        """The table with headings broken into lines where it is wider than `limit` characters for their sake."""
        if sum(self.column_widths()) + 2 * self.columns <= limit:
            return self
        widths = [max(width, SHORT_HEADING) for width in _widths(self.body, self.columns)]
        return replace(self, head=[[_broken(cell, widths) for cell in row] for row in self.head])


def _widths(rows: list[Row], columns: int) -> list[int]:
    widths = [1] * columns
    for cell in (cell for row in rows for cell in row if cell.colspan == 1):
        longest = max((len(line) for line in cell.text.split("\n")), default=0)
        widths[cell.column] = max(widths[cell.column], longest)
    return widths


def _broken(cell: Cell, widths: list[int]) -> Cell:
    if cell.colspan > 1:
        return cell
    lines = textwrap.wrap(cell.text, widths[cell.column], break_long_words=False, break_on_hyphens=False)
    return replace(cell, text="\n".join(lines))


def parse_table(html: str) -> Table | None:
    """The table in an output's HTML, or None when the HTML is not just one table."""
    from bs4 import BeautifulSoup

    if "<table" not in html.lower():
        return None
    soup = BeautifulSoup(html, "html.parser")
    rules = _style_rules(soup)
    for element in soup.find_all(["style", "script"]):
        if element.find_parent("table") is None:  # inside a cell it is text that nobody escaped
            element.decompose()
    tables = soup.find_all("table")
    if len(tables) != 1:
        return None
    table = tables[0].extract()
    rest = soup.get_text(" ", strip=True)
    if rest and not PANDAS_SIZE.fullmatch(rest):
        return None
    return _build(table, rules, note=rest)


def _build(table: Tag, rules: dict[str, Style], note: str) -> Table | None:
    caption = table.caption.extract().get_text(" ", strip=True) if table.caption else ""
    head_rows = table.thead.find_all("tr") if table.thead else []
    body_rows = [row for row in table.find_all("tr") if row not in head_rows]
    head = place([[_cell(cell, rules) for cell in row.find_all(["th", "td"])] for row in head_rows])
    body = place([[_cell(cell, rules) for cell in row.find_all(["th", "td"])] for row in body_rows])
    columns = max((cell.column + cell.colspan for row in head + body for cell in row), default=0)
    if columns == 0:
        return None
    head, body = fill_gaps(merge_index_names(head), columns), fill_gaps(body, columns)
    return Table(head, body, _alignments(body, columns), caption, note)


def _style_rules(soup: BeautifulSoup) -> dict[str, Style]:
    """The `#id { property: value }` rules that a Styler writes."""
    rules: dict[str, Style] = {}
    for element in soup.find_all("style"):
        for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", element.get_text()):
            for selector in selectors.split(","):
                rules.setdefault(selector.strip(), {}).update(_declarations(body))
    return rules


def _declarations(css: str) -> Style:
    pairs = (declaration.partition(":") for declaration in css.split(";"))
    return {key.strip().lower(): value.strip().lower() for key, _, value in pairs if value.strip()}


def _cell(element: Tag, rules: dict[str, Style]) -> Cell:
    style = rules.get(f"#{element.get('id', '')}", {}) | _declarations(str(element.get("style", "")))
    text = _text(element)
    if NUMERIC.fullmatch(text):
        text = re.sub(r"^-(?=[\d.])", "−", text)  # a minus sign as wide as a plus
    return Cell(
        text=text,
        colspan=_span(element, "colspan"),
        rowspan=_span(element, "rowspan"),
        header=element.name == "th",
        bold=style.get("font-weight", "") in ("bold", "bolder", "600", "700"),
        italic=style.get("font-style", "") == "italic",
        color=_colour(style.get("color", "")),
        background=_colour(style.get("background-color", "") or style.get("background", "")),
    )


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


def _colour(value: str) -> str:
    return value if COLOUR.fullmatch(value) else ""


def _alignments(body: list[Row], columns: int) -> list[str]:
    """Numbers to the right, words to the left."""
    texts: list[list[str]] = [[] for _ in range(columns)]
    for cell in (cell for row in body for cell in row if cell.colspan == 1):
        texts[cell.column].append(cell.text)
    return ["right" if any(column) and all(map(_numeric_line, column)) else "left" for column in texts]


def _numeric_line(text: str) -> bool:
    return NUMERIC.fullmatch(text) is not None
