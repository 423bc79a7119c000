"""How sure we can be: properties that intervals, tests and verdicts must have, on data made for the purpose."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import binom, multinomial, nct, norm, t
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from peft_study.statistics import intervals, paired_tests, scores
from peft_study.statistics.intervals import NONE, Estimate, Interval, SeedVariance, of_seeds, seed_variance
from peft_study.statistics.paired_tests import (
    NO_VERDICT,
    UNSTABLE,
    Comparison,
    detectable,
    settling,
    verdict,
)
from peft_study.statistics.scores import METRICS, score, scored

quickly = settings(max_examples=25, deadline=None)
seeds = some.integers(0, 2**32 - 1)


def right(count: int, share: float, runs: int = 1, seed: int = 1) -> np.ndarray:
    """Which of `count` items each of `runs` runs has right, with that probability."""
    return np.random.default_rng(seed).random((runs, count)) < share


def by_accuracy(right: np.ndarray) -> scores.Scored:
    """Which items runs have right, as a score."""
    return scored("accuracy", np.ones(right.shape[-1], dtype=int), np.asarray(right).astype(int))


def interval(right: np.ndarray, shared: SeedVariance = NONE) -> Interval:
    return intervals.interval(by_accuracy(right), shared)


def compare(ours: np.ndarray, theirs: np.ndarray, shared: SeedVariance = NONE) -> Comparison:
    return paired_tests.compare(by_accuracy(ours), by_accuracy(theirs), shared)


# --- Scores -----------------------------------------------------------------------------------------------------------


@quickly
@given(seeds, some.integers(2, 40), some.integers(1, 6), some.integers(1, 6))
def test_scores_are_those_of_scikit_learn(seed: int, count: int, classes: int, predicted: int) -> None:
    rng = np.random.default_rng(seed)
    truth, preds, odds = rng.integers(0, classes, count), rng.integers(0, predicted, count), rng.integers(-3, 3, count)
    every = {"labels": np.unique(truth), "average": "macro", "zero_division": 0}
    assert score("accuracy", truth, preds) == (truth == preds).mean()
    assert score("macro_f1", truth, preds) == pytest.approx(f1_score(truth, preds, **every))
    assert score("balanced_accuracy", truth, preds) == pytest.approx(recall_score(truth, preds, **every))
    area = roc_auc_score(truth, odds) if set(truth) == {0, 1} else math.nan
    assert score("auc", truth, preds, odds.astype(float)) == pytest.approx(area, nan_ok=True)


@pytest.mark.parametrize("metric", METRICS)
def test_the_value_of_an_item_tells_how_the_score_changes_with_its_weight(metric: str) -> None:
    rng, copies = np.random.default_rng(1), 2000
    truth, preds, odds = rng.integers(0, 2, 30), rng.integers(0, 2, 30), rng.integers(-3, 3, 30).astype(float)
    found, whole = scored(metric, truth, preds, odds), score(metric, truth, preds, odds)
    for item in range(30):
        more = np.append(np.repeat(range(30), copies), [item] * 30)
        change = (score(metric, truth[more], preds[more], odds[more]) - whole) * (copies + 1)
        assert found.values[item] - whole == pytest.approx(change, abs=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_always_naming_the_majority_class_is_at_chance(metric: str) -> None:
    truth = np.arange(100) % 10 == 0
    expected = {"accuracy": 0.9, "macro_f1": 0.9 / 1.9, "balanced_accuracy": 0.5, "auc": 0.5}
    assert scores.chance(metric, truth.astype(int)) == pytest.approx(expected[metric])


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy", "auc"])
@pytest.mark.parametrize("runs", [1, 3])
def test_intervals_cover_where_three_items_in_a_hundred_are_of_one_class(metric: str, runs: int) -> None:
    """1,000 items, of which hard ones are hard for all; the seeds of two unlike strategies vary by their threshold."""
    rng, trials, covered = np.random.default_rng(1), 400, np.zeros(2)
    spread = 0.15 if runs > 1 else 0.0
    means, thresholds = np.array([3.6, 3.4])[:, None, None], np.array([2.2, 2.4])[:, None, None]
    many = spread * rng.standard_normal((2, 1, 20_000))
    truth = [expected(metric, *side).mean() for side in zip(means[:, 0], thresholds[:, 0] + many[:, 0], strict=True)]
    for _ in range(trials):
        labels, hard = (rng.random(1000) < 0.03).astype(int), rng.standard_normal(1000)
        odds = means * labels - thresholds - spread * rng.standard_normal((2, runs, 1)) + 0.8 * hard
        odds += 0.36 * rng.standard_normal((2, 1, 1000)) + 0.48 * rng.standard_normal((2, runs, 1000))
        first, second = (scored(metric, labels, (side > 0).astype(int), side) for side in odds)
        shared = seed_variance([first.values, second.values])
        found = intervals.interval(first, shared), paired_tests.compare(first, second, shared).interval().scaled(0.01)
        for place, target in enumerate((truth[0], truth[0] - truth[1])):
            covered[place] += found[place].low <= target <= found[place].high
    assert (covered >= binom.ppf(0.01, trials, 0.94)).all()


def expected(metric: str, mean: np.ndarray, threshold: np.ndarray, share: float = 0.03) -> np.ndarray:
    """The score on items without number."""
    found, alarms = norm.sf(threshold - mean), norm.sf(threshold)
    named = share * found + (1 - share) * alarms
    f1 = share * found / (named + share) + (1 - share) * (1 - alarms) / (2 - named - share)
    area = norm.cdf(mean / math.sqrt(2)) + 0 * threshold
    return {"macro_f1": f1, "balanced_accuracy": (found + 1 - alarms) / 2, "auc": area}[metric]


# --- Intervals --------------------------------------------------------------------------------------------------------


@quickly
@given(seeds, some.integers(1, 60), some.integers(1, 4), some.floats(0, 1))
def test_an_interval_brackets_its_estimate(seed: int, count: int, runs: int, share: float) -> None:
    found = interval(right(count, share, runs, seed))
    assert 0 <= found.low <= found.estimate <= found.high <= 1


@pytest.mark.parametrize("share", [0.5, 0.85, 0.97])
def test_the_interval_of_one_run_covers_its_true_accuracy_about_as_often_as_it_says(share: float) -> None:
    """By the binomial distribution: no sample is drawn."""
    count = 200
    found = [interval(np.arange(count) < right) for right in range(count + 1)]
    covers = [i.low <= share <= i.high for i in found]
    assert 0.94 < binom.pmf(np.flatnonzero(covers), count, share).sum() < 0.98


def test_the_interval_of_one_run_is_close_to_that_of_agresti_and_coull() -> None:
    found = interval(np.arange(1000) < 900)
    assert (found.low, found.high) == pytest.approx(proportion_confint(900, 1000, method="agresti_coull"), abs=1e-4)


@pytest.mark.parametrize(("n", "expected"), [(100, "undetermined"), (1000, "equivalent")])
def test_no_discordant_item_shows_equivalence_only_on_items_enough(n: int, expected: str) -> None:
    found = compare(np.ones(n), np.ones(n))
    assert found.difference == 0 and found.p_value == 1 and found.discordant == (0, 0)
    assert found.interval().high == -found.interval().low > 0
    assert verdict(found.interval(), 3, margin=1.0) == expected


@quickly
@given(seeds, some.integers(1, 4))
def test_neither_the_order_of_items_nor_that_of_runs_changes_anything(seed: int, runs: int) -> None:
    rng = np.random.default_rng(seed)
    order, turn = rng.permutation(50), rng.permutation(runs)
    ours, theirs = right(50, 0.8, runs, seed), right(50, 0.7, runs, seed + 1)
    plain, shuffled = compare(ours, theirs), compare(ours[turn][:, order], theirs[turn][:, order])
    assert (plain.difference, plain.gap.error, plain.p_value) == pytest.approx(
        (shuffled.difference, shuffled.gap.error, shuffled.p_value)
    )
    assert plain.discordant == shuffled.discordant


# --- Tests ------------------------------------------------------------------------------------------------------------


@quickly
@given(seeds, some.integers(1, 4), some.floats(0.5, 1), some.sampled_from([0.8, 0.95, 0.995]))
def test_a_test_rejects_exactly_where_its_interval_excludes_zero(
    seed: int, runs: int, share: float, level: float
) -> None:
    found = compare(right(80, share, runs, seed), right(80, 0.8, runs, seed + 1))
    ends = found.interval(level)
    assert (found.p_value < 1 - level) == (ends.low > 0 or ends.high < 0)


@pytest.mark.parametrize("discordance", [0.02, 0.1, 0.4])
def test_the_test_of_two_runs_rejects_equal_ones_at_most_as_often_as_it_says(discordance: float) -> None:
    """By the multinomial distribution over the numbers of items that one run alone has right."""
    n, rejected = 60, 0.0
    for ours, theirs in product(range(n), repeat=2):
        if ours + theirs <= n:
            gains = np.repeat([1, -1, 0], [ours, theirs, n - ours - theirs])
            if compare(gains >= 0, gains <= 0).p_value < 0.05:
                chances = [discordance / 2, discordance / 2, 1 - discordance]
                rejected += multinomial.pmf([ours, theirs, n - ours - theirs], n, chances)
    assert rejected <= 0.052


def test_the_interval_of_two_runs_is_that_of_bonett_and_price() -> None:
    n, first, second = 500, 40, 22
    gains = np.repeat([1, -1, 0], [first, second, n - first - second])
    found = compare(gains >= 0, gains <= 0)
    p, q = (first + 1) / (n + 2), (second + 1) / (n + 2)
    reach = t.ppf(0.975, n - 1) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    assert (found.interval().low, found.interval().high) == pytest.approx(
        (100 * (p - q - reach), 100 * (p - q + reach))
    )
    assert found.discordant == (first, second) and found.difference == pytest.approx(100 * (first - second) / n)


def test_a_clear_gap_on_many_items_is_better_beyond_doubt() -> None:
    """2.6 points on 25,000 items of which 8 % are right under one strategy only: 1,325 against 675."""
    ours, theirs = np.ones((2, 25_000), dtype=bool)
    theirs[:1325] = ours[1325:2000] = False
    there, back = compare(ours, theirs), compare(theirs, ours)
    assert there.discordant == (1325, 675) and there.difference == pytest.approx(2.6)
    assert there.p_value == back.p_value < 1e-30
    assert [verdict(found.interval(), 3, margin=0.5) for found in (there, back)] == ["better", "worse"]


# --- Seeds ------------------------------------------------------------------------------------------------------------


def test_with_several_seeds_the_test_knows_that_seeds_vary() -> None:
    """The same gap: beyond doubt between steady runs, unclear when the seeds of one strategy differ by more than it."""
    base = right(4000, 0.85, 3, seed=1)
    steady = np.concatenate([right(4000, 0.88, seed=seed) for seed in (2, 3, 4)])
    erratic = np.concatenate([right(4000, share, seed=i) for i, share in enumerate((0.8, 0.88, 0.96), start=2)])
    assert compare(steady, base).p_value < 0.01
    assert compare(erratic, base).p_value > 0.1


def test_the_variance_between_seeds_is_pooled_and_a_comparison_takes_its_own_where_that_is_larger() -> None:
    calm = [right(1000, 0.85, 3, seed) for seed in range(8)]
    wild = np.concatenate([right(1000, share, seed=9) for share in (0.75, 0.85, 0.95)])
    shared = seed_variance([*calm, wild])
    assert shared.dof == 18
    spread = [cell.mean(axis=1).var(ddof=1) for cell in (*calm, wild)]
    assert shared.between == pytest.approx(np.mean(spread))
    of_calm, of_wild = of_seeds([calm[0], calm[1]], shared), of_seeds([calm[0], wild], shared)
    assert of_calm.own == pytest.approx(shared.own * 2 / 3) and of_calm.dof == 18
    assert (
        of_wild.own == pytest.approx(seed_variance([calm[0], wild]).own * 2 / 3, rel=0.1) and of_wild.own > of_calm.own
    )
    assert of_seeds([calm[0][0], wild], shared).between < of_wild.between + 1e-9, "a fixed classifier has no seeds"
    assert of_seeds([calm[0][0], calm[1][0]], shared) == SeedVariance(0, 0, 18)


def test_runs_that_vary_no_more_than_items_make_them_have_no_seed_variance() -> None:
    cells = [right(2000, 0.85, 5, seed) for seed in range(40)]
    assert seed_variance(cells).between == pytest.approx(seed_variance(cells).within, rel=0.3)


def simulate(
    rng: np.random.Generator, gap: float, spread: list[list[float]], n: int, runs: int = 3
) -> list[list[np.ndarray]]:
    """Which items the runs of two strategies get right, budget by budget: hard items are hard for all.

    `spread` has the standard deviation of the accuracy between the seeds of each strategy at each budget.
    """
    hard, cells = rng.standard_normal(n, dtype=np.float32), []
    for budget in spread:
        pair = []
        for accuracy, deviation in zip((0.85, 0.85 + gap), budget, strict=True):
            shares = np.clip(accuracy + deviation * rng.standard_normal((runs, 1)), 0.01, 0.99)
            noise = 0.36 * rng.standard_normal(n, dtype=np.float32)
            noise = noise + 0.48 * rng.standard_normal((runs, n), dtype=np.float32)
            pair.append(0.8 * hard + noise < norm.ppf(shares))
        cells.append(pair)
    return cells


def comparisons(cells: list[list[np.ndarray]]) -> list[Comparison]:
    """The family that a study makes of such runs."""
    shared = seed_variance([cell for pair in cells for cell in pair])
    return [compare(second, first, shared) for first, second in cells]


SPREADS = {
    "seeds do not vary": [[0.0, 0.0], [0.0, 0.0]],
    "all vary alike": [[0.015, 0.015], [0.015, 0.015]],
    "fewer labels vary twice as much": [[0.02, 0.02], [0.01, 0.01]],
    "one strategy varies half as much again": [[0.015, 0.01], [0.015, 0.01]],
    "both": [[0.03, 0.02], [0.015, 0.01]],
}


@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
def test_intervals_cover_jointly_and_false_differences_are_rare(spread: list[list[float]]) -> None:
    rng, trials, missed, claimed = np.random.default_rng(1), 300, 0, 0
    for _ in range(trials):
        found = [c.interval(1 - 0.05 / 2) for c in comparisons(simulate(rng, 0.0, spread, n=1000))]
        missed += any(not i.low <= 0 <= i.high for i in found)
        claimed += any(verdict(i, 3, 0.01) in ("better", "worse") for i in found)
    assert claimed == missed <= binom.ppf(0.999, trials, 0.05)


@pytest.mark.parametrize("spread", list(SPREADS.values())[:3], ids=list(SPREADS)[:3])
def test_false_equivalence_is_rare_and_true_equivalence_is_found(spread: list[list[float]]) -> None:
    """The true difference is as large as the margin, or none."""
    rng, trials, margin, counts = np.random.default_rng(2), 150, 5.0, []
    for gap in (margin / 100, 0.0):
        counts.append(0)
        for _ in range(trials):
            found = comparisons(simulate(rng, gap, spread, n=1000))
            counts[-1] += any(verdict(c.interval(1 - 0.05 / 2), 3, margin) == "equivalent" for c in found)
    assert counts[0] <= binom.ppf(0.999, trials, 0.05) and counts[1] > trials / 2


# --- Verdicts, power, what would settle -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "seeds", "expected"),
    [
        (-0.4, 0.99, 3, "equivalent"),
        (0.1, 0.5, 3, "equivalent"),  # real, and too small to matter
        (-0.4, 1.0, 3, "undetermined"),  # an interval that touches the margin does not lie within it
        (1.5, 2.5, 3, "better"),
        (-2.5, -1.5, 3, "worse"),
        (0.0, 2.5, 3, "undetermined"),
        (0.5, 2.5, 3, "better"),  # it reaches into the margin, and excludes 0
        (1.5, 2.5, 2, NO_VERDICT),
        (-0.1, 0.1, 1, NO_VERDICT),
        (np.nan, np.nan, 3, UNSTABLE),
        (np.nan, np.nan, 2, UNSTABLE),
    ],
)
def test_the_verdict_can_be_read_off_the_interval(low: float, high: float, seeds: int, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), seeds, margin=1.0) == expected


@pytest.mark.parametrize(("ours", "theirs", "expected"), [(1, 1, 1), (3, 1, 1), (3, 5, 3), (3, 0, 3)])
def test_the_seeds_of_a_comparison_are_those_of_the_side_that_has_fewer(ours: int, theirs: int, expected: int) -> None:
    """0 stands for a fixed classifier, which has none."""
    second = right(100, 0.8, theirs) if theirs else np.ones(100)
    assert compare(right(100, 0.8, ours), second).seeds == expected


def comparison(items: float, seeds: float, n: int = 2000, runs: int = 3) -> Comparison:
    return Comparison(Estimate(0.0, 0.0, items, n, SeedVariance(seeds, 0.0, 8)), (1, 1), (runs, runs))


@pytest.mark.parametrize(("items", "seeds"), [(4e-5, 0.0), (2e-5, 5e-5)])
def test_the_detectable_difference_is_found_four_times_in_five(items: float, seeds: float) -> None:
    made = comparison(items, seeds)
    gap, dof = detectable(made) / 100, made.gap.dof
    assert 1 - nct.cdf(t.ppf(0.975, dof), dof, gap / made.gap.error) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("deviation", [0.0, 0.01])
def test_a_study_of_the_size_that_would_settle_a_comparison_finds_equivalence_four_times_in_five(
    deviation: float,
) -> None:
    rng, spread, level, margin = np.random.default_rng(3), [[deviation] * 2] * 2, 1 - 0.05 / 2, 3.0
    seen = [comparisons(simulate(rng, 0.0, spread, n=500))[0].gap for _ in range(100)]
    items, within = np.mean([[gap.items, gap.seeds.within] for gap in seen], axis=0).tolist()
    gap = Estimate(0.0, 0.0, items, 500, SeedVariance(within + 2 / 3 * deviation**2, within, 8))
    runs, n = settling(Comparison(gap, (1, 1), (3, 3)), margin, level)
    assert runs >= 3 and (runs > 3) == (deviation > 0)
    trials, found = 150, 0
    for _ in range(trials):
        larger = comparisons(simulate(rng, 0.0, spread, int(n), int(runs)))[0].interval(level)
        found += verdict(larger, 3, margin) == "equivalent"
    assert binom.ppf(0.001, trials, 0.8) <= found <= binom.ppf(0.999, trials, 0.85)


def test_no_fewer_items_are_asked_for_than_there_are_and_then_fewer_seeds_may_do() -> None:
    seeds, items = settling(comparison(4e-6, 2e-5), 1.0)
    more, same = settling(comparison(8e-6, 2e-5, n=1000), 1.0)  # the same items, half of them at hand
    assert items == 2000 and same < 2000 and 3 < seeds < more


def test_nothing_is_asked_for_where_the_numbers_suffice() -> None:
    assert all(math.isnan(value) for value in settling(comparison(1e-7, 0.0), 1.0))
