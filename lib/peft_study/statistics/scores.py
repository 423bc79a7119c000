"""Scores of predictions text by text: what a study may compare strategies by. Never imports torch.

A score that is not a mean over texts is linearised. The value of a text is the score plus the text's influence, the
derivative of the score with respect to the text's weight (Hampel 1974; the infinitesimal jackknife). The mean of the
values is the score, and their variance divided by the number of texts is the variance of the score: that of DeLong et
al. (1988) for AUC, and that of a proportion for accuracy, whose values are 1 and 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Values = tuple[np.ndarray, np.ndarray, np.ndarray]  # of texts (n,), of correct and incorrect pseudo-texts (classes,)
# Ratios of a class: its true positives, over its texts and those predicted as it, each times these factors.
RATIOS = {"precision": (1, 0, 1), "recall": (1, 1, 0), "F1": (2, 1, 1)}


class Metric(NamedTuple):
    """A score: its name in a sentence, its definition, and the function from labels, predictions and log-odds (n,)."""

    noun: str
    meaning: str
    values: Callable[[np.ndarray, np.ndarray, np.ndarray], Values]


@dataclass(frozen=True)
class Scored:
    """Runs, scored on n texts.

    The mean of a run's `values` is its score; `right` says which predictions are correct. Both have the shape (runs,
    n), or (n,) of a fixed classifier, which has no seeds. `pseudo` (2, classes) are the values, averaged over runs,
    that one more text of each class would have: one that is classified correctly and one that is not. `unstable` is of
    `intervals.unstable`.
    """

    values: np.ndarray
    right: np.ndarray
    pseudo: np.ndarray
    unstable: bool = False


def scored(metric: str, labels: np.ndarray, preds: np.ndarray, log_odds: np.ndarray | float = np.nan) -> Scored:
    """Predicted classes `preds` and the `log_odds` of class 1, (runs, n) or (n,), against `labels` (n,).

    Macro F1 and balanced accuracy are means over the classes that occur among the labels. The AUC is NaN unless these
    are two and all log-odds are finite.
    """
    sides = (np.atleast_2d(side) for side in (preds, np.broadcast_to(log_odds, preds.shape)))
    found = [METRICS[metric].values(labels, *run) for run in zip(*sides, strict=True)]
    values, right, wrong = (np.stack(part) for part in zip(*found, strict=True))
    return Scored(values.reshape(preds.shape), preds == labels, np.stack([right.mean(axis=0), wrong.mean(axis=0)]))


def score(metric: str, labels: np.ndarray, preds: np.ndarray, log_odds: np.ndarray | float = np.nan) -> float:
    """The score of one run."""
    return float(scored(metric, labels, preds, log_odds).values.mean())


def chance(metric: str, labels: np.ndarray) -> float:
    """The score of the majority-class baseline, which gives all texts the same log-odds."""
    return score(metric, labels, np.full(len(labels), np.bincount(labels).argmax()), 0.0)


def _accuracy(labels: np.ndarray, preds: np.ndarray, _: np.ndarray) -> Values:
    classes = len(np.unique(labels))
    return 1.0 * (labels == preds), np.ones(classes), np.zeros(classes)


def _mean(ratio: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Values]:
    return lambda labels, preds, _: ratio_values(ratio, labels, preds, np.unique(labels))


def ratio_values(ratio: str, labels: np.ndarray, preds: np.ndarray, kinds: Sequence[int] | np.ndarray) -> Values:
    """The values of the mean of a ratio, one of `RATIOS`, over the classes `kinds`; NaN where it is 0 / 0 for one."""
    hit, true, named = RATIOS[ratio]
    classes = max(2, labels.max() + 1, preds.max() + 1)
    sizes, guesses, hits = (np.bincount(of, minlength=classes) for of in (labels, preds, labels[labels == preds]))
    whole, weight = true * sizes + named * guesses, np.zeros(classes)
    weight[kinds] = len(labels) / len(kinds) / np.where(whole, whole, np.nan)[kinds]
    lost = hit * weight * hits / np.maximum(whole, 1)
    score = hit * weight @ hits / len(labels)
    # of a text of each class (rows) that is predicted as each class (columns)
    values = score + hit * np.diag(weight) - true * lost[:, None] - named * lost
    right, kinds = values.diagonal(), np.unique(labels)
    wrong = (values.sum(axis=1) - right) / (classes - 1)  # the mean over the classes that a text may be taken for
    return values[labels, preds], right[kinds], wrong[kinds]


def _auc(labels: np.ndarray, _: np.ndarray, log_odds: np.ndarray) -> Values:
    """The placement of a text is the share of texts of the other class against which it is ranked correctly.

    Pseudo-texts are ranked correctly against all of them or at random (placement ½): a placement of 0 is far rarer than
    an incorrect prediction.
    """
    if not np.array_equal(np.unique(labels), [0, 1]) or not np.isfinite(log_odds).all():
        return np.full(len(labels), np.nan), np.full(2, np.nan), np.full(2, np.nan)
    placement, kinds = np.empty(len(labels)), [np.sort(log_odds[labels == kind]) for kind in (0, 1)]
    for own, others in zip((0, 1), kinds[::-1], strict=True):
        values = log_odds[labels == own]
        below = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")  # a tie is half
        placement[labels == own] = abs(1 - own - below / (2 * len(others)))
    area, weight = placement[labels == 1].mean(), len(labels) / np.bincount(labels)
    return area + weight[labels] * (placement - area), area + weight * (1 - area), area + weight * (0.5 - area)


METRICS = {
    "accuracy": Metric("accuracy", "share of correct predictions", _accuracy),
    "macro_f1": Metric("macro F1", "unweighted mean of the F1 of the classes", _mean("F1")),
    "balanced_accuracy": Metric("balanced accuracy", "mean recall of the classes", _mean("recall")),
    "auc": Metric("AUC", "area under the ROC curve", _auc),
}
