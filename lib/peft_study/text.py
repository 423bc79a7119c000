"""Numbers and names as text: for a terminal, a table or a sentence."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "–"
SEPARATOR = "\u2029"  # a pair of texts is one string, with this character (paragraph separator) in between
_JOINERS = "\u200c\u200d\u200e\u200f"  # in Persian, Hindi and emoji; they do not reverse the text after them
NAME = 40  # width of a class name in a list or a heading, in letters


def duration(seconds: float) -> str:
    """A time in seconds, minutes, hours or days."""
    units = ((86_400, "days"), (3600, "hours"), (60, "minutes"))
    unit, name = next((pair for pair in units if seconds >= 2 * pair[0]), (1, "seconds"))
    return f"{seconds / unit:,.3g} {name}"


def size(count: float) -> str:
    """A number of bytes in decimal units (kB, MB, GB)."""
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if count >= pair[0]), (1e3, "kB"))
    return f"{count / unit:,.3g} {name}"


def listed(items: Iterable[str]) -> str:
    """Items in a sentence: `a, b and c`."""
    items = list(items)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def several(items: Sequence[str], most: int) -> str:
    """Items with commas; of more than `most`, the first ones and how many more there are."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most:,} more"


def class_list(names: Sequence[str]) -> str:
    """The names of up to twelve classes, `shortened`, and how many more there are."""
    return several([shortened(name, NAME) for name in names], 12)


def points(value: float) -> str:
    """A signed number of points; zero after rounding has no sign, and NaN is a dash."""
    if value != value:
        return UNKNOWN
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def portion(share: float) -> str:
    """A share, before what it is one of: `67% of`; one above 1 is a multiple: `1.2 times`."""
    percent = 100 * share
    return f"{share:.3g} times" if percent >= 100.5 else f"{percent:{'.2g' if percent < 10 else '.0f'}}% of"


def p_text(value: float) -> str:
    """A p-value as text; NaN is a dash."""
    if value != value:
        return UNKNOWN
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def numbers(values: "pd.Series[float]", form: str) -> "pd.Series[str]":
    """Numbers in the format `form`, with a dash for missing ones."""
    return values.map(lambda value: UNKNOWN if value != value or value is None else form.format(value))


def each_part(change: Callable[[str], str], text: str) -> str:
    """A text, or both parts of a pair, changed."""
    return SEPARATOR.join(map(change, text.split(SEPARATOR)))


def printable(text: str) -> str:
    """Text on one line, with characters that are invisible or reverse the text as code points: `‹U+202E›`."""
    hidden = {char for char in text if unicodedata.category(char)[0] == "C" and char not in _JOINERS}
    return "".join(f"‹U+{ord(char):04X}›" if char in hidden else char for char in " ".join(text.split()))


def shortened(text: str, most: int) -> str:
    """`printable` text, cut where it is wider than `most` letters; a Chinese character has the width of two."""
    from wcwidth import clip, width

    text = printable(text)
    return text if width(text) <= most else f"{clip(text, 0, most - 1).rstrip()}…"


def markdown_escape(text: str) -> str:
    """Text on one line with every ASCII punctuation mark escaped for Markdown."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))
