"""Texts as HTML: in the colour of their class, words coloured by effect. All external text is escaped here."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import pandas as pd
from IPython.display import HTML
from matplotlib.colors import to_hex

from peft_study.analysis.windows import Window
from peft_study.report.class_figures import colour as class_colour
from peft_study.report.figures import GREY

CUT = 'style="opacity:.45;text-decoration:line-through"'
LEGEND = (
    "A word has the colour of the class it favours (grey: any other class), stronger the more it counts: point at it "
    "for the change of the log-odds, in nats, when it alone is masked. Effects do not add up. Struck through: not read."
)
Word = tuple[int, int, float]  # start, end and effect of a word in its text


class Side(NamedTuple):
    """The class that effects of one sign support, and its colour."""

    name: str
    colour: str


def line(text: str) -> HTML:
    """A line of plain text."""
    return HTML(f'<p style="line-height:1.5;max-width:60rem;margin:.4em 0">{escape(text)}</p>')


def windowed(text: str, window: Window) -> str:
    """A text with the part outside the window struck through."""
    return marked(text, [(span, "") for span in window.spans if span], window.is_cut)


def sides(names: Sequence[str], target: int) -> tuple[Side, Side]:
    """What negative and positive effects support: the two classes, or the others and the `target`."""
    below = Side("any other class", GREY) if len(names) > 2 else Side(names[1 - target], class_colour(1 - target))
    return below, Side(names[target], class_colour(target))


def coloured(text: str, words: Sequence[Word], window: Window, sides: tuple[Side, Side]) -> str:
    """A text whose words have the colour of the class they support, scaled by effect; truncated text is struck."""
    strongest = max((abs(effect) for *_, effect in words), default=0) or 1
    tints = []
    for start, end, effect in words:
        colour = to_hex((sides[effect > 0].colour, 0.65 * abs(effect) / strongest), keep_alpha=True)
        tints.append(((start, end), f'style="background:{colour}" title="{effect:+.2f}"'))
    return marked(text, tints, window.is_cut)


def strongest(text: str, words: Sequence[Word], sides: tuple[Side, Side], count: int = 8) -> pd.DataFrame:
    """The words with the largest effects, as a table."""
    ranked = sorted(words, key=lambda word: -abs(word[2]))[:count]
    rows = [(text[start:end], sides[effect > 0].name, f"{effect:+.2f}") for start, end, effect in ranked]
    return pd.DataFrame(rows, columns=["word", "speaks for", "effect (nats)"], index=range(1, len(rows) + 1))


def marked(text: str, spans: Sequence[tuple[tuple[int, int], str]], is_cut: bool) -> str:
    """A text with attributes on its spans; if it `is_cut`, the gap between spans is struck through."""
    parts, reached = [], 0
    for (start, end), attributes in [*spans, ((len(text), len(text)), "")]:
        start = max(start, reached)  # two pieces of one character or word have the same span
        between, inside = escape(text[reached:start]), escape(text[start:end])
        parts.append(f"<span {CUT}>{between}</span>" if is_cut and between.strip() else between)
        parts.append(f"<span {attributes}>{inside}</span>" if attributes else inside)
        reached = max(reached, end)
    return "".join(parts)
