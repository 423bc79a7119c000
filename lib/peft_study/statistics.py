"""How sure we can be: intervals, paired tests and verdicts. Never imports torch.

Every function takes plain arrays. Intervals are percentile bootstrap intervals (Efron & Tibshirani 1993). With several
seeds the bootstrap draws seeds and test reviews, since both vary: a two-level bootstrap, with the same draw of reviews
for all seeds because they share one test set.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

DRAWS = 2000
_CHUNK = 2**24  # weights held at once (numbers)

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it, at confidence `level`."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def scaled(self, factor: float) -> "Interval":
        """The same interval in other units."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Interval(self.estimate * factor, low, high, self.level)

    def __str__(self) -> str:
        return f"{self.estimate:.1f} [{self.low:.1f}, {self.high:.1f}]"


def accuracy(preds: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Accuracy of each row of `preds` (runs, n) under each row of item `weights` (draws, n); shape (draws, runs)."""
    return weights @ (preds == labels).T.astype(float) / weights.sum(axis=1, keepdims=True)


def macro_f1(preds: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Macro F1 of classes 0 and 1; shapes as in `accuracy`. A class neither present nor predicted counts 0."""
    scores = []
    for cls in (0, 1):
        hits = weights @ ((preds == cls) & (labels == cls)).T.astype(float)
        either = weights @ (preds == cls).T.astype(float) + weights @ (labels == cls).astype(float)[:, None]
        scores.append(np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0))
    return np.mean(scores, axis=0)


def bootstrap(
    preds: np.ndarray, labels: np.ndarray, statistic: Statistic = accuracy, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """The bootstrap distribution of a statistic averaged over runs that differ by seed only.

    preds: (runs, n) predicted classes. labels: (n,). Draws test reviews with replacement and, where there are several
    runs, runs too. Returns (draws,).
    """
    return _paired_draws([preds], labels, statistic, draws, seed)[0]


def _paired_draws(
    groups: Sequence[np.ndarray], labels: np.ndarray, statistic: Statistic, draws: int, seed: int
) -> list[np.ndarray]:
    """`bootstrap` of several groups of runs under the same draws of reviews.

    Reviews on which all runs say the same are alike, so it is their number that is drawn: the same distribution as a
    draw of single reviews, in a fraction of the time, and whatever the order of the reviews.
    """
    rng = np.random.default_rng(seed)
    groups = [np.atleast_2d(preds) for preds in groups]
    kinds, sizes = np.unique(np.vstack([*groups, labels]), axis=1, return_counts=True)
    groups, labels = np.split(kinds[:-1], np.cumsum([len(preds) for preds in groups])[:-1]), kinds[-1]
    parts: list[list[np.ndarray]] = [[] for _ in groups]
    step = max(1, _CHUNK // len(sizes))
    for first in range(0, draws, step):
        count = min(step, draws - first)
        weights = rng.multinomial(sizes.sum(), sizes / sizes.sum(), size=count).astype(float)
        for part, preds in zip(parts, groups, strict=True):
            values = statistic(preds, labels, weights)
            runs = values.shape[1]
            chosen = rng.integers(runs, size=(count, runs)) if runs > 1 else np.zeros((count, 1), dtype=int)
            part.append(np.take_along_axis(values, chosen, axis=1).mean(axis=1))
    return [np.concatenate(part) for part in parts]


def interval(
    preds: np.ndarray,
    labels: np.ndarray,
    statistic: Statistic = accuracy,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The statistic, averaged over the runs of `preds` (runs, n), with its bootstrap interval."""
    preds = np.atleast_2d(preds)
    estimate = float(statistic(preds, labels, np.ones((1, len(labels)))).mean())
    return _percentiles(estimate, bootstrap(preds, labels, statistic, draws, seed), level)


def _percentiles(estimate: float, draws: np.ndarray, level: float) -> Interval:
    """The percentile interval; it always contains the estimate."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), level)


@dataclass(frozen=True)
class Comparison:
    """A strategy against the baseline on the same test reviews, in accuracy points (positive: better).

    `p_value` is of the paired test; `discordant` are the numbers of reviews that only the strategy, and only the
    baseline, got right. `narrow` is the 90 % interval, which decides equivalence (two one-sided tests at 5 %).
    """

    difference: Interval
    narrow: Interval
    p_value: float
    discordant: tuple[int, int]


def compare(
    strategy: np.ndarray, baseline: np.ndarray, labels: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """Compare the runs of two strategies, each (runs, n) predicted classes of the same n reviews.

    With one run a side the test is McNemar's, exact (McNemar 1947); with more, seeds vary too, and the p-value comes
    from the two-level bootstrap of the difference.
    """
    strategy, baseline = np.atleast_2d(strategy), np.atleast_2d(baseline)
    right, base = (strategy == labels).mean(axis=0), (baseline == labels).mean(axis=0)
    ours, theirs = _paired_draws([strategy, baseline], labels, accuracy, draws, seed)
    gaps, estimate = 100 * (ours - theirs), 100 * float(right.mean() - base.mean())
    discordant = int((right > base).sum()), int((right < base).sum())
    single = len(strategy) == len(baseline) == 1
    return Comparison(
        _percentiles(estimate, gaps, 0.95),
        _percentiles(estimate, gaps, 0.90),
        mcnemar(*discordant) if single else _bootstrap_p(gaps),
        discordant,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value of McNemar's test, from the numbers of reviews that only one of two got right."""
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def _bootstrap_p(gaps: np.ndarray) -> float:
    """The two-sided p-value of no difference, from bootstrap draws of the difference."""
    below, above = (np.sum(gaps <= 0) + 1) / (len(gaps) + 1), (np.sum(gaps >= 0) + 1) / (len(gaps) + 1)
    return float(min(1.0, 2 * min(below, above)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for the number of comparisons (Holm 1979)."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def verdict(comparison: Comparison, corrected_p: float, margin: float, alpha: float = 0.05) -> str:
    """One of "better", "worse", "equivalent" (within `margin` accuracy points) and "undetermined".

    Better and worse need the corrected paired test to reject; equivalent needs the 90 % interval to lie inside the
    margin. A difference that is real but lies inside the margin is called equivalent: it is too small to matter.
    """
    if -margin < comparison.narrow.low and comparison.narrow.high < margin:
        return "equivalent"
    if corrected_p < alpha:
        return "better" if comparison.difference.estimate > 0 else "worse"
    return "undetermined"
