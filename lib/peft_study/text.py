"""Numbers and names as text: for a terminal, a table or a sentence."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "–"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    units = ((86_400, "days"), (3600, "hours"), (60, "minutes"))
    unit, name = next((pair for pair in units if seconds >= 2 * pair[0]), (1, "seconds"))
    return f"{seconds / unit:,.3g} {name}"


def size(count: float) -> str:
    """A number of bytes, as disks are sold and files are listed."""
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if count >= pair[0]), (1e3, "kB"))
    return f"{count / unit:,.3g} {name}"


def listed(items: Iterable[str]) -> str:
    """Items in a sentence: `a, b and c`."""
    items = list(items)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def points(value: float) -> str:
    """A signed number of accuracy points; what rounds to nothing has no sign, and NaN is a dash."""
    if value != value:
        return UNKNOWN
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def p_text(value: float) -> str:
    """A p-value as text."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def numbers(values: "pd.Series[float]", form: str) -> "pd.Series[str]":
    """Numbers in the format `form`, and a dash for each that no record holds."""
    return values.map(lambda value: UNKNOWN if value != value or value is None else form.format(value))


def markdown_escape(text: str) -> str:
    """Text that Markdown shows as it is: every ASCII punctuation mark behind a backslash."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
