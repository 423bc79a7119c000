"""Texts as HTML: in the colour of their class, words coloured by effect. All external text is escaped here."""

import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from IPython.display import HTML
from matplotlib.colors import to_hex

from peft_study.analysis.masking import Explanation
from peft_study.analysis.windows import Window
from peft_study.report.class_figures import colour as class_colour
from peft_study.report.display import RULE
from peft_study.report.figures import GREY
from peft_study.text import SEPARATOR

CUT = 'style="opacity:.45;text-decoration:line-through"'
UNKNOWN = 'style="outline:1px dotted"'
STRONGEST = 2.0  # nats of an effect in full colour: nine of ten are weaker (NOTES.md)
LEGEND = (
    "A word's colour shows how far the log-odds of {} fall (minus: rise) when that word alone is masked; the scale is "
    "the same for all texts, and pointing at a word shows the value. A strong colour: here the log-odds depend "
    "on the word. A pale one: not on this word alone; two redundant words can both be pale. Effects do not add up to "
    "the log-odds, and all words may favour a class that is not predicted. Dotted outline: read as [UNK]. Struck "
    "through: outside the window."
)
Word = tuple[int, int, float]  # start, end and effect of a word in its text


class Side(NamedTuple):
    """The class that effects of one sign support, and its colour."""

    name: str
    colour: str


def line(text: str, further: str = "") -> HTML:
    """A line of plain text, and `further` HTML."""
    return HTML(f'<p style="line-height:1.5;max-width:60rem;margin:.4em 0">{escape(text)}{further}</p>')


def alert(text: str) -> HTML:
    """The message of an error in place of a result."""
    style = "border-left:3px solid #b00020;padding:.3em .9em;white-space:pre-wrap;line-height:1.4"
    return HTML(f'<div role="alert" style="{style}">{escape(text)}</div>')


def sides(names: Sequence[str], target: int) -> tuple[Side, Side]:
    """What negative and positive effects support: the two classes, or the others and the `target`."""
    below = Side("any other class", GREY) if len(names) > 2 else Side(names[1 - target], class_colour(1 - target))
    return below, Side(names[target], class_colour(target))


def tint(effect: float, sides: tuple[Side, Side]) -> str:
    """The colour of an effect, the same in every text: of the class it supports, full from `STRONGEST` on."""
    return to_hex((sides[effect > 0].colour, 0.65 * min(1, abs(effect) / STRONGEST)), keep_alpha=True)


def coloured(text: str, words: Sequence[Word], window: Window, sides: tuple[Side, Side], search: str = "") -> str:
    """A text whose words have the `tint` of their effect; what was searched for is marked, truncated text struck."""
    tints = [
        ((start, end), f'style="background:{tint(effect, sides)}" title="{effect:+z.2f} nats"')
        for start, end, effect in words
    ]
    return marked(text, tints, window, search)


def legend(verdict: Explanation, sides: tuple[Side, Side]) -> HTML:
    """The log-odds of a text, the scale of the colours, and how to read them."""
    below, above = (escape(side.name) for side in sides)
    scale = f"linear-gradient(to right,{tint(-STRONGEST, sides)},transparent,{tint(STRONGEST, sides)})"
    odds = f"{verdict.log_odds:+z.2f} nats; with every word masked: {verdict.log_odds_without:+z.2f}."
    return line(
        f"Log-odds of {sides[1].name}: {odds}",
        f"<br>{below}, −{STRONGEST:g} nats or less "
        f'<span style="display:inline-block;width:12rem;height:.8em;background:{scale}"></span> '
        f"{above}, +{STRONGEST:g} nats or more<br>{LEGEND.format(above)}",
    )


def marked(
    text: str,
    spans: Sequence[tuple[tuple[int, int], str]] = (),
    window: Window | None = None,
    search: str = "",
) -> str:
    """A text with attributes on its spans, the words of a search highlighted, and what its window does to it.

    Unknown tokens are framed, and of a truncated text the gaps between spans are struck through.
    """
    sought = re.compile("|".join(map(re.escape, search.split())) or "(?!)", re.IGNORECASE)
    hits = {place for found in sought.finditer(text) for place in range(*found.span())}

    def shown(start: int, end: int) -> str:
        parts = (
            (hit, escape("".join(text[i] for i in run)).replace(SEPARATOR, RULE))
            for hit, run in groupby(range(start, end), hits.__contains__)
        )
        return "".join(f"<mark>{part}</mark>" if hit else part for hit, part in parts)

    parts, reached = [], 0
    for (start, end), attributes in [*spans, ((len(text), len(text)), "")]:
        start = max(start, reached)  # two pieces of one character or word have the same span
        between, inside = shown(reached, start), shown(start, end)
        parts.append(f"<span {CUT}>{between}</span>" if window and window.is_cut and between.strip() else between)
        if window and any(start <= first < last <= end for first, last in window.unknown):
            inside = f"<span {UNKNOWN}>{inside}</span>"
        parts.append(f"<span {attributes}>{inside}</span>" if attributes else inside)
        reached = max(reached, end)
    return "".join(parts)


def windowed(text: str, window: Window, search: str = "") -> str:
    """A text with the part outside the window struck through."""
    return marked(text, [(span, "") for span in window.spans if span], window, search)


def save(name: str, data: str) -> HTML:
    """A link that saves `data` as the file `name`."""
    encoded = b64encode(data.encode()).decode()
    link = f'<a download="{escape(name)}" href="data:application/octet-stream;base64,{encoded}">save {escape(name)}</a>'
    return HTML(f'<p style="margin:.2em 0;font-size:90%">{link}</p>')
