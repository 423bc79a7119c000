"""How sentences and texts are shown: in JupyterLab, in the HTML report and in the PDF.

Texts are untrusted input: they are escaped in both forms that a display bundle carries, HTML for the screen and
Markdown for the PDF.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown, display

from peft_study.data.labels import LABELS
from peft_study.report.class_figures import colour as class_colour
from peft_study.text import NAME, SEPARATOR, markdown_escape, shortened

RULE = '<hr style="margin:.4em 0;border:.5px solid #bbb">'  # between the texts of a pair; reports keep such a style
LONGEST = 8_000  # characters of a text on a page: as many as two pages of the PDF hold
_CARD = "border-left:3px solid {colour};padding:.3em .9em;margin:.8em 0;white-space:pre-wrap;max-width:48rem"


def sentence(*parts: str) -> None:
    """Show generated prose: each part a paragraph of Markdown; an empty one is none."""
    if any(parts):
        display(Markdown("\n\n".join(filter(None, parts))))


def review(text: str, label: int, facts: Mapping[str, Any] | None = None, labels: Sequence[str] = LABELS) -> None:
    """Show one text or pair, each text cut after `LONGEST` characters, with its class and what else is known of it.

    `labels` are the names of the classes.
    """

    def cut(text: str) -> str:
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"

    parts = list(map(cut, text.split(SEPARATOR)))
    notes = [f"{key}: {value}" for key, value in (facts or {}).items()]
    heading = " · ".join(["true class " * bool(notes) + shortened(labels[label], NAME), *notes])
    quotes = [
        "\n> ".join(markdown_escape(line.strip()) for line in part.splitlines() if line.strip()) or "*(empty)*"
        for part in parts
    ]
    display(
        {
            "text/html": card([heading], RULE.join(map(escape, parts)) or "<i>(empty)</i>", label).data,
            "text/markdown": "\n>\n> ".join([f"> **{markdown_escape(heading)}**", *quotes]),
            "text/plain": "\n".join([heading, *parts]),
        },
        raw=True,
    )


def pages(text: str, links: Mapping[str, str]) -> None:
    """Show a paragraph; on a page, links (name -> address) follow it, which a PDF could not lead to."""
    listed = ", ".join(f'<a href="{escape(address)}">{escape(name)}</a>' for name, address in links.items())
    display({"text/html": f"<p>{escape(text)} {listed}</p>", "text/markdown": text, "text/plain": text}, raw=True)


def card(heading: Iterable[str], body: str, label: int) -> HTML:
    """A text in the colour of its class, under the parts of its `heading`; the `body` is HTML already."""
    title, style = escape(" · ".join(heading)), _CARD.format(colour=class_colour(label))
    return HTML(f'<div style="{style}"><b>{title}</b>\n{body}</div>')


def reviews(table: pd.DataFrame, labels: Sequence[str] = LABELS, facts: Iterable[str] = ()) -> None:
    """Show every row of a table with `text` and `label`; `facts` names further columns to mention."""
    for row in table.to_dict("records"):
        review(row["text"], row["label"], {name: row[name] for name in facts}, labels)
