"""A browser of texts: search them, and see which part of a text the model's window keeps."""

from collections.abc import Collection, Sequence
from html import escape
from typing import Any, get_args

import ipywidgets
import numpy as np
import pandas as pd

from peft_study.analysis.slice_rules import explicit_rating
from peft_study.analysis.windows import window
from peft_study.data.reviews import Corpus
from peft_study.data.tokenization import load_tokenizer, tokenize_texts
from peft_study.report import display
from peft_study.study.variant import Variant
from peft_study.widgets import controls, markup
from peft_study.widgets.controls import Shown

PARTS = {"pool": "pool", "test": "test set", "ood": "out-of-domain test set"}


@controls.where_live
def browse_reviews(corpus: Corpus, variant: Variant) -> None:
    """01: search texts by class, length, stated rating, copies and words, and see the window on each.

    The initial window is the variant's.
    """
    tokenizer = load_tokenizer(variant)
    table = all_reviews(corpus, tokenizer, variant.max_length)
    table.insert(1, "class", [corpus.labels[label] for label in table["label"]])

    def render(
        length: int,
        truncation: str,
        view: str,
        place: controls.Place,
        tokens: tuple[int, int],
        words: str,
        **accepted: Any,
    ) -> Shown:
        matches = matching(table[table["tokens"].between(*tokens)], words, **accepted)
        row, count = controls.at_place(matches, place)
        read = window(row["text"], tokenizer, length, truncation)
        heading = [corpus.labels[row["label"]], f"text {count}", *facts(row)]
        pieces = " ".join(tokenizer.convert_ids_to_tokens(read.input_ids))
        body = markup.windowed(row["text"], read, words) if view == "text" else escape(pieces)
        kept = f"The window keeps {len(read.input_ids):,} of {read.total:,} tokens, special tokens included."
        kept += " Dotted outline: read as [UNK]." if read.unknown else ""
        yield display.card(heading, body or "<i>(empty)</i>", row["label"]), markup.line(kept)

    longest = int(table["tokens"].max())
    truncations = get_args(Variant.model_fields["truncation"].annotation)
    widest = max(variant.max_length, 512)
    slider = {"continuous_update": False}
    controls.show(
        render,
        part=controls.choice("from", [(PARTS[part], (part,)) for part in table["part"].unique()]),
        label=controls.classes("class", corpus.labels),
        tokens=ipywidgets.IntRangeSlider(description="tokens", max=longest, value=(0, longest), **slider),
        rated=controls.yes_or_no("states a rating"),
        repeated=controls.yes_or_no("occurs more than once"),
        words=controls.search(),
        place=controls.Place(description="text", value=1, min=1),
        length=ipywidgets.IntSlider(description="window", min=8, max=widest, value=variant.max_length, **slider),
        truncation=controls.choice("truncation", truncations, variant.truncation),
        view=controls.choice("shown as", ["text", "word pieces"]),
    )


def all_reviews(corpus: Corpus, tokenizer: Any, max_length: int) -> pd.DataFrame:
    """Every text of a corpus, the pool first, with the columns of `described` and its `part`, a key of `PARTS`.

    `repeated` means that the text occurs more than once in all splits of the dataset.
    """
    texts = pd.Series([text for split in corpus.splits.values() for text in split])
    parts = [
        described(reviews, corpus.splits[corpus.split_of(part)], tokenizer, max_length).assign(part=part)
        for part in PARTS
        if (reviews := getattr(corpus, part)) is not None
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(repeated=table["text"].isin(texts[texts.duplicated()]))


def described(reviews: pd.DataFrame, split: Sequence[str], tokenizer: Any, max_length: int) -> pd.DataFrame:
    """`reviews`, which are rows of the texts `split`, with the columns of the search.

    `tokens` (special tokens included), `cut` (whether a window of `max_length` truncates it), `rating` (stated in the
    text, NaN if none) and `rated`.
    """
    tokens = tokenize_texts(split, tokenizer).lengths[reviews["id"]]
    rating = np.array([explicit_rating(text) for text in reviews["text"]], dtype=float)
    return reviews.assign(tokens=tokens, cut=tokens > max_length, rating=rating, rated=~np.isnan(rating))


def matching(table: pd.DataFrame, words: str = "", **accepted: Collection[Any]) -> pd.DataFrame:
    """The rows with an accepted value in every column named, and all `words` in their text.

    Order and case of the words are ignored; they may be parts of other words.
    """
    fits = np.ones(len(table), dtype=bool)
    for column, values in accepted.items():
        fits &= table[column].isin(values)
    for word in words.lower().split():
        fits &= table["text"].str.lower().str.contains(word, regex=False)
    return table[fits]


def facts(row: Any) -> list[str]:
    """Further properties of a text for its heading."""
    rating = [f"states {row['rating']:g}/10"] if row["rated"] else []
    return [f"{row['tokens']:,} tokens", *rating]
