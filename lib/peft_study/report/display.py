"""How sentences and reviews are shown: in JupyterLab, in the HTML report and in the PDF.

Reviews are untrusted text: they are escaped in both forms that a display bundle carries, HTML for the screen and
Markdown for the PDF.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from IPython.display import Markdown, display

from peft_study.analysis import accuracy as comparison_tables
from peft_study.data.labels import LABELS
from peft_study.records.read import Runs
from peft_study.report.class_figures import colour as class_colour
from peft_study.text import markdown_escape

_CARD = "border-left:3px solid {colour};padding:.3em .9em;margin:.8em 0;white-space:pre-wrap;max-width:48rem"


def sentence(*parts: str) -> None:
    """Show generated prose: each part a paragraph of Markdown; an empty one is none."""
    if told := [part for part in parts if part]:
        display(Markdown("\n\n".join(told)))


def review(text: str, label: int, facts: Mapping[str, Any] | None = None, labels: Sequence[str] = LABELS) -> None:
    """Show one review in full, with its class and what else is known of it; `labels` are the names of the classes."""
    notes = [f"{key}: {value}" for key, value in (facts or {}).items()]
    heading = " · ".join([labels[label], *notes])
    quote = "\n> ".join(markdown_escape(line.strip()) for line in text.splitlines() if line.strip())
    display(
        {
            "text/html": card(heading, escape(text) or "<i>(empty)</i>", label),
            "text/markdown": f"> **{markdown_escape(heading)}**\n>\n> {quote or '*(empty)*'}",
            "text/plain": f"{heading}\n{text}",
        },
        raw=True,
    )


def card(heading: str, body: str, label: int) -> str:
    """A review as HTML in the colour of its class, under a `heading`; the `body` is HTML already."""
    return f'<div style="{_CARD.format(colour=class_colour(label))}"><b>{escape(heading)}</b>\n{body}</div>'


def reviews(table: pd.DataFrame, labels: Sequence[str] = LABELS, facts: Iterable[str] = ()) -> None:
    """Show every row of a table with `text` and `label`; `facts` names further columns to mention."""
    for row in table.to_dict("records"):
        review(row["text"], row["label"], {name: row[name] for name in facts}, labels)


def either(reason: str, make: Callable[[], Any]) -> Any:
    """What `make` returns; or, where there is a `reason` why it cannot be made, that sentence is shown instead."""
    return sentence(reason) if reason else make()


def disagreements(runs: Runs, pair: tuple[str, str] | None, texts: Mapping[int, str], count: int = 2) -> None:
    """Show, for each run of `pair`, the reviews that it alone got right; `texts` maps a review's id to its text.

    The other run's most confident mistakes come first; equally confident ones in the order of their ids.
    """
    if pair and not set(runs.preds.index) <= set(texts):
        return sentence("The reviews themselves are not on this machine.")
    for right, wrong in (pair, pair[::-1]) if pair else ():
        table = comparison_tables.disagreements(runs, right, wrong).sort_values(["wrong", "id"])
        shown = f"{min(count, len(table))} of {len(table):,} reviews." if len(table) else "There is no such review."
        sentence(f"**Right: `{right}`. Wrong: `{wrong}`.** {shown}")
        for row in table.head(count).to_dict("records"):
            sure = {name: row[side] for name, side in ((right, "right"), (wrong, "wrong")) if pd.notna(row[side])}
            facts = {name: f"{value:.0%} for the true class" for name, value in sure.items()}
            review(texts[row["id"]], row["label"], facts, runs.class_names)
