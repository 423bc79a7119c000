"""Brings in the images that Markdown cells refer to: files next to the notebook, attachments, data URIs.

The Lua reader replaces every such address by `local-image:CELL:ADDRESS`, encoded, and this module replaces
that by whatever the target needs. A missing image is an error, since the paper would have a hole there.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable
from urllib.parse import unquote, unquote_to_bytes

from nbpaper.errors import PaperError
from nbpaper.pandoc import find_file
from nbpaper.pictures import check_picture
from nbpaper.preprocessor import Paper

MARK = re.compile(r"local-image:(\d+):((?:[A-Za-z0-9]|_[0-9A-F]{2})*)")
DATA_URI = re.compile(r"data:([\w/+.-]+)[^,]*?(;base64)?,(.*)", re.DOTALL)
MIMES = {"image/svg+xml", "image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"}


def place_images(document: str, paper: Paper, place: Callable[[bytes, str], str]) -> str:
    """Replace every marked address by `place(data, mime)`."""

    def replacement(match: re.Match[str]) -> str:
        return place(*_load(_decoded(match.group(2)), int(match.group(1)), paper))

    return MARK.sub(replacement, document)


def _decoded(text: str) -> str:
    return unquote(text.replace("_", "%"))


def _load(address: str, number: int, paper: Paper) -> tuple[bytes, str]:
    try:
        data, mime = _read(address, number, paper)
        check_picture(data, mime)
    except (PaperError, ValueError, KeyError) as error:  # binascii.Error is a ValueError
        raise PaperError.in_cell(number, f"image {address[:80]!r} cannot be read: {error}") from error
    if mime not in MIMES:
        raise PaperError.in_cell(number, f"image {address[:80]!r} is of an unknown kind ({mime})")
    return data, mime


def _read(address: str, number: int, paper: Paper) -> tuple[bytes, str]:
    uri = DATA_URI.fullmatch(address)
    if uri:
        mime, is_base64, text = uri.groups()
        return (base64.b64decode(text) if is_base64 else unquote_to_bytes(text)), mime
    if address.startswith("attachment:"):
        bundle = _attachments(number, paper)[address.removeprefix("attachment:")]
        mime, text = next(iter(bundle.items()))
        return base64.b64decode(text), mime
    path = find_file(unquote(address), paper.folders, "file")
    return path.read_bytes(), mimetypes.guess_type(path.name)[0] or "unknown"


def _attachments(number: int, paper: Paper) -> dict[str, dict[str, str]]:
    cell = next((cell for cell in paper.cells if cell.number == number), None)
    return dict(cell.node.get("attachments", {})) if cell else {}
