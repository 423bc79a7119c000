"""Chooses which representation of an output a paper shows, in the order of preference of its target."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Literal

from bs4 import BeautifulSoup
from nbformat import NotebookNode

from nbpaper.images import check_image
from nbpaper.style import COLUMN
from nbpaper.tables import Table, parse_table
from nbpaper.target_html import HtmlTarget
from nbpaper.target_typst import TypstTarget

Target = HtmlTarget | TypstTarget

WIDGET = "application/vnd.jupyter.widget-view+json"
SVG_WIDTH = re.compile(rb'<svg[^>]* width="([\d.]+)pt"')
OBJECT_REPR = re.compile(r"<[^<>\n]*>")


@dataclass(frozen=True)
class Shown:
    """One output as the paper shows it. `text` is in the target's language, or Markdown when `kind` says so.

    `wide`: a drawing that is wider than a column of the PDF.
    """

    kind: Literal["image", "table", "markdown", "text"]
    text: str
    table: Table | None = None
    wide: bool = False


def show(output: NotebookNode, target: Target, alt: str) -> Shown | None:
    """Render an output, or return None when the target leaves it out.

    Raises `ValueError` for a damaged picture.
    """
    if output.output_type == "stream":
        text = target.stream(output.name, output.text)
        return Shown("text", text) if text else None
    if output.output_type == "error":
        return Shown("text", target.error(output.ename, output.evalue, output.traceback))
    return None if WIDGET in output.data else _show_bundle(output.data, target, alt)


def _show_bundle(data: dict[str, str], target: Target, alt: str) -> Shown | None:
    html = data.get("text/html", "")
    table = parse_table(html)
    if table:
        return Shown("table", target.table(table), table)
    mime = next((mime for mime in target.image_types if mime in data), None)
    if mime:
        picture = data[mime].encode() if mime == "image/svg+xml" else base64.b64decode(data[mime])
        check_image(picture, mime)
        width = SVG_WIDTH.search(picture[:2000]) if mime == "image/svg+xml" else None
        wide = width is not None and float(width[1]) > 72 * (COLUMN + 0.3)
        return Shown("image", target.image(picture, mime, alt), wide=wide)
    fragment = target.fragment(html)
    if fragment:
        return Shown("text", fragment)
    for markdown in ("text/markdown", "text/latex"):
        if markdown in data:
            return Shown("markdown", data[markdown])
    plain = data.get("text/plain", "")
    if not plain or (html and OBJECT_REPR.fullmatch(plain)):
        return None
    return Shown("text", target.text(plain))


def is_visible(html: str) -> bool:
    """Whether a browser would show anything of the HTML: scripts and style sheets do not count."""
    soup = BeautifulSoup(html, "html.parser")
    return bool(soup.get_text(strip=True) or soup.find(["img", "svg", "canvas", "iframe", "video", "object"]))
