"""The typeface of text and figures, STIX, and fallback fonts for other scripts and emoji.

matplotlib brings STIX and DejaVu Sans, packages bring Noto's fonts of single scripts and its font for Chinese, Japanese
and Korean. Figures are laid out with these files, the PDF embeds what it sets, and a page carries the glyphs that its
text and figures need, so that a paper looks the same on a machine without fonts.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

FOLDERS = {"manimgx_fonts": ".", "noto_cjk_sans_jp_regular": ".", "matplotlib": "mpl-data/fonts/ttf"}
"""Packages with fonts, and the folder of the fonts in each."""

TYPEFACE = "STIXGeneral"
"""The font family of text and figures."""

FACES = {
    "STIXGeneral.ttf": "",
    "STIXGeneralBol.ttf": "font-weight: 700;",
    "STIXGeneralItalic.ttf": "font-style: italic;",
    "STIXGeneralBolIta.ttf": "font-weight: 700; font-style: italic;",
}
"""The files of `TYPEFACE`, with how a page names what they are for."""

ITALIC = frozenset([0x210E, *range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C)])
"""What browsers make of single letters in formulas."""

FALLBACKS = ("NotoEmoji*", "NotoSans[!-[]*", "DejaVuSans.ttf", "STIXGeneral.ttf")
"""The fallback fonts in `FOLDERS`, in order of preference, without Noto's Latin fonts."""

FAMILY = "nbpaper"
"""The font family of the glyphs of fallback fonts that a page embeds."""

EVERYWHERE = re.compile("[\\s\u0000-\u058f\u1e00-\u23ff\u2500-\u25ff]")
"""Latin, Greek and Cyrillic letters and common signs, which the fonts of Typst have."""

JOINERS = frozenset(map(ord, "\u200c\u200d\u25cc\ufe0e\ufe0f"))
"""Code points that join the letters of some scripts, and emoji."""

HIDDEN = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors: they choose a glyph and have none."""

CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that reverse the direction of text."""

UNUSED = ["fvar", "gvar", "avar", "HVAR", "MVAR", "STAT", "DSIG", "FFTM", "vhea", "vmtx", "VORG", "BASE"]
"""Font tables that upright text of regular weight does not need."""


@cache
def folders() -> list[str]:
    """The folders of fonts in the installed packages."""
    specs = [(importlib.util.find_spec(package), place) for package, place in FOLDERS.items()]
    return [str(Path(spec.origin).parent / place) for spec, place in specs if spec and spec.origin]


@cache
def fallbacks() -> list[Path]:
    """The fallback fonts, in order of preference."""
    return [file for pattern in FALLBACKS for folder in folders() for file in sorted(Path(folder).glob(pattern))]


def visible(text: str) -> str:
    """The text with `CONTROLS` as code points, since they would hide or reverse a part of it."""
    return CONTROLS.sub(lambda match: f"‹U+{ord(match[0]):04X}›", text)


def unprintable(text: str, fonts: Iterable[Path]) -> dict[str, str]:
    """The characters in `text` without a glyph in any of the `fonts`, and what to show for each."""
    special = {char for char in set(text) if not (EVERYWHERE.match(char) or HIDDEN.match(char))}
    missing = {ord(char) for char in special if unicodedata.category(char) != "Cf"}
    for file in fonts:
        if not missing:
            break
        missing -= _covered(file)
    return {char: _shown(char) for char in map(chr, sorted(missing))}


def font_faces(page: str) -> str:
    """Style rules that embed the glyphs of a page: subsets of `TYPEFACE`, and of fallback fonts for what it lacks."""
    folder = Path(folders()[-1])
    missing = {
        ord(char) for char in set(page) if not HIDDEN.match(char) and unicodedata.category(char) not in ("Cc", "Cf")
    }
    upright = missing | (ITALIC if "<math" in page else set())
    wanted = {name: frozenset((missing if use else upright) & _covered(folder / name)) for name, use in FACES.items()}
    rules = [_face(folder / name, chars, TYPEFACE, FACES[name]) for name, chars in wanted.items()]
    missing -= _covered(folder / next(iter(FACES)))
    for file in fallbacks():
        if missing and (found := missing & _covered(file)):
            missing -= found
            rules.append(_face(file, frozenset(found | JOINERS)))
    return "\n".join(rules)


@cache
def _covered(font: Path) -> frozenset[int]:
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(font, lazy=True, fontNumber=0) as opened:
            return frozenset(opened.getBestCmap() or ())
    except TTLibError:  # a system font in another format
        return frozenset()


@lru_cache(8)
def _face(file: Path, chars: frozenset[int], family: str = FAMILY, use: str = "") -> str:
    """A subset of a font as a style rule, in WOFF, since WOFF2 needs another package."""
    from fontTools import subset

    options = subset.Options(flavor="woff", drop_tables=[*subset.Options().drop_tables, *UNUSED], hinting=False)
    subsetter, buffer = subset.Subsetter(options), io.BytesIO()
    subsetter.populate(unicodes=chars)
    with subset.load_font(str(file), options) as font:
        subsetter.subset(font)
        subset.save_font(font, buffer, options)
    data = base64.b64encode(buffer.getvalue()).decode()
    scope = ",".join(f"U+{char:X}" for char in sorted(chars))
    source = f"src: url(data:font/woff;base64,{data}); unicode-range: {scope};"
    return f"@font-face {{ font-family: {family}; {use} {source} }}"


def _shown(char: str) -> str:
    """A picture by its name, which can be read; a letter, whose name could not, by its code point."""
    name = unicodedata.name(char, "") if unicodedata.category(char) == "So" else ""
    return name.lower() or f"U+{ord(char):04X}"
