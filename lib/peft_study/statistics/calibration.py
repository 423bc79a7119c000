"""Calibration: whether a model that says 90 % is right nine times in ten. Plain arrays; never imports torch.

A model's confidence is the probability of the class that it predicts. Logits of n reviews have the shape (n, classes),
those of several runs (seeds) of one strategy (runs, n, classes).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from statsmodels.stats.proportion import proportion_confint

from peft_study.errors import StudyError
from peft_study.statistics.intervals import NONE, Estimate, Interval, SeedVariance, estimate, of_seeds

BINS = 15  # as Guo et al. (2017) have
DRAWS = 1000
_CHUNK = 2**22  # weights held at once (numbers)


def log_odds(logits: np.ndarray) -> np.ndarray:
    """The log-odds of each further class against the first, shape (..., classes - 1): all that logits say."""
    return logits[..., 1:].astype(np.float64) - logits[..., :1]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The probability of every class, in the shape of the logits."""
    return softmax(logits.astype(np.float64), axis=-1)


def chance_of(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The probability of one class of each review, shape (..., n); `classes` has the shape (n,)."""
    return np.exp(-losses(logits, classes))


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The cross-entropy of each review in nats, shape (..., n); its mean is the log-loss."""
    exact = logits.astype(np.float64)
    return logsumexp(exact, axis=-1) - _chosen(exact, labels)


def _chosen(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Of `values` (..., n, classes) that of each review's class, shape (..., n)."""
    places = np.broadcast_to(classes[..., None], (*values.shape[:-1], 1))
    return np.take_along_axis(values, places, axis=-1)[..., 0]


def brier(logits: np.ndarray, labels: np.ndarray) -> float:
    """The Brier score (1950): 0 is best.

    Of two classes it is the mean squared error of one probability, at most 1, and 0.25 for a coin; of more, the squared
    errors of all classes are summed, so that it is at most 2. scikit-learn has the same convention.
    """
    truth = np.arange(logits.shape[-1]) == labels[:, None]
    total = float(np.mean(((probabilities(logits) - truth) ** 2).sum(axis=-1)))
    return total / 2 if logits.shape[-1] == 2 else total


def confidence(logits: np.ndarray) -> np.ndarray:
    """The probability of the predicted class, from 1 / classes to 1; shape (..., n)."""
    return chance_of(logits, logits.argmax(axis=-1))


def shortfall(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confidence minus success (1 or 0) of each review: its mean is above 0 where a model is overconfident."""
    return confidence(logits) - (logits.argmax(axis=-1) == labels)


def bins(values: np.ndarray, count: int = BINS) -> np.ndarray:
    """The bin of each value, of `count` bins that hold equally many; equal values share a bin."""
    return np.searchsorted(np.unique(np.quantile(values, np.arange(1, count) / count)), values)


def ece(logits: np.ndarray, labels: np.ndarray, count: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015): the mean gap of confidence and accuracy over equal-mass bins.

    Even a perfectly calibrated model has a positive one in a sample; `expected_error` corrects for that.
    """
    where = bins(confidence(logits), count)
    return float(np.abs(np.bincount(where, shortfall(logits, labels))).sum() / len(labels))


def expected_error(logits: np.ndarray, labels: np.ndarray, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The ECE of runs, averaged over runs, with its bias corrected, and its 95 % interval over reviews and seeds.

    The bootstrap corrects the upward bias of the ECE in a sample (Kumar et al. 2019), but little where the model is
    nearly calibrated. So the interval begins at 0 where the ECE is not larger than what 97.5 % of perfectly calibrated
    models of the same confidences show (consistency resampling, Bröcker and Smith 2007).
    """
    logits, labels = _in_order(logits, labels)
    sure = confidence(logits)
    where = [bins(run) for run in sure]
    exact = np.array([ece(run, labels) for run in logits])
    drawn = _draws(shortfall(logits, labels), where, draws, seed)
    by_chance = np.quantile(_calibrated_draws(sure, where, draws, seed), 0.975)
    centre, mean, runs = max(0.0, float(2 * exact.mean() - drawn.mean())), drawn.mean(axis=1), len(exact)
    within = (drawn.var(axis=0).mean() - mean.var()) / (runs - 1) if runs > 1 else 0.0
    seeds = SeedVariance(exact.var(ddof=1) / runs, within, runs - 1) if runs > 1 else NONE
    found = Estimate(centre, centre, float(mean.var()), len(labels), seeds).interval()
    return Interval(centre, max(0.0, found.low) if exact.mean() > by_chance else 0.0, found.high)


def overconfidence(logits: np.ndarray, labels: np.ndarray) -> Interval:
    """Mean confidence minus accuracy of runs, with its 95 % interval over reviews and seeds."""
    short = np.atleast_2d(shortfall(*_in_order(logits, labels)))
    return estimate(short.mean(axis=0), [], of_seeds([short], NONE)).interval()


def _in_order(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same runs and reviews in an order that depends on nothing but their values, so that draws do too."""
    runs = sorted(logits[None] if logits.ndim == 2 else logits, key=lambda run: tuple(np.sort(log_odds(run).ravel())))
    order = np.lexsort((*(odds for run in runs for odds in log_odds(run).T), labels))
    return np.stack(runs)[:, order], labels[order]


def _draws(values: np.ndarray, where: Sequence[np.ndarray], draws: int, seed: int) -> np.ndarray:
    """Bootstrap draws of reviews: sum over bins |sum of `values` (runs, n) in the bin| / n; (draws, runs).

    `where` has the bin of each review for each run.
    """
    rng, n = np.random.default_rng(seed), values.shape[1]
    parts = []
    for size in _chunks(draws, n):
        weights = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(size)]).astype(float)
        sums = [weights @ _spread(bin_, run) for run, bin_ in zip(values, where, strict=True)]
        parts.append(np.stack([np.abs(part).sum(axis=1) / n for part in sums], axis=1))
    return np.concatenate(parts)


def _calibrated_draws(sure: np.ndarray, where: Sequence[np.ndarray], draws: int, seed: int) -> np.ndarray:
    """The ECE of perfectly calibrated models with the confidences `sure` (runs, n), averaged over runs; (draws,)."""
    rng, n = np.random.default_rng(seed), sure.shape[1]
    parts = []
    for size in _chunks(draws, n):
        luck, total = rng.random((size, n)), np.zeros(size)
        for run, bin_ in zip(sure, where, strict=True):
            total += np.abs((run - (luck < run)) @ _spread(bin_, np.ones(n))).sum(axis=1) / n
        parts.append(total / len(sure))
    return np.concatenate(parts)


def _chunks(draws: int, n: int) -> list[int]:
    """`draws` in parts small enough to be held at once."""
    step = max(1, _CHUNK // n)
    return [min(step, draws - first) for first in range(0, draws, step)]


def _spread(where: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` (n,) in the column of their bin: (n, bins), so that a product with it sums by bin."""
    return np.eye(where.max() + 1)[where] * values[:, None]


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number by which logits (n, classes) are divided for the least log-loss (Guo et al. 2017).

    Above 1: overconfident. Fit it on validation reviews and judge it on others. Raises `StudyError` where no finite
    positive number is best.
    """
    exact = logits.astype(np.float64)
    true = _chosen(exact, labels)
    if not np.isfinite(exact).all():
        raise StudyError("not all of its validation logits are numbers; run it again, or leave their file out")
    if not (true < exact.max(axis=-1)).any():
        raise StudyError(
            f"all of its {len(labels):,} validation reviews are classified rightly, so that no finite temperature is "
            "best; a larger validation_fraction may have one"
        )
    if (true - exact.mean(axis=-1)).mean() <= 0:  # minus the slope of the log-loss where the temperature is infinite
        raise StudyError(
            "its log-odds say nothing of the class of its validation reviews, so that no positive temperature is best; "
            "train it longer or at another rate"
        )
    found = minimize_scalar(
        lambda log: losses(exact / np.exp(log), labels).mean(), bounds=(-10, 10), options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def reliability(logits: np.ndarray, labels: np.ndarray, count: int = BINS) -> pd.DataFrame:
    """The reliability diagram of runs, pooled: a row per equal-mass bin of confidence.

    Columns: `confidence` (mean), `accuracy`, its Wilson interval `low`, `high`, `reviews` (of one run).
    """
    logits = logits[None] if logits.ndim == 2 else logits
    sure = confidence(logits).ravel()
    table = pd.DataFrame({"confidence": sure, "accuracy": sure - shortfall(logits, labels).ravel()})
    found = table.groupby(bins(sure, count)).mean()
    sizes = table.groupby(bins(sure, count)).size() / len(logits)  # seeds share their reviews: they count once
    low, high = proportion_confint(found["accuracy"] * sizes, sizes, method="wilson")
    return found.assign(low=low, high=high, reviews=sizes)
