"""Scores of predictions: plain arrays in, one number a run out. Never imports torch.

`preds` (runs, n) are predicted classes of runs on the same n test items, `labels` (n,) the true ones.
"""

import numpy as np
from scipy.stats import rankdata


def accuracy(preds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of correct predictions of each run, shape (runs,)."""
    return (preds == labels).mean(axis=-1)


def majority(labels: np.ndarray) -> float:
    """The share of the most frequent class."""
    return float(np.bincount(labels).max() / len(labels))


def macro_f1(preds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The unweighted mean of the F1 of the classes that occur among the labels, of each run, shape (runs,).

    A class that is never predicted correctly counts 0; predicting a class that does not occur lowers the recall of the
    true class. scikit-learn has the same with `labels=np.unique(labels), zero_division=0`.
    """
    return np.mean([_f1(preds == kind, labels == kind) for kind in np.unique(labels)], axis=0)


def _f1(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return 2 * (predicted & true).sum(axis=-1) / (predicted.sum(axis=-1) + true.sum())


def balanced_accuracy(preds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean recall of the classes that occur among the labels, of each run, shape (runs,)."""
    return np.mean([(preds == kind)[..., labels == kind].mean(axis=-1) for kind in np.unique(labels)], axis=0)


def auc(log_odds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The area under the ROC curve of each run, shape (runs,): how often an item of class 1 has the higher log-odds.

    `log_odds` (runs, n) are those of class 1; ties count half (Mann and Whitney 1947). NaN if a class does not occur.
    """
    positive = int((labels == 1).sum())
    pairs = positive * (len(labels) - positive)
    ranks = rankdata(log_odds, axis=-1)[..., labels == 1].sum(axis=-1)
    return (ranks - positive * (positive + 1) / 2) / pairs if pairs else np.full(np.shape(ranks), np.nan)
