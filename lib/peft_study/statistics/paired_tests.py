"""How sure we can be: paired tests, equivalence, verdicts and power. Never imports torch.

Every function takes plain arrays; strategies are compared on the same test reviews. The module `intervals` tells how
reviews and seeds enter the intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from scipy.signal import upfirdn
from scipy.stats import binom, binomtest, norm, t
from statsmodels.stats.multitest import multipletests

from peft_study.statistics.intervals import DRAWS, Interval, accuracy, least_share, resample


@dataclass(frozen=True)
class Comparison:
    """A strategy against the baseline on the same test reviews, in accuracy points (positive: better).

    `p_value` is of the paired test; `discordant` are the numbers of reviews on which the strategy, and on which the
    baseline, was right more often. `narrow` is the 90 % interval, which decides equivalence: two one-sided tests at
    5 % (Schuirmann 1987). `error` is the standard error, `dof` its degrees of freedom, `n` the number of reviews;
    `improvement` is the probability of improvement, `pairs` the number of pairs of runs that it comes from.
    """

    difference: Interval
    narrow: Interval
    p_value: float
    discordant: tuple[int, int]
    error: float = float("nan")
    dof: float = float("nan")
    n: int = 0
    improvement: float = float("nan")
    pairs: int = 1


def compare(
    strategy: np.ndarray, baseline: np.ndarray, labels: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """Compare the runs of two strategies, each (runs, n) predicted classes of the same n reviews.

    With one run a side the test is McNemar's, exact (McNemar 1947). With more, a difference must survive two tests,
    and the larger p-value counts: the permutation test, whether these runs differ on reviews like these, and the
    t-test, whether other seeds would. A side of a single run is taken as it is: its seed is not in the error.

    Where few reviews tell the two apart the bootstrap is too narrow; where none does, all draws are alike. So intervals
    reach at least as far, on either side, as n reviews without a disagreement leave open (`least_share`).
    """
    strategy, baseline = np.atleast_2d(strategy), np.atleast_2d(baseline)
    ours, theirs = resample([strategy, baseline], labels, accuracy, draws, seed)
    gap = ours - theirs
    gaps = (strategy == labels).sum(axis=0) * len(baseline) - (baseline == labels).sum(axis=0) * len(strategy)
    discordant = int((gaps > 0).sum()), int((gaps < 0).sum())
    return Comparison(
        _at_least(gap.interval(0.95), len(labels)).scaled(100),
        _at_least(gap.interval(0.90), len(labels)).scaled(100),
        max(permutation(gaps), gap.p_value()) if gap.seeds else mcnemar(*discordant),
        discordant,
        100 * gap.error,
        gap.dof,
        len(labels),
        probability_of_improvement((strategy == labels).sum(axis=1), (baseline == labels).sum(axis=1)),
        len(strategy) * len(baseline),
    )


def _at_least(interval: Interval, n: int) -> Interval:
    """The interval of a difference, no narrower than what `n` reviews without a disagreement leave open."""
    middle, room = interval.estimate, 1 - least_share(n, interval.level)
    low, high = min(interval.low, middle - room), max(interval.high, middle + room)
    return Interval(middle, max(-1.0, low), min(1.0, high), interval.level)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value of McNemar's test, from the numbers of reviews that only one of two got right."""
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def permutation(gaps: np.ndarray) -> float:
    """The exact two-sided p-value of the paired permutation test of whole numbers `gaps` (n,), one a review.

    If the two sides are alike, each gap is as likely with the other sign (Fisher 1935). All 2^n signs are counted,
    not drawn: the sum of the positive gaps is a sum of binomials, whose distribution is a convolution. Of gaps -1, 0
    and 1 this is McNemar's test.
    """
    sizes, counts = np.unique(np.abs(gaps[gaps != 0]), return_counts=True)
    unit = gcd(*map(int, sizes)) or 1
    chances = np.ones(1)  # of each sum of positive gaps, in units
    for size, count in zip(sizes // unit, counts, strict=True):
        chances = upfirdn(chances, binom.pmf(np.arange(count + 1), count, 0.5), up=int(size))
    positive, negative = (int(gaps[side].sum()) // unit for side in (gaps > 0, gaps < 0))
    return float(min(1.0, 2 * chances[max(positive, -negative) :].sum()))


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> float:
    """How often a run of one strategy scores above a run of another, over all pairs; a tie counts half.

    `first` (runs,) and `second` (runs,) are scores (Agarwal et al. 2021). NaN where a side has one run: what another
    seed would do cannot then be told.
    """
    if min(len(first), len(second)) < 2:
        return float("nan")
    ahead = np.sign(np.subtract.outer(first, second))
    return float((1 + ahead.mean()) / 2)


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


def detectable(comparison: Comparison, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference, in points, that a test at `alpha` would find with probability `power`.

    For one run a side the formula is Connor's (1987), solved for the difference, at the observed share of discordant
    reviews; for more it is Bloom's (1995): so many standard errors. NaN where no difference could be found: the runs
    disagree on nothing, or on too few reviews.
    """
    sides = np.array([1 - alpha / 2, power])
    if comparison.pairs == 1:
        n, discordance = comparison.n, sum(comparison.discordant) / max(1, comparison.n)
        test, found = norm.ppf(sides)
        room = n + found**2 - test**2
        if room < 0 or not discordance:
            return float("nan")
        share = float(np.sqrt(discordance) * (np.sqrt(n) * test + found * np.sqrt(room)) / (n + found**2))
        return 100 * share if share <= discordance else float("nan")
    return float(t.ppf(sides, comparison.dof).sum() * comparison.error) or float("nan")
