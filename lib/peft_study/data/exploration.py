"""What can be known of the reviews before any model is trained on them."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from peft_study.data import reviews as data
from peft_study.data import tfidf as baseline
from peft_study.data import tokenization
from peft_study.data.labels import LABELS
from peft_study.study.study import Study
from peft_study.study.variant import Variant

_RATING = re.compile(r"(?<![\d/.])(\d{1,2}(?:\.\d+)?)\s*(?:/|out of)\s*(?:10|ten\b)(?![\d/.]?\d)", re.IGNORECASE)


def explicit_rating(text: str) -> float | None:
    """The first rating out of ten that a review states ("8/10", "3 out of 10"), if it states one."""
    found = (float(match) for match in _RATING.findall(text))
    return next((value for value in found if value <= 10), None)


def ratings(table: pd.DataFrame) -> pd.DataFrame:
    """The reviews of `table` that state a rating, with the column `rating`."""
    stated = table.assign(rating=[explicit_rating(text) for text in table["text"]])
    return stated.dropna(subset=["rating"]).astype({"rating": float})


def overlap(corpus: data.Corpus) -> pd.DataFrame:
    """Repeated texts within and between the parts: a row per finding, with the number of reviews."""
    pool, test = set(corpus.pool["text"]), corpus.test["text"]
    counts = {
        "rows of the training split that repeat another, or a test review (dropped)": corpus.duplicates,
        "repeated rows in the test set": int(test.duplicated().sum()),
        "test reviews whose text is also in the training pool": int(test.isin(pool).sum()),
    }
    if corpus.ood is not None:
        counts["out-of-distribution reviews whose text is also in the training pool"] = int(
            corpus.ood["text"].isin(pool).sum()
        )
    return pd.DataFrame({"reviews": counts})


def token_lengths(corpus: data.Corpus, variant: Variant) -> pd.DataFrame:
    """`tokens` (special ones included) and `label` of every review of the pool."""
    tokens = tokenization.tokenize_texts(corpus.splits["train"], tokenization.load_tokenizer(variant))
    return pd.DataFrame({"tokens": tokens.lengths[corpus.pool["id"]], "label": corpus.pool["label"].to_numpy()})


def truncation(lengths: pd.DataFrame, limits: tuple[int, ...] = (64, 128, 256, 512)) -> pd.DataFrame:
    """For each limit: the share of reviews that are cut, and the share of all tokens that is lost; in percent."""
    tokens = lengths["tokens"].to_numpy()
    rows = {
        f"{limit}": (100 * np.mean(tokens > limit), 100 * np.clip(tokens - limit, 0, None).sum() / tokens.sum())
        for limit in limits
    }
    return pd.DataFrame(rows, index=["reviews cut (%)", "tokens lost (%)"]).T.rename_axis("limit (tokens)")


def cut(lengths: pd.DataFrame, variant: Variant) -> str:
    """How many reviews the variant's window cuts; `lengths` is of `token_lengths`."""
    share = (lengths["tokens"] > variant.max_length).mean()
    told = (
        f"At this study's limit of {variant.max_length} tokens, {share:.0%} of the reviews are cut "
        f"(`{variant.truncation}`). The median review has {lengths['tokens'].median():.0f} tokens."
    )
    if share < 0.1:
        return told
    return (
        f"{told}\n\nSurprise: limits that are usual in published comparisons cut many of these reviews. Strategies "
        "stay comparable, since all read the same window, but absolute accuracies are lower than a longer window would "
        "give."
    )


def representativeness(corpus: data.Corpus, study: Study) -> pd.DataFrame:
    """Each budget beside the whole pool: balance, length, stated ratings, and the words of the test set it knows."""
    test_words = pd.Series(" ".join(corpus.test["text"]).lower().split())
    rows = {}
    for size in [*sizes(study), len(corpus.pool)]:
        taken = corpus.pool.iloc[:size]
        known = set(" ".join(taken["text"]).lower().split())
        rows[f"{len(taken):,}"] = {
            **_balance(taken["label"], corpus.labels),
            "words, median": taken["text"].str.split().str.len().median(),
            "state a rating (%)": 100 * len(ratings(taken)) / len(taken),
            "test words known (%)": 100 * test_words.isin(known).mean(),
        }
    return pd.DataFrame(rows).T.rename_axis("labelled reviews")


def _balance(labels: "pd.Series[int]", names: Sequence[str]) -> dict[str, float]:
    """The share in percent of the second of two classes; of more classes, that of the rarest and of the commonest."""
    shares = 100 * labels.value_counts(normalize=True).reindex(range(len(names)), fill_value=0)
    if len(names) == 2:
        return {f"{names[1]} (%)": shares[1]}
    return {"rarest class (%)": shares.min(), "commonest class (%)": shares.max()}


def sizes(study: Study) -> list[int]:
    """The budgets of a study, ascending."""
    return sorted({variant.train_size for variant in study.variants.values()})


def word_weights(corpus: data.Corpus, size: int) -> pd.DataFrame:
    """Each word (pair) of the first `size` reviews and its weight in the bag-of-words baseline, a column per class.

    Of two classes there is one column, that of the second: the weights for the first are the same with the other sign.
    """
    taken = corpus.pool.iloc[:size]
    model = baseline.fit(taken["text"], taken["label"])
    weights = model[-1].coef_  # type: ignore[index]
    names = corpus.labels[1:] if len(weights) == 1 else [corpus.labels[i] for i in model[-1].classes_]  # type: ignore[index]
    return pd.DataFrame(weights.T, model[0].get_feature_names_out(), names)  # type: ignore[index]


def stated_ratings(stated: pd.DataFrame, pool: pd.DataFrame, labels: Sequence[str] = LABELS) -> str:
    """How many reviews of `pool` state a rating (`explore.ratings` gives them), and how far it gives them away.

    A rating speaks for one of the classes, whose names are `labels`, only where these are negative and positive.
    """
    if stated.empty:
        return "No review of the pool states a rating out of ten."
    if tuple(labels) != LABELS:
        return f"{len(stated) / len(pool):.1%} of the pool state a rating out of ten."
    agree = ((stated["rating"] > 5) == (stated["label"] == 1)).mean()
    return (
        f"{len(stated) / len(pool):.1%} of the pool state a rating out of ten. Reading the figure, and nothing else, "
        f"classifies {agree:.1%} of these correctly."
    )
