"""Finds characters that no font of the PDF can draw, so that their names stand where boxes would.

Typst brings fonts for Latin, Greek, Cyrillic, Hebrew and mathematics; matplotlib's DejaVu Sans adds Arabic and many
symbols. Neither has Chinese, Japanese, Korean, the scripts of southern Asia, or the coloured emoji.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

BEYOND_TYPST = re.compile("[\u0590-\u1cff\u2e80-\ud7ff\uf900-\ufaff\U0001f000-\U0003ffff]")
"""Scripts that the fonts inside Typst lack, at least in part."""

BROADEST = "DejaVuSans.ttf"


def unprintable(text: str, folders: list[str]) -> dict[str, str]:
    """The characters in `text` without a glyph in Typst's fonts or those in `folders`, and what to show for each."""
    beyond = set(BEYOND_TYPST.findall(text))
    if not beyond:
        return {}
    covered = set().union(*(_covered(Path(folder) / BROADEST) for folder in folders))
    return {char: _shown(char) for char in sorted(beyond) if ord(char) not in covered}


@cache
def _covered(font: Path) -> frozenset[int]:
    from fontTools.ttLib import TTFont

    return frozenset(TTFont(font).getBestCmap()) if font.is_file() else frozenset()


def _shown(char: str) -> str:
    """A picture by its name, which can be read; a letter, whose name could not, by its code point."""
    name = unicodedata.name(char, "") if unicodedata.category(char) == "So" else ""
    return name.lower() or f"U+{ord(char):04X}"
