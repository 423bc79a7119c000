"""Scores of predicted classes `preds` (n,) against true ones `labels` (n,). Never imports torch."""

import numpy as np
from sklearn.metrics import recall_score, roc_auc_score


def accuracy(preds: np.ndarray, labels: np.ndarray) -> float:
    """The share of correct predictions."""
    return float((preds == labels).mean())


def majority(labels: np.ndarray) -> float:
    """The share of the most frequent class."""
    return float(np.bincount(labels).max() / len(labels))


def macro_f1(preds: np.ndarray, labels: np.ndarray) -> float:
    """The unweighted mean of the F1 of the classes that occur among the labels.

    scikit-learn's with `labels=np.unique(labels), zero_division=0`, which takes ten times as long.
    """
    kinds = np.unique(labels)[:, None]
    predicted, true = preds == kinds, labels == kinds
    return float(np.mean(2 * (predicted & true).sum(axis=1) / (predicted.sum(axis=1) + true.sum(axis=1))))


def balanced_accuracy(preds: np.ndarray, labels: np.ndarray) -> float:
    """The mean recall of the classes that occur among the labels."""
    return float(recall_score(labels, preds, labels=np.unique(labels), average="macro"))


def class_ratios(preds: np.ndarray, labels: np.ndarray, kind: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Precision, recall and F1 of the class `kind`: what each text adds to the numerator and to the denominator.

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


def auc(log_odds: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve by the log-odds (n,) of class 1; NaN if a class or a value is absent."""
    known = len(np.unique(labels)) == 2 and np.isfinite(log_odds).all()
    return float(roc_auc_score(labels, log_odds)) if known else float("nan")
