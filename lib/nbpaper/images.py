"""Pictures: whether one can be shown at all, and those that Markdown cells refer to.

Markdown may name files next to the notebook, attachments and data URIs. The Lua reader replaces every such address by
`local-image:CELL:ADDRESS`, encoded, and this module replaces that by whatever the target needs. A missing or damaged
picture is an error, since the paper would have a hole there.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable
from urllib.parse import unquote, unquote_to_bytes
from xml.etree import ElementTree

from nbpaper.errors import PaperError
from nbpaper.paper import Paper

MARK = re.compile(r"local-image:(\d+):((?:[A-Za-z0-9]|_[0-9A-F]{2})*)")
DATA_URI = re.compile(r"data:([\w/+.-]+)[^,]*?(;base64)?,(.*)", re.DOTALL)
SIGNATURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
    "application/pdf": b"%PDF",
}


def check_image(data: bytes, mime: str) -> None:
    """Raise `ValueError` when the bytes are not a picture of the kind `mime`."""
    if mime == "image/svg+xml":
        try:
            ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise ValueError(f"not {mime}: {error}") from error
    elif mime not in SIGNATURES:
        raise ValueError(f"{mime} is of an unknown kind")
    elif not data.startswith(SIGNATURES[mime]):
        raise ValueError(f"not {mime}")


def place_images(document: str, paper: Paper, place: Callable[[bytes, str], str]) -> str:
    """Replace every marked address by `place(data, mime)`."""

    def replacement(match: re.Match[str]) -> str:
        number, address = int(match.group(1)), unquote(match.group(2).replace("_", "%"))
        try:
            data, mime = _read(address, number, paper)
            check_image(data, mime)
        except (PaperError, ValueError, KeyError) as error:  # binascii.Error is a ValueError
            raise PaperError.in_cell(number, f"image {address[:80]!r} cannot be read: {error}") from error
        return place(data, mime)

    return MARK.sub(replacement, document)


def _read(address: str, number: int, paper: Paper) -> tuple[bytes, str]:
    uri = DATA_URI.fullmatch(address)
    if uri:
        mime, is_base64, text = uri.groups()
        return (base64.b64decode(text) if is_base64 else unquote_to_bytes(text)), mime
    if address.startswith("attachment:"):
        (node,) = (cell.node for cell in paper.cells if cell.number == number)
        ((mime, text),) = node.attachments[address.removeprefix("attachment:")].items()
        return base64.b64decode(text), mime
    path = paper.file(unquote(address), "file")
    return path.read_bytes(), mimetypes.guess_type(path.name)[0] or "unknown"
