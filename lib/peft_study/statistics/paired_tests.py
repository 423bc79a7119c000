"""How sure we can be: paired comparisons, equivalence, verdicts and power. Never imports torch.

What is compared was tested on the same items. Test and interval agree: a p-value is below 1 − level exactly where the
interval at that level excludes 0. `intervals` tells how items and seeds enter.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t

from peft_study.statistics.intervals import NONE, Estimate, Interval, SeedVariance, estimate, of_seeds
from peft_study.statistics.scores import Scored

SEEDS = 3  # a side: fewer say too little of what another seed would do for a verdict on strategies
POWER = 0.8
NO_VERDICT = "no verdict"
AT_CHANCE = "reference at chance"  # in place of a verdict, where the baseline is at chance
UNSTABLE = "unstable"  # the same, where a side has seeds at chance and others that are not
_CHANCES = (np.arange(40) + 0.5) / 40  # quantiles that stand for a distribution


@dataclass(frozen=True)
class Comparison:
    """A strategy against a baseline on the same items, in points, hundredths of a score (positive: better).

    `discordant` are the numbers of items on which the strategy, and on which the baseline, was right more often.
    `runs` are the numbers of runs of the sides that have seeds. `at_chance` says whether the baseline is not
    distinguishable from always naming the majority class.
    """

    gap: Estimate
    discordant: tuple[int, int]
    runs: tuple[int, ...]
    at_chance: bool = False

    @property
    def difference(self) -> float:
        """The difference in points."""
        return 100 * self.gap.value

    @property
    def p_value(self) -> float:
        """The two-sided p-value of no difference."""
        return self.gap.p_value()

    @property
    def seeds(self) -> int:
        """Seeds of the side that has fewer; 1 where neither has any."""
        return min(self.runs, default=1)

    def interval(self, level: float = 0.95) -> Interval:
        """The interval of the difference in points."""
        return self.gap.interval(level).scaled(100)


def compare(strategy: Scored, baseline: Scored, shared: SeedVariance = NONE, at_chance: bool = False) -> Comparison:
    """Compare two sides by their values of the same items.

    `shared` is the variance between seeds that the study's strategies and budgets share. Without it, the difference of
    single runs is between these runs: seeds are not in its error, and the test of accuracies is a Wald test of paired
    proportions, close to McNemar's mid-p (Fagerland et al. 2013). All is NaN where a side is unstable.
    """
    sides = (strategy, baseline)
    ours, theirs = (np.atleast_2d(side.values).mean(axis=0) for side in sides)
    alone = strategy.pseudo - baseline.pseudo[::-1]  # of pseudo-items that one side alone classifies correctly
    gap = estimate(ours - theirs, alone, 2, of_seeds([side.values for side in sides], shared))
    if strategy.unstable or baseline.unstable:
        gap = replace(gap, value=np.nan, items=np.nan)
    ours, theirs = (np.atleast_2d(side.right) for side in sides)
    leads = ours.sum(axis=0) * len(theirs) - theirs.sum(axis=0) * len(ours)
    discordant = int((leads > 0).sum()), int((leads < 0).sum())
    return Comparison(gap, discordant, tuple(len(s.values) for s in sides if s.values.ndim == 2), at_chance)


def verdict(interval: Interval, seeds: int, margin: float, at_chance: bool = False) -> str:
    """What an interval of a difference in points says of two strategies.

    "equivalent" where it lies within ± `margin`: two one-sided tests (Schuirmann 1987), each at half of 1 − level;
    "better" or "worse" where it excludes 0; else "undetermined". A difference that is real but lies inside the margin
    is equivalent: it is too small to matter. `NO_VERDICT` with fewer than `SEEDS` seeds; `AT_CHANCE` where the
    baseline is at chance: any classifier that has learned is better; `UNSTABLE` where there is none, NaN.
    """
    if np.isnan(interval.low):
        return UNSTABLE
    if at_chance:
        return AT_CHANCE
    if seeds < SEEDS:
        return NO_VERDICT
    if -margin < interval.low and interval.high < margin:
        return "equivalent"
    if interval.low > 0 or interval.high < 0:
        return "better" if interval.low > 0 else "worse"
    return "undetermined"


def detectable(comparison: Comparison, level: float = 0.95) -> float:
    """The smallest true difference, in points, that the interval at `level` excludes 0 for with probability `POWER`.

    So many standard errors (Bloom 1995).
    """
    return float(t.ppf([(1 + level) / 2, POWER], comparison.gap.dof).sum() * (100 * comparison.gap.error))


def settling(comparison: Comparison, margin: float, level: float = 0.95) -> tuple[float, float]:
    """Seeds of every strategy compared and test items that would settle a comparison, from the variances seen.

    With them, strategies that are equally good are found equivalent with probability `POWER`, and a difference as
    large as the margin is found with probability (1 + `POWER`) / 2; differences in between are settled less often.
    Seeds may use half of the variance that this allows, items the rest; where the present items are more than that,
    fewer seeds may do. NaN, NaN where the present numbers suffice.
    """
    fewest, sides, present = max(SEEDS, comparison.seeds), len(comparison.runs), comparison.gap.n
    allowed = (margin / 100 / norm.ppf([(1 + level) / 2, (1 + POWER) / 2]).sum()) ** 2
    of_one = comparison.gap.seeds.own / sum(1 / runs for runs in comparison.runs)
    if _power(comparison, fewest, present, margin / 100, level) >= POWER:
        return float("nan"), float("nan")
    seeds = max(fewest, ceil(2 * sides * of_one / allowed))
    while _power(comparison, seeds, 1e12, margin / 100, level) < POWER:
        seeds += 1

    def excess(log_items: float) -> float:
        return _power(comparison, seeds, np.exp(log_items), margin / 100, level) - POWER

    items = ceil(np.exp(brentq(excess, 0, np.log(1e12))))
    while items < present and _power(comparison, seeds - 1, present, margin / 100, level) >= POWER:
        seeds -= 1
    return float(seeds), float(max(items, present))


def _power(comparison: Comparison, seeds: int, n: float, margin: float, level: float) -> float:
    """The chance that equally good strategies are found equivalent with so many seeds of each and `n` items.

    It is averaged over what the variance between seeds may be estimated as, from the two strategies and from the study.
    """
    gap, sides = comparison.gap, len(comparison.runs)
    share = sides / seeds / sum(1 / runs for runs in comparison.runs)  # of the present variance over seeds
    own, within = gap.seeds.own * share, gap.seeds.within * share * gap.n / n
    items = max(gap.items - gap.seeds.within * (1 - share), gap.items * share) * gap.n / n
    of_two = sides * (seeds - 1)
    of_study = max(of_two, gap.seeds.dof * (seeds - 1) / max(1, comparison.seeds - 1))
    two, rest = np.meshgrid(*(chi2.ppf(_CHANCES, max(dof, 1e-9)) for dof in (of_two, of_study - of_two)))
    between = (own + within) * np.maximum(two / of_two, (two + rest) / of_study)
    variance = items + np.maximum(0, between - within)
    dof = np.clip(variance**2 / (items**2 / n + between**2 / of_study), 1, n)
    room = margin - t.ppf((1 + level) / 2, dof) * np.sqrt(variance)
    return float(np.clip(2 * norm.cdf(room / np.sqrt(items + own)) - 1, 0, 1).mean())
