"""The baseline that any fine-tuned encoder must beat: a linear model of word counts.

TF-IDF of words and word pairs and logistic regression, fitted on the whole labelled budget (it selects no checkpoint,
so it needs no validation part) and tested on the same reviews as every run.
"""

import zlib
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.data import reviews as data
from peft_study.files import replacing
from peft_study.statistics.intervals import interval
from peft_study.study.variant import Variant


@dataclass(frozen=True)
class Baseline:
    """The baseline's predictions: `preds` maps a size to the classes (n,) of the test reviews `ids` (n,)."""

    ids: np.ndarray
    labels: np.ndarray
    preds: dict[int, np.ndarray]

    def scores(self) -> pd.DataFrame:
        """A row per size: `train_size`, `accuracy` and its bootstrap interval `low`, `high`."""
        rows = [(size, interval(preds, self.labels)) for size, preds in sorted(self.preds.items())]
        return pd.DataFrame(
            [(size, i.estimate, i.low, i.high) for size, i in rows], columns=["train_size", "accuracy", "low", "high"]
        )


def fit(texts: "pd.Series[str]", labels: "pd.Series[int]") -> object:
    """The fitted pipeline; `pipeline[:-1]` makes features, `pipeline[-1].coef_` weighs them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10)
    ).fit(texts, labels)


def bag_of_words(corpus: data.Corpus, variant: Variant, sizes: list[int]) -> Baseline:
    """Fit the baseline at every size on the reviews that a run of that size pays for."""
    preds = {}
    for size in sizes:
        taken = pd.concat(data.budget(corpus, variant.model_copy(update={"train_size": size})))
        preds[size] = fit(taken["text"], taken["label"]).predict(corpus.test["text"])  # type: ignore[attr-defined]
    return Baseline(corpus.test["id"].to_numpy(), corpus.test["label"].to_numpy(), preds)


def write_baseline(study: str, baseline: Baseline) -> None:
    """Keep the baseline's predictions for the comparison: `bag_of_words.npz` in the study's folder."""
    sizes = {str(size): preds for size, preds in baseline.preds.items()}
    with replacing(paths.study_folder(study) / "bag_of_words.npz") as partial:
        np.savez_compressed(partial, ids=baseline.ids, labels=baseline.labels, **sizes)  # type: ignore[arg-type]


def load_baseline(study: str) -> Baseline | None:
    """The baseline's predictions, or None where 01 has not kept any."""
    try:
        with np.load(paths.study_folder(study) / "bag_of_words.npz", allow_pickle=False) as arrays:
            sizes = {int(name): arrays[name] for name in arrays.files if name.isdigit()}
            found = Baseline(arrays["ids"], arrays["labels"], sizes)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error):  # no file, or a damaged one
        return None
    return found if all(len(preds) == len(found.ids) for preds in [found.labels, *sizes.values()]) else None
