"""Scores of predictions: plain arrays in, one number out. Never imports torch.

`preds` (runs, n) are predicted classes of runs on the same n test items, `labels` (n,) the true ones.
"""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score


def majority(labels: np.ndarray) -> float:
    """The share of the most frequent class."""
    return float(np.bincount(labels).max() / len(labels))


def over_classes(score: Callable[..., float], preds: np.ndarray, labels: np.ndarray) -> float:
    """scikit-learn's `score`, such as `f1_score`, averaged over the classes among the labels, and over runs."""
    every = {"labels": np.unique(labels), "average": "macro", "zero_division": 0}
    return float(np.mean([score(labels, run, **every) for run in preds]))


def auc(log_odds: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve, averaged over runs; NaN if a class does not occur or a value is not on record.

    `log_odds` (runs, n) are those of class 1.
    """
    if len(np.unique(labels)) < 2 or not np.isfinite(log_odds).all():
        return float("nan")
    return float(np.mean([roc_auc_score(labels, run) for run in log_odds]))
