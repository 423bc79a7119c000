"""Finding reviews: the tables that the interactive pieces look through, and what a search leaves of them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from peft_study.data import tokenization
from peft_study.data.exploration import explicit_rating
from peft_study.data.reviews import Corpus
from peft_study.study.variant import Variant

PARTS = {"pool": "pool", "test": "test set", "ood": "other test set"}


def all_reviews(corpus: Corpus, variant: Variant) -> pd.DataFrame:
    """Every review of a corpus: a row each, the pool first.

    Columns: `part` (a key of `PARTS`), `id`, `text`, `label`, and those of `described`.
    """
    seen = Counter(text for texts in corpus.splits.values() for text in texts)
    tables = []
    for part in PARTS:
        if (reviews := getattr(corpus, part)) is not None:
            split = "train" if part == "pool" or (part == "test" and corpus.held_out) else part
            told = described(reviews, corpus.splits[split], variant)
            tables.append(told.assign(part=part, copies=[seen[text] for text in told["text"]]))
    return pd.concat(tables, ignore_index=True)


def described(reviews: pd.DataFrame, split: Sequence[str], variant: Variant) -> pd.DataFrame:
    """`reviews` (`id`, `text`, `label`), which are rows of the texts `split`, with what a search may ask of them.

    Columns: `tokens` (special ones included), `rating` (the one that the text states, NaN if none), `cut` (whether the
    variant's window is shorter than the text).
    """
    tokens = tokenization.tokenize_texts(split, tokenization.load_tokenizer(variant)).lengths[reviews["id"]]
    ratings = [explicit_rating(text) for text in reviews["text"]]
    return reviews[["id", "text", "label"]].assign(
        tokens=tokens, rating=np.array(ratings, dtype=float), cut=tokens > variant.max_length
    )


def search(
    table: pd.DataFrame,
    label: int | None = None,
    tokens: tuple[int, int] | None = None,
    rated: bool | None = None,
    copied: bool | None = None,
    words: str = "",
) -> pd.DataFrame:
    """The rows of `all_reviews` (or `described`) that fit all that is asked; None asks nothing.

    `tokens` is the least and the most; `words` must all occur, in any case and order, as parts of words too.
    """
    fits = np.ones(len(table), dtype=bool)
    if label is not None:
        fits &= (table["label"] == label).to_numpy()
    if tokens is not None:
        fits &= table["tokens"].between(*tokens).to_numpy()
    if rated is not None:
        fits &= (table["rating"].notna() == rated).to_numpy()
    if copied is not None:
        fits &= ((table["copies"] > 1) == copied).to_numpy()
    for word in words.lower().split():
        fits &= table["text"].str.lower().str.contains(word, regex=False).to_numpy()
    return table[fits]
