"""A browser of reviews: find some, read one, and see what a window of the model keeps of it."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from html import escape
from typing import Any, get_args

import ipywidgets
import pandas as pd

from peft_study.data import browsing, tokenization
from peft_study.data.reviews import Corpus
from peft_study.study.variant import Variant
from peft_study.widgets import markup
from peft_study.widgets.panel import ANY, Panel, dropdown, place, search, yes_or_no

_VIEWS = ("text", "word pieces")


def browser(corpus: Corpus, variant: Variant) -> Panel:
    """The browser of all reviews of a corpus; its window starts as the variant's."""
    tokenizer = tokenization.load_tokenizer(variant)

    @cache
    def reviews() -> pd.DataFrame:
        return browsing.all_reviews(corpus, variant)

    def render(part: str, place: int, window: int, cut: str, view: str, **asked: Any) -> Iterator[str]:
        yield markup.line("Looking through the reviews …")
        table = reviews()
        found = browsing.search(table[table["part"] == part], **asked)
        if found.empty:
            yield markup.line("No review fits all of this: loosen a condition.")
            return
        row = found.iloc[min(place, len(found)) - 1]
        read = tokenization.window(row["text"], tokenizer, window, cut)
        heading = [f"review {min(place, len(found)):,} of {len(found):,}", *facts(row)]
        body = markup.windowed(row["text"], read) if view == "text" else _pieces(row["text"], read, tokenizer)
        yield markup.review(
            [corpus.labels[row["label"]], *heading], row["label"], body or "<i>(empty)</i>"
        ) + markup.line(_kept(read))

    longest = 2 ** (max(variant.max_length, 512) - 1).bit_length()
    parts = [(name, part) for part, name in browsing.PARTS.items() if getattr(corpus, part) is not None]
    count = max(len(getattr(corpus, part)) for _, part in parts)
    return Panel(
        render,
        part=dropdown("from", parts),
        label=classes("class", corpus.labels),
        tokens=lengths(max(tokenization.tokenize_texts(texts, tokenizer).lengths.max() for texts in _texts(corpus))),
        rated=yes_or_no("states a rating"),
        copied=yes_or_no("occurs more than once"),
        words=search(),
        place=place("review", count),
        window=ipywidgets.IntSlider(
            description="window", min=8, max=longest, value=variant.max_length, continuous_update=False
        ),
        cut=dropdown("keeps", get_args(Variant.model_fields["truncation"].annotation), variant.truncation),
        view=dropdown("shown as", _VIEWS),
    )


def facts(row: Any) -> list[str]:
    """What is known of a review besides its class."""
    told = [f"{row['tokens']:,} tokens"]
    if pd.notna(row["rating"]):
        told.append(f"states {row['rating']:g}/10")
    if row.get("copies", 1) > 1:
        told.append(f"occurs {row['copies']} times in the dataset")
    return told


def classes(description: str, names: Sequence[str]) -> ipywidgets.Dropdown:
    """A choice of a class, or either (any of more than two)."""
    every = "either" if len(names) == 2 else "any"
    return dropdown(description, [(every, ANY), *((name, i) for i, name in enumerate(names))])


def lengths(longest: int) -> ipywidgets.IntRangeSlider:
    """A choice of lengths in tokens, up to the longest."""
    return ipywidgets.IntRangeSlider(
        description="tokens", min=0, max=int(longest), value=(0, int(longest)), continuous_update=False
    )


def _texts(corpus: Corpus) -> Iterable[list[str]]:
    return [texts for texts in corpus.splits.values() if texts]


def _kept(read: tokenization.Window) -> str:
    """How much of a review the window keeps."""
    if not read.is_cut:
        return f"The window holds the whole review: {read.total:,} tokens, the special ones included."
    kept = len(read.input_ids)
    return f"The window keeps {kept:,} of {read.total:,} tokens ({kept / read.total:.0%})."


def _pieces(text: str, read: tokenization.Window, tokenizer: Any) -> str:
    """The tokens of a window as the model gets them, with "…" where text between two of them is left out."""
    style = "display:inline-block;border:1px solid #8888;border-radius:3px;padding:0 .3em;margin:1px"
    cells: list[str] = []
    reached = 0
    for token, span in zip(tokenizer.convert_ids_to_tokens(read.input_ids), read.spans, strict=True):
        start = span[0] if span else reached if not cells else len(text)  # a special token is before or after all
        cells.append("…" if text[reached:start].strip() else "")
        cells.append(f'<span style="{style}">{escape(token)}</span>')
        reached = span[1] if span else start
    return " ".join(cells)
