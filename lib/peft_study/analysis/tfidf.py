"""The baseline that a fine-tuned encoder should exceed: TF-IDF and logistic regression. 01 fits it, 03 reads it.

It is fitted twice: on whole texts and all labels, which is what a user of TF-IDF would do, and on what the encoder has,
its window of each text and the training part of the labels.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.files import replacing, unless_live
from peft_study.statistics.intervals import interval
from peft_study.statistics.scores import Scored, scored

_WINDOW = "window "  # before the names of arrays of the one with the encoder's window


@dataclass(frozen=True)
class Baseline:
    """The baseline's predictions: `preds` maps training-set sizes to classes (n,) of the test texts `ids` (n,).

    `log_odds` has those of class 1 where there are two classes. `unfitted` maps the sizes at which it cannot be fitted
    to the reason. `same_window` is the one with the encoder's window and training part; None where these are not known.
    """

    ids: np.ndarray
    labels: np.ndarray
    preds: dict[int, np.ndarray]
    unfitted: dict[int, str] = field(default_factory=dict)
    same_window: "Baseline | None" = None
    log_odds: dict[int, np.ndarray] = field(default_factory=dict)

    def scored(self, metric: str) -> dict[int, Scored]:
        """By size, the predictions, as of a fixed classifier; without sizes at which `metric` is undefined."""
        sizes = sorted(self.preds)
        found = [scored(metric, self.labels, self.preds[size], self.log_odds.get(size, np.nan)) for size in sizes]
        return {size: one for size, one in zip(sizes, found, strict=True) if not np.isnan(one.values).any()}

    def scores(self, metric: str) -> pd.DataFrame:
        """A row per size of `scored`: `train_size`, the metric, its 95 % interval over texts `low`, `high`."""
        rows = [(size, interval(one)) for size, one in self.scored(metric).items()]
        columns = ["train_size", metric, "low", "high"]
        return pd.DataFrame([(size, i.estimate, i.low, i.high) for size, i in rows], columns=columns)


def fit(
    model: Any, budgets: Mapping[int, tuple[Iterable[str], Iterable[int]]]
) -> tuple[dict[int, Any], dict[int, str]]:
    """Copies of `model`, a scikit-learn pipeline, fitted to each budget, and why others cannot be fitted."""
    from sklearn.base import clone

    fitted, unfitted = {}, {}
    for size, (texts, classes) in budgets.items():
        try:
            fitted[size] = clone(model).fit(texts, classes)
        except ValueError as error:
            unfitted[size] = reason(error)
    return fitted, unfitted


def predict(fitted: Mapping[int, Any], texts: Iterable[str]) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """By size, the classes of `texts` and, where there are two, the log-odds of class 1."""
    logs = {size: model.predict_log_proba(texts) for size, model in fitted.items()}
    preds = {size: fitted[size].classes_[log.argmax(axis=1)] for size, log in logs.items()}
    return preds, {size: log[:, 1] - log[:, 0] for size, log in logs.items() if log.shape[1] == 2}


def reason(error: ValueError) -> str:
    """Why scikit-learn cannot fit the baseline, without its advice on parameters that a study does not have."""
    empty = "no terms remain" in str(error) or "empty vocabulary" in str(error)
    return "no word occurs in two of its texts" if empty else str(error).rstrip(".")


def unfitted(baseline: Baseline | None) -> Iterable[str]:
    """A sentence for each size at which the baseline could not be fitted."""
    both = {"TF-IDF": baseline, "TF-IDF on the encoder's window": baseline and baseline.same_window}
    for name, one in both.items():
        for size, why in sorted(one.unfitted.items() if one else ()):
            yield f"Left out: {name} with {size:,} labels ({why})."


@unless_live
def write_baseline(study: str, baseline: Baseline) -> None:
    """Keep the baseline's predictions for the comparison: `tfidf.npz` in the study's folder."""
    arrays: dict[str, object] = {"ids": baseline.ids, "labels": baseline.labels}
    for prefix, one in (("", baseline), (_WINDOW, baseline.same_window)):
        if one:
            arrays |= {f"{prefix}{size}": preds for size, preds in one.preds.items()}
            arrays |= {f"{prefix}odds {size}": odds for size, odds in one.log_odds.items()}
            arrays |= {f"{prefix}unfitted {size}": why for size, why in one.unfitted.items()}
    with replacing(paths.study_folder(study) / "tfidf.npz") as partial:
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]


def load_baseline(study: str) -> Baseline | None:
    """The baseline's predictions, or None where 01 has not kept any, or the file is damaged."""
    try:
        with np.load(paths.study_folder(study) / "tfidf.npz", allow_pickle=False) as archive:
            arrays = dict(archive)
        ids, labels = arrays.pop("ids"), arrays.pop("labels")
        own = {name: array for name, array in arrays.items() if not name.startswith(_WINDOW)}
        window = {name.removeprefix(_WINDOW): array for name, array in arrays.items() if name not in own}
        same_window = Baseline(ids, labels, **_by_size(window)) if window else None
        return Baseline(ids, labels, **_by_size(own), same_window=same_window)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error):
        return None


def _by_size(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The fields of `Baseline` that are by size."""
    by_kind: dict[str, dict[int, np.ndarray]] = {"": {}, "odds": {}, "unfitted": {}}
    for name, array in arrays.items():
        kind, _, size = name.rpartition(" ")
        by_kind[kind][int(size)] = array
    unfitted = {size: str(why) for size, why in by_kind["unfitted"].items()}
    return {"preds": by_kind[""], "log_odds": by_kind["odds"], "unfitted": unfitted}
