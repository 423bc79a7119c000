"""Scores of predictions text by text: what a study may compare strategies by. Never imports torch.

A score that is not a mean over texts is linearised. The value of a text is the score plus the text's influence, the
derivative of the score with respect to the text's weight (Hampel 1974; the infinitesimal jackknife). The mean of the
values is the score, and their variance divided by the number of texts is the variance of the score: that of DeLong et
al. (1988) for AUC, and that of a proportion for accuracy, whose values are 1 and 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Values = tuple[np.ndarray, np.ndarray, np.ndarray]  # of texts (n,), of correct and incorrect pseudo-texts (classes,)
# A score and, by class, what a correct text of it adds, and what each text of it and each predicted as it subtracts.
Terms = tuple[float, np.ndarray, np.ndarray, np.ndarray]


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
    that one more text of each class would have: one that is classified correctly and one that is not.
    """

    values: np.ndarray
    right: np.ndarray
    pseudo: np.ndarray


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


def _of_classes(terms: Callable[..., Terms]) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Values]:
    """The values of a score of classes; `terms` takes the texts, predictions and correct predictions of each class."""

    def values(labels: np.ndarray, preds: np.ndarray, _: np.ndarray) -> Values:
        right, classes = labels == preds, max(2, labels.max() + 1, preds.max() + 1)
        counts = (np.bincount(kinds, minlength=classes) for kinds in (labels, preds, labels[right]))
        score, gain, lost, named = terms(*counts)
        others = (named.sum() - named) / (classes - 1)  # the mean over the classes that a text may be taken for
        pseudo = np.stack([score - lost + gain - named, score - lost - others])[:, np.unique(labels)]
        return score - lost[labels] + gain[labels] * right - named[preds], *pseudo

    return values


def _accuracy(sizes: np.ndarray, named: np.ndarray, right: np.ndarray) -> Terms:
    return 0.0, np.ones(len(sizes)), np.zeros(len(sizes)), np.zeros(len(sizes))


def _balanced_accuracy(sizes: np.ndarray, named: np.ndarray, right: np.ndarray) -> Terms:
    weight = sizes.sum() / ((sizes > 0).sum() * np.maximum(sizes, 1))
    recall = right / np.maximum(sizes, 1)
    return recall[sizes > 0].mean(), weight, weight * recall, np.zeros(len(sizes))


def _macro_f1(sizes: np.ndarray, named: np.ndarray, right: np.ndarray) -> Terms:
    both = np.maximum(sizes + named, 1)
    weight, f1 = (sizes > 0) * sizes.sum() / ((sizes > 0).sum() * both), 2 * right / both
    return f1[sizes > 0].mean(), 2 * weight, weight * f1, weight * f1


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
    "accuracy": Metric("accuracy", "share of correct predictions", _of_classes(_accuracy)),
    "macro_f1": Metric("macro F1", "unweighted mean of the F1 of the classes", _of_classes(_macro_f1)),
    "balanced_accuracy": Metric("balanced accuracy", "mean recall of the classes", _of_classes(_balanced_accuracy)),
    "auc": Metric("AUC", "area under the ROC curve", _auc),
}


def class_ratios(preds: np.ndarray, labels: np.ndarray, kind: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Precision, recall and F1 of the class `kind`: the term of each text in the numerator and in the denominator.

    `preds` are (..., n), as are the arrays returned. Texts of the class that are predicted as it count twice in F1.
    """
    predicted, true = np.broadcast_arrays(preds == kind, labels == kind)
    hit, either = predicted & true, predicted.astype(int) + true
    return {"precision": (hit, predicted), "recall": (hit, true), "F1": (2 * hit, either)}


def pseudo_values(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Values (..., n) whose mean is the ratio of the sums of `part` and `whole`, and whose variance that of the ratio.

    They add to the ratio its influence function (the infinitesimal jackknife, Efron 1982). NaN where `whole` sums to 0.
    """
    total = np.where(whole.any(axis=-1, keepdims=True), whole.sum(axis=-1, keepdims=True), np.nan)
    ratio = part.sum(axis=-1, keepdims=True) / total
    return np.asarray(ratio + (part - ratio * whole) * whole.shape[-1] / total)
