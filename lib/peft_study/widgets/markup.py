"""Reviews as HTML: in the colour of their class, their words by effect. Every text from outside is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import pandas as pd
from IPython.display import HTML
from matplotlib.colors import to_rgb

from peft_study.analysis.windows import Window
from peft_study.report import display
from peft_study.report.class_figures import colour as class_colour
from peft_study.report.figures import GREY

CUT = 'style="opacity:.45;text-decoration:line-through"'
Word = tuple[int, int, float]  # start, end and effect of a word in its text


class Side(NamedTuple):
    """What an effect of one sign speaks for, and its colour."""

    name: str
    colour: str


def line(text: str) -> HTML:
    """A line of plain text."""
    return HTML(f'<p style="line-height:1.5;max-width:60rem;margin:.4em 0">{escape(text)}</p>')


def review(heading: Iterable[str], label: int, body: str) -> HTML:
    """A review as a card in the colour of its class, under a `heading`; `body` is HTML already."""
    return HTML(f'<div style="line-height:1.5">{display.card(" · ".join(heading), body, label)}</div>')


def windowed(text: str, window: Window) -> str:
    """A text in which what the window leaves out is struck through."""
    return marked(text, [(span, "") for span in window.spans if span], window.is_cut)


def sides(names: Sequence[str], target: int) -> tuple[Side, Side]:
    """What effects below and above zero speak for: the two classes, or of more the others and the `target`."""
    below = Side("any other class", GREY) if len(names) > 2 else Side(names[1 - target], class_colour(1 - target))
    return below, Side(names[target], class_colour(target))


def coloured(text: str, words: Sequence[Word], window: Window, sides: tuple[Side, Side]) -> str:
    """A text whose words have the colour of the side they speak for, the strongest in full; what is cut is struck."""
    strongest = max((abs(effect) for *_, effect in words), default=0) or 1
    tints = [((start, end), _tint(effect, strongest, sides)) for start, end, effect in words]
    return marked(text, tints, window.is_cut)


def legend(sides: tuple[Side, Side]) -> HTML:
    """What the colours of `coloured` mean."""
    below, above = (
        f"<span {_tint(sign, 1, sides)}>&nbsp;{escape(side.name)}&nbsp;</span>"
        for side, sign in zip(sides, (-1, 1), strict=True)
    )
    return HTML(
        f'<p style="line-height:1.5;max-width:60rem;margin:.4em 0">Colour: the word speaks for {below} or {above}. Its '
        "strength is how far the log-odds fall or rise when this one word is masked (in nats; point at a word for "
        "its figure). Effects of several words do not add up. Struck through: not read.</p>"
    )


def strongest(text: str, words: Sequence[Word], sides: tuple[Side, Side], count: int = 8) -> pd.DataFrame:
    """The words with the largest effects, as a table."""
    ranked = sorted(words, key=lambda word: -abs(word[2]))[:count]
    rows = [(text[start:end], sides[effect > 0].name, _signed(effect)) for start, end, effect in ranked]
    return pd.DataFrame(rows, columns=["word", "speaks for", "effect (nats)"], index=range(1, len(rows) + 1))


def _tint(effect: float, strongest: float, sides: tuple[Side, Side]) -> str:
    """Attributes of a word: its side's colour, as opaque as its effect is strong, and its figure."""
    red, green, blue = (round(255 * part) for part in to_rgb(sides[effect > 0].colour))
    opacity = 0.65 * abs(effect) / strongest
    return f'style="background:rgba({red},{green},{blue},{opacity:.2f})" title="{_signed(effect)}"'


def _signed(value: float) -> str:
    """An effect as text, with a sign."""
    return f"{value:+.2f}".replace("-", "−")


def marked(text: str, spans: Sequence[tuple[tuple[int, int], str]], is_cut: bool) -> str:
    """A text with attributes on its spans; where it `is_cut`, what lies between two of them is struck through."""
    parts, reached = [], 0
    for (start, end), attributes in [*spans, ((len(text), len(text)), "")]:
        between, inside = escape(text[reached:start]), escape(text[start:end])
        parts.append(f"<span {CUT}>{between}</span>" if is_cut and between.strip() else between)
        parts.append(f"<span {attributes}>{inside}</span>" if attributes else inside)
        reached = end
    return "".join(parts)
