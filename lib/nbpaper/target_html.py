"""Writes outputs as HTML. Everything ends up inside the page: images as data URIs, foreign HTML sanitised."""

from __future__ import annotations

import base64
from html import escape

import bleach
from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer
from bs4 import BeautifulSoup
from nbconvert.filters import ansi2html, strip_ansi

from nbpaper.inline_svg import inline_svg
from nbpaper.table_grid import Cell
from nbpaper.tables import Table

FOLD_ABOVE = 15
"""Streams and results with more lines than this are folded."""

WORDY = 30
"""Columns with longer cells than this many characters are not squeezed to a word a line."""

DENSE = 8
"""Tables of more columns than this are set smaller and closer."""

_TAGS = """
a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h3 h4 h5 h6 hr i img
ins kbd li mark ol p pre q s samp section small span strong sub summary sup table tbody td tfoot th thead tr u ul
var wbr
"""
SAFE_TAGS = frozenset(_TAGS.split())
SAFE_STYLES = {"border", "border-left", "border-radius", "margin", "max-width", "padding"}  # none moves out of its box
SAFE_ATTRIBUTES = ["title", "lang", "dir", "style", "open", "colspan", "rowspan", "scope", "alt", "width", "height"]


class HtmlTarget:
    """Writes what outputs hold as HTML: every method returns text in the language of its target."""

    name = "html"
    lacks = "needs scripts or the network, and cannot be shown"  # why an output is missing
    image_types = ("image/svg+xml", "image/png", "image/jpeg", "image/gif", "image/webp")
    shows_code = True

    def __init__(self) -> None:
        self._drawings = 0

    def image(self, data: bytes, mime: str, alt: str) -> str:
        """A picture."""
        if mime == "image/svg+xml":
            self._drawings += 1
            drawing = inline_svg(data, alt, prefix=f"drawing-{self._drawings}-")
            if drawing:
                return drawing
        return f'<img src="{data_uri(data, mime)}" alt="{escape(alt)}">'

    def table(self, table: Table) -> str:
        """A table with rules and spans; one of more than three columns becomes a card a row on a phone."""
        head = "".join(_row(row, table, "col") for row in table.head)
        body = "".join(_body_row(table, index) for index in range(len(table.body)))
        columns = len(table.alignments)
        kind = "cards dense" if columns > DENSE else "cards" if columns > 3 and table.head else ""
        return (
            f'<div class="table-scroll" role="group" aria-label="Table" tabindex="0"><table class="{kind}">'
            f"<thead>{head}</thead><tbody>{body}</tbody></table></div>"
        )

    def text(self, text: str) -> str:
        """Plain text as it is, long text folded or shortened."""
        return _folded("result", "Result", text)

    def stream(self, name: str, text: str) -> str:
        """What a cell printed to the stream `name`; empty where the target leaves it out."""
        if not text.strip():
            return ""
        if name == "stderr":
            return _details("stream", f"Messages ({_counted(text)})", text)
        return _folded("stream", "Output", text)

    def error(self, name: str, message: str, traceback: list[str]) -> str:
        """That a cell failed, and why."""
        title = f'<p class="error-title">This cell failed: {escape(strip_ansi(f"{name}: {message}"))}</p>'
        return f'<div class="error">{title}{_details("traceback", "Traceback", chr(10).join(traceback))}</div>'

    def fragment(self, html: str) -> str:
        """HTML that is not a table, made harmless; empty where the target cannot show it."""
        clean = sanitised(html) if html else ""
        return f'<div class="fragment">{clean}</div>' if clean.strip() else ""

    def gap(self, text: str) -> str:
        """A line in place of a missing output."""
        return f'<p class="gap">{escape(text)}</p>'


def data_uri(data: bytes, mime: str) -> str:
    """The bytes as a `data:` address."""
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def sanitised(html: str) -> str:
    """The HTML without anything that runs, loads, or reaches outside its own box."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.find_all(["script", "style", "template", "noscript", "iframe", "object", "svg"]):
        element.decompose()
    clean: str = bleach.clean(
        str(soup),
        tags=SAFE_TAGS,
        attributes={"*": SAFE_ATTRIBUTES, "a": _safe_link_attribute, "img": _safe_image_attribute},
        protocols=["http", "https", "mailto", "data"],
        css_sanitizer=CSSSanitizer(allowed_css_properties=ALLOWED_CSS_PROPERTIES | SAFE_STYLES),
        strip=True,
    )
    return clean


def _safe_link_attribute(_tag: str, name: str, value: str) -> bool:
    return name == "href" and not value.strip().lower().startswith("data:")


def _safe_image_attribute(_tag: str, name: str, value: str) -> bool:
    return name in ("alt", "width", "height") or (name == "src" and value.startswith("data:image/"))


def _row(row: list[Cell], table: Table, scope: str) -> str:
    return f"<tr>{''.join(_cell(cell, table, scope) for cell in row)}</tr>"


def _body_row(table: Table, index: int) -> str:
    """A row of the body; cells that reach down from above stand in it once more, for its card."""
    above = (cell for i, row in enumerate(table.body[:index]) for cell in row if i + cell.rowspan > index)
    again = "".join(f'<td class="again"{_label(cell, table)}>{escape(cell.text)}</td>' for cell in above)
    opening = '<tr class="group">' if table.starts_group(index) else "<tr>"
    return f"{opening}{again}{''.join(_cell(cell, table, 'row') for cell in table.body[index])}</tr>"


def _label(cell: Cell, table: Table) -> str:
    """What the heading of a cell's column says."""
    over = (h.text for row in table.head for h in row if h.column <= cell.column < h.column + h.colspan)
    heading = " ".join(filter(None, over)).replace("\n", " ")
    return f' data-label="{escape(heading)}"' if heading else ""


def _cell(cell: Cell, table: Table, scope: str) -> str:
    header = bool(cell.text) and (scope == "col" or cell.header)  # an empty header is no header to a screen reader
    spans_columns = cell.colspan > 1
    wordy = " wordy" if len(cell.text) > WORDY and scope == "row" else ""
    attributes = f' class="{"center" if spans_columns else table.alignments[cell.column]}{wordy}"'
    if scope == "row":
        attributes += _label(cell, table)
    if header:
        attributes += f' scope="{scope}{"group" if spans_columns or cell.rowspan > 1 else ""}"'
    if spans_columns:
        attributes += f' colspan="{cell.colspan}"'
    if cell.rowspan > 1:
        attributes += f' rowspan="{cell.rowspan}"'
    name = "th" if header else "td"
    return f"<{name}{attributes}>{escape(cell.text).replace(chr(10), '<br>')}</{name}>"


def _folded(kind: str, title: str, text: str) -> str:
    if _lines(text) > FOLD_ABOVE:
        return _details(kind, f"{title} ({_counted(text)})", text)
    return f'<pre class="{kind}" tabindex="0">{_terminal(text)}</pre>'


def _details(kind: str, summary: str, text: str) -> str:
    block = f'<pre tabindex="0">{_terminal(text)}</pre>'
    return f'<details class="{kind}"><summary>{escape(summary)}</summary>{block}</details>'


def _counted(text: str) -> str:
    return "1 line" if _lines(text) == 1 else f"{_lines(text)} lines"


def _lines(text: str) -> int:
    return text.rstrip("\n").count("\n") + 1


def _terminal(text: str) -> str:
    """Terminal colours as classes; everything else escaped."""
    return str(ansi2html(text.rstrip("\n")))
