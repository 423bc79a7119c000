"""Intervals over the two samples that a score comes from: test items and seeds. Never imports torch.

The two samples cross, since every run predicts every item, so the variance of a mean over both is the sum of what each
adds (Clark 1973; Hillis 2007):

- items: the variance of the mean of their values (`scores`), or of the difference between two means that share their
  items, with the pseudo-items of the adjusted Wald intervals (Agresti and Coull 1998; Bonett and Price 2012), which
  keep them from being too narrow where there are few errors or few discordant items. They are distributed equally over
  the classes (Price and Bonett 2004), since a score may weight rare ones more; for accuracy this changes nothing;
- seeds: the variance between runs that differ by their seed alone. Three seeds estimate it with two degrees of freedom,
  so it is pooled over all strategies and budgets of a study whose runs all learned; where the runs at hand vary more
  than that, their own variance is taken. The part of it that items account for is subtracted, since it is in the
  variance over items.

Intervals use Student's t with Satterthwaite's (1946) degrees of freedom, those of the pooled variance. Simulated joint
coverage with three seeds, two strategies and two budgets: 95.0 to 97.6 % where the standard deviation between seeds is
0 to 2 points and differs up to twofold between strategies or between budgets; for macro F1 and balanced accuracy
where 3 % of 1,000 or 4,000 items are of one of two classes, 93.8 to 99.8 %; for AUC there, 95.0 to 100 %
(`lib/NOTES.md`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from peft_study.statistics.scores import Scored


@dataclass(frozen=True)
class Interval:
    """An estimate and the confidence interval around it."""

    estimate: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """The same interval in other units."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"{self.estimate:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class SeedVariance:
    """The variance of a score `between` runs that differ by their seed alone, with its degrees of freedom.

    `within` is the part of it that items account for, since each run errs on some items by chance.
    """

    between: float = 0.0
    within: float = 0.0
    dof: int = 0

    def times(self, factor: float) -> "SeedVariance":
        """That of a mean over runs, or of the difference between two."""
        return SeedVariance(self.between * factor, self.within * factor, self.dof)

    @property
    def own(self) -> float:
        """What seeds add to the variance over items; 0 where runs vary no more than items make them."""
        return max(0.0, self.between - self.within)


NONE = SeedVariance()


def seed_variance(cells: Iterable[np.ndarray]) -> SeedVariance:
    """The variance pooled over `cells`, each (runs, n): the values of items whose mean is a run's score.

    A cell holds the runs of one strategy at one budget; one of a single run adds nothing.
    """
    several = [cell for cell in cells if len(cell) > 1]
    if not several:
        return NONE
    weights = np.array([len(cell) - 1 for cell in several])
    between = [cell.mean(axis=1).var(ddof=1) for cell in several]
    within = [cell.var(axis=0, ddof=1).mean() / cell.shape[1] for cell in several]
    pooled_between, pooled_within = (float(np.average(values, weights=weights)) for values in (between, within))
    return SeedVariance(pooled_between, pooled_within, int(weights.sum()))


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and items: its `value`, the `centre` of its interval, its variance over `items` and `seeds`.

    `n` is the number of items.
    """

    value: float
    centre: float
    items: float
    n: int
    seeds: SeedVariance = NONE

    @property
    def error(self) -> float:
        """The standard error."""
        return float(np.sqrt(self.items + self.seeds.own))

    @property
    def dof(self) -> float:
        """Satterthwaite's degrees of freedom of `error`."""
        most = max(1, self.n - 1)
        parts = self.items**2 / most + self.seeds.between**2 / max(1, self.seeds.dof)
        return max(1.0, min(most, self.error**4 / parts)) if parts else float(most)

    def interval(self, level: float = 0.95) -> Interval:
        """Student's interval at `level`, widened to the value where that lies outside."""
        reach = float(t.ppf((1 + level) / 2, self.dof)) * self.error
        return Interval(self.value, min(self.centre - reach, self.value), max(self.centre + reach, self.value))

    def p_value(self) -> float:
        """The two-sided p-value of Student's t-test that the mean is 0: below 1 − level where the interval is off 0."""
        return float(2 * t.sf(abs(self.centre) / self.error, self.dof))


def estimate(values: np.ndarray, pseudo: np.ndarray, count: int, seeds: SeedVariance) -> Estimate:
    """The mean of `values` (n,), one an item, with `count` pseudo-items for its interval and what seeds add to it.

    `pseudo` (2, classes) are the values of the kinds of pseudo-items, each with an equal share of the count.
    """
    padded, n = np.append(values, pseudo), len(values)
    weights = np.append(np.ones(n), np.full(pseudo.size, count / pseudo.size))
    centre = np.average(padded, weights=weights)
    items = np.average((padded - centre) ** 2, weights=weights) / (n + count)
    return Estimate(float(np.mean(values)), float(centre), float(items), n, seeds)


def interval(scored: Scored, shared: SeedVariance = NONE) -> Interval:
    """The mean score of runs with its 95 % interval.

    `shared` is the study's variance between seeds. A fixed classifier's interval is over items alone. All is NaN of
    unstable runs.
    """
    mean = np.atleast_2d(scored.values).mean(axis=0)
    found = estimate(mean, scored.pseudo, 4, of_seeds([scored.values], shared)).interval()
    if scored.unstable:
        return Interval(np.nan, np.nan, np.nan)
    return Interval(found.estimate, max(0.0, found.low), min(1.0, found.high))


def unstable(runs: Iterable[Interval], chance: float) -> bool:
    """Whether some runs that differ by their seed alone are at chance, and another is above the intervals of these.

    The runs are of two kinds then, those that learned and those that did not, and their mean describes neither.
    """
    runs = list(runs)
    at_chance = [run.high for run in runs if run.low <= chance]
    return bool(at_chance) and max(run.low for run in runs) > max(at_chance)


def of_seeds(sides: Sequence[np.ndarray], shared: SeedVariance) -> SeedVariance:
    """The variance between seeds of the mean of one side, or of the difference between the means of two.

    It is the larger of the sides' own and that which the study's strategies and budgets share. A side is (runs, n), or
    (n,) where it is fixed and has no seeds.
    """
    sides = [side for side in sides if side.ndim == 2]
    own = [seed_variance([side]).times(1 / len(side)) for side in sides]
    added = SeedVariance(sum(s.between for s in own), sum(s.within for s in own), sum(s.dof for s in own))
    pooled = shared.times(sum(1 / len(side) for side in sides))
    larger = max(added, pooled, key=lambda found: found.own)
    return SeedVariance(larger.between, larger.within, max(added.dof, pooled.dof))
