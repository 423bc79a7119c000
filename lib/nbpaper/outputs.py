"""Chooses which representation of an output a paper shows, in the order of preference of its target."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from nbformat import NotebookNode

from nbpaper.pictures import check_picture
from nbpaper.tables import Table, parse_table

WIDGET = "application/vnd.jupyter.widget-view+json"
OBJECT_REPR = re.compile(r"<[^<>\n]*>|(Text|Axes|Line2D|\[<)\S*.*", re.DOTALL)
TEXT_IMAGES = ("image/svg+xml",)

Kind = Literal["image", "table", "markdown", "text"]


class Target(Protocol):
    """What a target must be able to write. Every method returns text in the target's own language."""

    name: str
    raw_format: str
    image_types: tuple[str, ...]
    shows_code: bool

    def image(self, data: bytes, mime: str, alt: str, size: Mapping[str, Any]) -> str:
        """A picture; `size` is what the notebook says of its `width` and `height`."""
        ...

    def table(self, table: Table) -> str:
        """A table with rules and spans."""
        ...

    def text(self, text: str) -> str:
        """Plain text as it is, long text folded or shortened."""
        ...

    def stream(self, name: str, text: str, asked: bool) -> str:
        """What a cell printed to the stream `name`; empty where the target leaves it out."""
        ...

    def error(self, name: str, message: str, traceback: list[str]) -> str:
        """That a cell failed, and why."""
        ...

    def fragment(self, html: str) -> str:
        """HTML that is not a table, made harmless; empty where the target cannot show it."""
        ...

    def gap(self) -> str:
        """A line that stands for an output which the target cannot show."""
        ...


@dataclass(frozen=True)
class Shown:
    """One output as the paper shows it. `text` is in the target's language, or Markdown when `kind` says so."""

    kind: Kind
    text: str
    table: Table | None = None


def show(output: NotebookNode, target: Target, alt: str, asked: bool) -> Shown | None:
    """Render an output, or return None when the target leaves it out. `asked`: the cell says `#| output: true`.

    Raises `ValueError` for a damaged picture.
    """
    if output.output_type == "stream":
        text = target.stream(output.name, _overwritten(output.text), asked)
        return Shown("text", text) if text else None
    if output.output_type == "error":
        return Shown("text", target.error(output.ename, output.evalue, output.traceback))
    if WIDGET in output.data:
        return None
    return _show_bundle(output.data, output.metadata, target, alt)


def _show_bundle(data: Mapping[str, Any], metadata: Mapping[str, Any], target: Target, alt: str) -> Shown | None:
    html = _joined(data.get("text/html", ""))
    table = parse_table(html)
    if table:
        return Shown("table", target.table(table), table)
    mime = next((mime for mime in target.image_types if mime in data), None)
    if mime:
        size = metadata.get(mime) or {}
        return Shown("image", target.image(_bytes(data[mime], mime), mime, alt, size if isinstance(size, dict) else {}))
    fragment = target.fragment(html) if html else ""
    if fragment:
        return Shown("text", fragment)
    for markdown in ("text/markdown", "text/latex"):
        if markdown in data:
            return Shown("markdown", _joined(data[markdown]))
    plain = _joined(data.get("text/plain", ""))
    if not plain or (html and OBJECT_REPR.fullmatch(plain)):
        return None
    return Shown("text", target.text(plain))


def is_visible(html: str) -> bool:
    """Whether a browser would show anything of the HTML: scripts and style sheets do not count."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "html.parser")
    for element in soup.find_all(["script", "style"]):
        element.decompose()
    return bool(soup.get_text(strip=True) or soup.find(["img", "svg", "canvas", "iframe", "video", "object"]))


def _bytes(value: Any, mime: str) -> bytes:
    text = _joined(value)
    data = text.encode() if mime in TEXT_IMAGES else base64.b64decode(text)
    check_picture(data, mime)
    return data


def _joined(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def _overwritten(text: str) -> str:
    """What a terminal would still show of lines that carriage returns overwrite (progress bars)."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
