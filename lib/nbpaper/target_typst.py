"""Writes outputs as Typst. Untrusted text only ever travels inside string literals, so it cannot act as markup."""

from __future__ import annotations

from nbconvert.filters import strip_ansi

from nbpaper.table_grid import Cell
from nbpaper.tables import Table

MAX_LINES = 40
"""Longer text is cut in its middle: a paper is no place for a log."""

WRAP_ABOVE = 34
"""Columns with longer cells than this many characters share the width that is left and wrap."""

PAGE_WIDTH = 105
"""Characters of a table's size that fit side by side on a page."""


class TypstTarget:
    """What `HtmlTarget` does, for Typst. `files` collects the images that the document refers to, by name."""

    name = "PDF"
    lacks = "only the HTML page can show"
    shows_code = False
    image_types = ("image/svg+xml", "application/pdf", "image/png", "image/jpeg", "image/gif", "image/webp")

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def add_file(self, data: bytes, mime: str) -> str:
        """Keep an image for the compiler and return the name it can be found under."""
        suffix = mime.partition("/")[2].removesuffix("+xml")
        name = f"image-{len(self.files) + 1:03}.{suffix}"
        self.files[name] = data
        return name

    def image(self, data: bytes, mime: str, alt: str) -> str:
        return f"#paper-image({typst_string(self.add_file(data, mime))}, alt: {typst_string(alt)})"

    def table(self, table: Table) -> str:
        table = table.with_narrow_head(PAGE_WIDTH)
        widths = table.column_widths()
        columns = ", ".join(f"{min(width, 100)}fr" if width > WRAP_ABOVE else "auto" for width in widths)
        wraps = any(width > WRAP_ABOVE for width in widths)
        arguments = [f"columns: ({columns},)", f"align: ({', '.join(table.alignments)},)"]
        rows = [_header(table), *(_body_row(table, index) for index in range(len(table.body)))]
        options = f"wraps: {_flag(wraps)}, long: {_flag(table.is_long)}"
        return f"#paper-table({options}, table({', '.join(arguments)},\n{''.join(rows)}))"

    def text(self, text: str) -> str:
        return f"#paper-text({typst_string(_shortened(text))})"

    def stream(self, name: str, text: str) -> str:
        return ""  # a paper is no place for what a program printed

    def error(self, name: str, message: str, traceback: list[str]) -> str:
        return f"#paper-error({typst_string(_shortened(f'{name}: {message}'))})"

    def fragment(self, html: str) -> str:
        return ""  # Typst cannot show HTML: the output's Markdown or text stands in for it

    def gap(self, text: str) -> str:
        return f"#paper-gap({typst_string(text)})"


def typst_string(text: str) -> str:
    """A Typst string literal."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(char, char) for char in text) + '"'


def _header(table: Table) -> str:
    if not table.head:
        return ""
    lines = []
    for index, row in enumerate(table.head):
        lines.append("".join(f"{_cell(cell, table.alignments[cell.column])}, " for cell in row) + "\n")
        if index < len(table.head) - 1:  # a thin rule under every header that spans columns
            spans = [cell for cell in row if cell.colspan > 1 and cell.text]
            lines += [f"span-rule({cell.column}, {cell.column + cell.colspan}),\n" for cell in spans]
    return f"table.header(\n{''.join(lines)}),\nhead-rule,\n"


def _body_row(table: Table, index: int) -> str:
    rule = "group-rule,\n" if table.starts_group(index) else ""
    return rule + "".join(f"{_cell(cell)}, " for cell in table.body[index]) + "\n"


def _cell(cell: Cell, side: str = "") -> str:
    """A cell; a heading names the `side` it is aligned to, and stands at the foot of its row."""
    text = typst_string(cell.text)
    options = [
        f"colspan: {cell.colspan}, align: center" if cell.colspan > 1 else f"align: {side} + bottom" if side else "",
        f"rowspan: {cell.rowspan}" if cell.rowspan > 1 else "",
    ]
    arguments = ", ".join(option for option in options if option)
    return f"table.cell({arguments}, {text})" if arguments else text


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _shortened(text: str) -> str:
    """The text without terminal colours, and at most `MAX_LINES` of its lines."""
    lines = strip_ansi(text).rstrip("\n").split("\n")
    if len(lines) > MAX_LINES:
        half = MAX_LINES // 2
        lines[half:-half] = [f"… {len(lines) - MAX_LINES} lines omitted …"]
    return "\n".join(lines)
