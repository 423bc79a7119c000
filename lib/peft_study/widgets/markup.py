"""HTML for what panels show: figures, tables, reviews. Every text that comes from outside is escaped here."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from peft_study.data.tokenization import Window
from peft_study.report import display as show
from peft_study.report.class_figures import colour as class_colour
from peft_study.report.figures import GREY

ZOOM = 1.4  # figures have the size of a page's column; a screen is read from further away
_CUT = "opacity:.45;text-decoration:line-through"


def picture(figure: Figure, alt: str) -> str:
    """A figure as an image in the page, described by `alt`."""
    file = BytesIO()
    figure.savefig(file, format="svg")
    data = base64.b64encode(file.getvalue()).decode()
    style = f"background:white;width:{ZOOM * figure.get_figwidth():.2f}in;max-width:100%"
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}" style="{style}">'


def table(content: pd.DataFrame, index: bool = True) -> str:
    """A table, with its index or without; pandas escapes its cells."""
    style = "max-height:22rem;overflow:auto;line-height:1.4;width:fit-content;max-width:100%"
    return f'<div style="{style}" class="jp-RenderedHTMLCommon">{content.to_html(border=0, index=index)}</div>'


def line(text: str) -> str:
    """A line of plain text."""
    return f'<p style="line-height:1.5;max-width:60rem;margin:.4em 0">{escape(text)}</p>'


def review(heading: Iterable[str], label: int, body: str) -> str:
    """A review as a card in the colour of its class, under a `heading`; `body` is HTML already."""
    return f'<div style="line-height:1.5">{show.card(" · ".join(heading), body, label)}</div>'


def windowed(text: str, window: Window) -> str:
    """A text in which what the window leaves out is struck through."""
    read = [(span[0], span[1], "") for span in window.spans if span]
    return _marked(text, _joined(text, read), _CUT)


Sides = tuple[tuple[str, str], tuple[str, str]]  # name and colour of what lies below and above zero


def sides(names: Sequence[str], target: int) -> Sides:
    """What a contribution speaks for, below and above zero: the two classes, or of more the others and the `target`."""
    below = ("any other class", GREY) if len(names) > 2 else (names[1 - target], class_colour(1 - target))
    return below, (names[target], class_colour(target))


def coloured(text: str, words: Sequence[tuple[int, int, float]], window: Window, sides: Sides) -> str:
    """A text whose words are coloured by contribution, the strongest in full; what the window leaves out is struck.

    `words` are start, end and contribution, `sides` what it speaks for below and above zero.
    """
    strongest = max((abs(share) for *_, share in words), default=0) or 1
    spans = [(start, end, _tint(share / strongest, share, sides)) for start, end, share in words]
    return _marked(text, spans, _CUT if window.is_cut else "")


def legend(sides: Sides) -> str:
    """What the colours of `coloured` mean."""
    shades = [
        f"<span {_tint(strength, strength, sides)}>&nbsp;{escape(sides[strength > 0][0])}&nbsp;</span>"
        for strength in (-1, 1)
    ]
    return (
        f'<p style="line-height:1.5;margin:.4em 0">Coloured by what each word adds towards {shades[0]} and '
        f"{shades[1]} (gradient × input, in nats of the log-odds; point at a word for its figure). Struck through: not "
        "read.</p>"
    )


def strongest(text: str, words: Sequence[tuple[int, int, float]], sides: Sides, count: int = 5) -> str:
    """The words that add most to either side, as a table."""
    order = np.argsort([share for *_, share in words], kind="stable").tolist()
    columns = {}
    for (name, _), sign, first in zip(sides, (-1, 1), (order, order[::-1]), strict=True):
        chosen = [words[i] for i in first[:count] if words[i][2] * sign > 0]
        told = [f"{text[start:end]} ({_signed(share)})" for start, end, share in chosen]
        columns[f"towards {name}"] = told + [""] * (count - len(told))
    return table(pd.DataFrame(columns, index=range(1, count + 1)))


def _tint(strength: float, share: float, sides: Sides) -> str:
    """Attributes of a word: its side's colour, as opaque as the word is strong, and its figure."""
    red, green, blue = (round(255 * part) for part in to_rgb(sides[strength > 0][1]))
    return f'style="background:rgba({red},{green},{blue},{0.65 * abs(strength):.2f})" title="{_signed(share)}"'


def _signed(value: float) -> str:
    """A contribution as text, with a sign."""
    return f"{value:+.2f}".replace("-", "−")


def _joined(text: str, spans: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Spans that only spaces part, as one."""
    found: list[tuple[int, int, str]] = []
    for start, end, attributes in spans:
        if found and not text[found[-1][1] : start].strip():
            found[-1] = (found[-1][0], end, attributes)
        else:
            found.append((start, end, attributes))
    return found


def _marked(text: str, spans: Sequence[tuple[int, int, str]], between: str) -> str:
    """A text with attributes on its spans and the style `between` on what lies between two of them."""
    parts, reached = [], 0
    for start, end, attributes in [*spans, (len(text), len(text), "")]:
        gap = escape(text[reached:start])
        parts.append(f'<span style="{between}">{gap}</span>' if between and gap.strip() else gap)
        parts.append(f"<span {attributes}>{escape(text[start:end])}</span>" if attributes else escape(text[start:end]))
        reached = end
    return "".join(parts)
