"""Slices: parts of the test texts in which models may differ. 01 computes them once, 03 reads them.

A slice is a column of truth values in `runs/<study>/slices.csv`, by a rule plain enough to be checked by hand.
"""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.data.reviews import Corpus
from peft_study.data.tokenization import load_tokenizer, tokenize_texts
from peft_study.files import replacing, unless_live
from peft_study.study.variant import Variant
from peft_study.text import SEPARATOR

SLICES = {
    "clean": "no near-copy in the training split",
    "rating": "states a rating",
    "no_rating": "states no rating",
    "short": "shortest third",
    "long": "longest third",
    "whole": "fits the window",
    "cut": "cut to the window",
    "negation": "negation at the start",
    "no_negation": "no negation at the start",
}
OTHER = "out-of-domain texts"
_TYPES: dict[str, Any] = {"part": str, "id": np.int64, "label": np.int64} | dict.fromkeys(SLICES, bool)
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|\n")
_NEGATION = re.compile(r"\b(?:not|no|never|nor|neither|none|nobody|nothing|nowhere|cannot)\b|n['’]t\b", re.IGNORECASE)
_RATING = re.compile(r"(?<![\d/.])(\d{1,2}(?:\.\d+)?)\s*(?:/|out of)\s*(?:10|ten\b)(?![\d/.]?\d)", re.IGNORECASE)


def explicit_rating(text: str) -> float | None:
    """The first rating out of ten that a review states ("8/10", "3 out of 10"), if it states one."""
    ratings = map(float, _RATING.findall(text))
    return next((rating for rating in ratings if rating <= 10), None)


def negated(text: str) -> bool:
    """Whether the first sentence, of either text of a pair, holds a negation: not, n't, no, never, nor, nobody, ...

    A sentence ends at a full stop, an exclamation or question mark before a space, or at a line break. Only the first
    one counts, since hardly a review of average length does without a "not" anywhere.
    """
    starts = [_SENTENCE_END.split(part.strip(), maxsplit=1)[0] for part in text.split(SEPARATOR)]
    return any(map(_NEGATION.search, starts))


def words(text: str) -> str:
    """The words of a text in small letters: what two copies share whatever happened to spaces and punctuation."""
    return " ".join(_WORD.findall(text.lower()))


def slice_reviews(corpus: Corpus, variant: Variant) -> pd.DataFrame:
    """The slices of a corpus: a row per test text, then per out-of-domain text.

    Columns: `part` ("test" or "ood"), `id`, `label`, and a column of truth values for each of `SLICES`. "In the
    training split" means among its rows as they came, repeated ones included, though our runs never train on a text
    that is also tested. Thirds are of the part's lengths in tokens of the model; the window is the variant's.
    """
    tokenizer = load_tokenizer(variant)
    copies = Counter(map(words, corpus.splits["train"]))
    tables = []
    for part, reviews in (("test", corpus.test), ("ood", corpus.ood)):
        if reviews is None:
            continue
        split, texts = corpus.split_of(part), reviews["text"]
        own = int(split == "train")  # a text held out of the training split is a row of it itself
        tokens = tokenize_texts(corpus.splits[split], tokenizer).lengths[reviews["id"]]
        low, high = np.quantile(tokens, [1 / 3, 2 / 3])
        table = reviews[["id", "label"]].assign(
            part=part,
            clean=[copies[words(text)] <= own for text in texts],
            rating=[explicit_rating(text) is not None for text in texts],
            negation=[negated(text) for text in texts],
            short=tokens <= low,
            long=tokens > high,
            cut=tokens > variant.max_length,
        )
        tables.append(table.assign(no_rating=~table["rating"], no_negation=~table["negation"], whole=~table["cut"]))
    return pd.concat(tables, ignore_index=True)[list(_TYPES)]


@unless_live
def write_slices(study: str, table: pd.DataFrame) -> None:
    """Keep the slices for the comparison: `slices.csv` in the study's folder."""
    with replacing(paths.study_folder(study) / "slices.csv") as partial:
        table.to_csv(partial, index=False)


def load_slices(study: str) -> pd.DataFrame | None:
    """The slices of a study, or None where 01 has not kept any, or the file is damaged."""
    try:
        table = pd.read_csv(paths.study_folder(study) / "slices.csv", dtype=_TYPES)
    except (OSError, ValueError):  # no file; not UTF-8, no table, or other values
        return None
    return table if list(table) == list(_TYPES) else None
