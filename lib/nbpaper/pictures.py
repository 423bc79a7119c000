"""Finds out whether a picture can be shown at all: a damaged one would leave a hole in the page."""

from __future__ import annotations

from xml.etree import ElementTree

SIGNATURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
    "application/pdf": b"%PDF",
}


def check_picture(data: bytes, mime: str) -> None:
    """Raise `ValueError` when the bytes are not a picture of the kind `mime`."""
    if mime == "image/svg+xml":
        try:
            ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise ValueError(f"not {mime}: {error}") from error
    elif not data.startswith(SIGNATURES.get(mime, b"")):
        raise ValueError(f"not {mime}")
