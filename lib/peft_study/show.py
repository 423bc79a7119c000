"""How sentences and reviews are shown: in JupyterLab, in the HTML report and in the PDF.

Reviews are untrusted text: they are escaped in both forms that a display bundle carries, HTML for the screen and
Markdown for the PDF.
"""

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import pandas as pd
from IPython.display import Markdown, display

from peft_study import comparison
from peft_study.plots import CLASS_COLOURS, LABELS
from peft_study.results import Runs

_CARD = "border-left:3px solid {colour};padding:.3em .9em;margin:.8em 0;white-space:pre-wrap;max-width:48rem"


def sentence(*parts: str) -> None:
    """Show generated prose: each part a paragraph of Markdown."""
    display(Markdown("\n\n".join(parts)))


def review(text: str, label: int, facts: Mapping[str, Any] | None = None) -> None:
    """Show one review in full, with its class and what else is known of it."""
    notes = [f"{key}: {value}" for key, value in (facts or {}).items()]
    heading = " · ".join([LABELS[label], *notes])
    html = (
        f'<div style="{_CARD.format(colour=CLASS_COLOURS[label])}"><b>{escape(heading)}</b>\n'
        f"{escape(text) or '<i>(empty)</i>'}</div>"
    )
    quote = "\n> ".join(markdown_escape(line.strip()) for line in text.splitlines() if line.strip())
    display(
        {
            "text/html": html,
            "text/markdown": f"> **{markdown_escape(heading)}**\n>\n> {quote or '*(empty)*'}",
            "text/plain": f"{heading}\n{text}",
        },
        raw=True,
    )


def reviews(table: pd.DataFrame, facts: Iterable[str] = ()) -> None:
    """Show every row of a table with `text` and `label`; `facts` names further columns to mention."""
    for row in table.to_dict("records"):
        review(row["text"], row["label"], {name: row[name] for name in facts})


def disagreements(runs: Runs, pair: tuple[str, str] | None, texts: Mapping[int, str], count: int = 2) -> None:
    """Show, for each run of `pair`, the reviews that it alone got right; `texts` maps a review's id to its text."""
    if pair and not texts:
        return sentence("The reviews themselves are not on this machine.")
    for right, wrong in (pair, pair[::-1]) if pair else ():
        table = comparison.disagreements(runs, right, wrong).head(count)
        sentence(f"**Right: `{right}`. Wrong: `{wrong}`.**")
        for row in table.to_dict("records"):
            review(
                texts[row["id"]],
                row["label"],
                {name: f"{row[side]:.0%} for the true class" for name, side in ((right, "right"), (wrong, "wrong"))},
            )


def markdown_escape(text: str) -> str:
    """Text that Markdown shows as it is: every ASCII punctuation mark behind a backslash."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
