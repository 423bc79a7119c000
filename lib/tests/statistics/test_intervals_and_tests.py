"""How sure we can be: properties that intervals, tests and verdicts must have, on data made for the purpose."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import binom, binomtest, nct, norm, permutation_test, t
from sklearn.metrics import accuracy_score, f1_score
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from peft_study.statistics.intervals import Interval, accuracy, interval, macro_f1, resample
from peft_study.statistics.paired_tests import (
    Comparison,
    compare,
    detectable,
    holm,
    mcnemar,
    permutation,
    probability_of_improvement,
    verdict,
)

pytestmark = pytest.mark.usefixtures("cheap_garbage")
quickly = settings(max_examples=25, deadline=None)
seeds = some.integers(0, 2**32 - 1)
NONE = Interval(0.0, 0.0, 0.0)


def labels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, count)


def predict(truth: np.ndarray, share: float, runs: int = 1, seed: int = 1) -> np.ndarray:
    """Classes of `runs` runs, each right on every review with that probability."""
    right = np.random.default_rng(seed).random((runs, len(truth))) < share
    return np.where(right, truth, 1 - truth)


@quickly
@given(seeds, some.integers(1, 40), some.integers(1, 4), some.integers(1, 6), some.integers(1, 6))
def test_accuracy_and_macro_f1_of_weighted_reviews_are_those_of_scikit_learn(
    seed: int, count: int, runs: int, classes: int, predicted: int
) -> None:
    rng = np.random.default_rng(seed)
    truth, preds = rng.integers(0, classes, count), rng.integers(0, predicted, (runs, count))
    weights = rng.integers(1, 4, (1, count)).astype(float)
    for row in range(runs):
        share = accuracy_score(truth, preds[row], sample_weight=weights[0])
        assert accuracy(preds, truth, weights)[0, row] == pytest.approx(share)
        reference = f1_score(
            truth, preds[row], labels=np.unique(truth), average="macro", zero_division=0, sample_weight=weights[0]
        )
        assert macro_f1(preds, truth, weights)[0, row] == pytest.approx(reference)


@quickly
@given(seeds, some.integers(2, 30), some.integers(1, 5))
def test_a_draw_has_the_macro_f1_of_the_reviews_that_it_repeats(seed: int, count: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth, preds = rng.integers(0, classes, count), rng.integers(0, classes, (1, count))
    weights = rng.multinomial(count, np.full(count, 1 / count), size=3).astype(float)
    for weight, drawn in zip(weights.astype(int), macro_f1(preds, truth, weights)[:, 0], strict=True):
        labels, found = np.repeat(truth, weight), np.repeat(preds[0], weight)
        reference = f1_score(labels, found, labels=np.unique(labels), average="macro", zero_division=0)
        assert drawn == pytest.approx(reference), "a class that is not drawn is not averaged"


@quickly
@given(seeds, some.integers(1, 60), some.integers(1, 4), some.floats(0, 1), some.sampled_from([accuracy, macro_f1]))
def test_an_interval_brackets_its_estimate(seed: int, count: int, runs: int, share: float, statistic: object) -> None:
    truth = labels(count, seed)
    found = interval(predict(truth, share, runs, seed), truth, statistic, draws=200)  # type: ignore[arg-type]
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_intervals_cover_the_true_accuracy_about_as_often_as_they_say() -> None:
    truth, trials, share = labels(200), 400, 0.85
    found = [interval(predict(truth, share, seed=seed), truth, draws=200, seed=seed) for seed in range(trials)]
    low, high = binom.ppf([0.0005, 0.9995], trials, 0.95)
    assert low <= sum(i.low <= share <= i.high for i in found) <= high


@pytest.mark.parametrize(("runs", "spread"), [(3, 0.0), (2, 0.04), (5, 0.02)])
def test_intervals_over_few_seeds_cover_at_least_about_as_often_as_they_say(runs: int, spread: float) -> None:
    """Accuracies scatter by `spread`, not at all to more than reviews do; no difference; all fail on hard reviews."""
    rng, trials, truth = np.random.default_rng(runs), 100, np.ones(300, dtype=int)
    single = both = rejected = 0
    for _ in range(trials):
        shares = np.clip(0.85 + spread * rng.standard_normal((2, runs, 1)), 0.01, 0.99)
        noise = 0.8 * rng.standard_normal(300) + 0.6 * rng.standard_normal((2, runs, 300))
        ours, theirs = (noise < norm.ppf(shares)).astype(int)
        found, alone = compare(ours, theirs, truth, draws=100), interval(ours, truth, draws=100)
        single += alone.low <= 0.85 <= alone.high
        both += found.difference.low <= 0 <= found.difference.high
        rejected += found.p_value < 0.05
    least = binom.ppf(0.0005, trials, 0.94)
    assert min(single, both) >= least
    assert rejected <= binom.ppf(0.9995, trials, 0.05)


def test_reviews_alone_have_the_spread_of_the_binomial_distribution() -> None:
    truth = labels(1000)
    preds = predict(truth, 0.9)
    share = float((preds == truth).mean())
    found = resample([preds], truth, draws=4000)[0]
    assert found.draws.std() == pytest.approx(np.sqrt(share * (1 - share) / 1000), rel=0.05)
    assert found.error == pytest.approx(found.draws.std(), rel=0.01) and found.dof == 999


def test_a_share_of_nothing_or_everything_still_has_an_interval() -> None:
    """The bound of Clopper and Pearson, as scipy's exact interval has it."""
    truth = labels(40)
    exact = binomtest(40, 40).proportion_ci(0.95)
    assert interval(truth, truth) == Interval(1.0, pytest.approx(exact.low), 1.0)
    assert interval(1 - truth, truth) == Interval(0.0, 0.0, pytest.approx(1 - exact.low))


def test_no_model_is_surer_of_its_accuracy_than_one_that_is_always_right() -> None:
    truth, n = labels(30), 30
    best = interval(truth, truth)
    for errors in range(1, 6):
        fair = interval(np.where(np.arange(n) < errors, 1 - truth, truth), truth)
        poor = interval(np.where(np.arange(n) < errors, truth, 1 - truth), truth)
        assert fair.low <= best.low and poor.high == pytest.approx(1 - fair.low, abs=0.02)
        assert poor.high >= 1 - best.low


@pytest.mark.parametrize(("n", "expected"), [(100, "undetermined"), (1000, "equivalent")])
def test_no_disagreement_shows_equivalence_only_on_reviews_enough(n: int, expected: str) -> None:
    truth = labels(n)
    found = compare(truth, truth, truth)
    assert found.narrow.high == -found.narrow.low == pytest.approx(100 * (1 - 0.05 ** (1 / n)))
    assert found.difference.estimate == 0 and found.difference.high > found.narrow.high
    assert found.p_value == 1 and found.discordant == (0, 0)
    assert verdict(found, 1.0, margin=1.0) == expected


@quickly
@given(seeds, some.integers(1, 4))
def test_the_order_of_the_reviews_changes_nothing(seed: int, runs: int) -> None:
    rng = np.random.default_rng(seed)
    truth, order = labels(50, seed), rng.permutation(50)
    ours, theirs = predict(truth, 0.8, runs, seed), predict(truth, 0.7, runs, seed + 1)
    assert interval(ours[:, order], truth[order], draws=100) == interval(ours, truth, draws=100)
    shuffled = compare(ours[:, order], theirs[:, order], truth[order], draws=100)
    plain = compare(ours, theirs, truth, draws=100)
    assert shuffled.difference.estimate == pytest.approx(plain.difference.estimate)
    assert (shuffled.p_value, shuffled.discordant) == (plain.p_value, plain.discordant)
    assert (shuffled.difference.low, shuffled.narrow.high) == pytest.approx((plain.difference.low, plain.narrow.high))


def test_the_order_of_the_runs_changes_nothing() -> None:
    truth, order = labels(3000), [2, 0, 1]
    ours, theirs = predict(truth, 0.8, 3), predict(truth, 0.75, 3, seed=2)
    shuffled, plain = compare(ours[order], theirs[order], truth, draws=50), compare(ours, theirs, truth, draws=50)
    assert shuffled.difference.estimate == pytest.approx(plain.difference.estimate)
    assert (shuffled.p_value, shuffled.improvement) == pytest.approx((plain.p_value, plain.improvement))
    assert shuffled.discordant == plain.discordant
    assert (shuffled.difference.low, shuffled.narrow.high) == pytest.approx((plain.difference.low, plain.narrow.high))


@quickly
@given(some.integers(0, 300), some.integers(0, 300))
def test_mcnemar_is_that_of_statsmodels(first: int, second: int) -> None:
    reference = reference_mcnemar([[5, first], [second, 7]], exact=True).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(min(1.0, reference))
    assert mcnemar(first, second) == mcnemar(second, first)
    assert mcnemar(1325, 675) == pytest.approx(binomtest(675, 2000).pvalue, rel=1e-9), "exact where it is tiny"


@quickly
@given(some.integers(0, 300), some.integers(0, 300))
def test_the_permutation_test_of_single_runs_is_mcnemars(first: int, second: int) -> None:
    gaps = np.repeat([1, 0, -1], [first, 5, second])
    assert permutation(gaps) == pytest.approx(mcnemar(first, second))
    assert permutation(6 * gaps) == permutation(-gaps)


@settings(max_examples=20, deadline=None)
@given(some.lists(some.integers(-6, 6), min_size=2, max_size=9))  # SciPy refuses a single one
def test_the_permutation_test_counts_all_signs(gaps: list[int]) -> None:
    pair = np.array(gaps, dtype=float), np.zeros(len(gaps))
    every = permutation_test(
        pair, lambda x, y, axis: (x - y).sum(axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert permutation(np.array(gaps)) == pytest.approx(every.pvalue)


@settings(max_examples=20, deadline=None)
@given(some.lists(some.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert corrected == pytest.approx(multipletests(p_values, method="holm")[1])
    assert all(p <= q <= min(1.0, p * len(p_values) * (1 + 1e-9)) for p, q in zip(p_values, corrected, strict=True))
    assert [corrected[i] for i in np.argsort(p_values, kind="stable")] == sorted(corrected)
    assert holm([]) == []


def test_a_clear_gap_on_many_reviews_is_better_beyond_doubt() -> None:
    """2.6 points on 25,000 reviews of which 8 % are right under one strategy only: 1,325 against 675."""
    truth = np.arange(25_000) % 2
    ours, theirs = truth.copy(), truth.copy()
    theirs[:1325], ours[1325:2000] = 1 - truth[:1325], 1 - truth[1325:2000]
    found = compare(ours, theirs, truth)
    assert found.discordant == (1325, 675) and found.difference.estimate == pytest.approx(2.6)
    assert found.p_value < 1e-30
    assert verdict(found, found.p_value, margin=0.5) == "better"
    other = compare(theirs, ours, truth)
    assert verdict(other, other.p_value, margin=0.5) == "worse" and other.p_value == found.p_value


def test_with_several_seeds_the_test_knows_that_seeds_vary() -> None:
    """The same gap: beyond doubt between single runs, unclear when the seeds of one strategy differ by more than it."""
    truth = labels(4000)
    base = predict(truth, 0.85, seed=1)
    steady = np.concatenate([predict(truth, 0.88, seed=seed) for seed in (2, 3, 4)])
    erratic = np.concatenate([predict(truth, share, seed=i) for i, share in enumerate((0.8, 0.88, 0.96), start=2)])
    assert compare(steady, base, truth).p_value < 0.01
    assert compare(erratic, base, truth).p_value > 0.1


@pytest.mark.parametrize("gap", [0.0, 0.004, 0.014, 0.03])
def test_equivalence_is_that_of_two_one_sided_t_tests(gap: float) -> None:
    truth = labels(20_000)
    ours, theirs = predict(truth, 0.9, seed=1), predict(truth, 0.9 - gap, seed=2)
    p_value = ttost_paired((ours == truth)[0] * 100.0, (theirs == truth)[0] * 100.0, -1.5, 1.5)[0]
    assert (verdict(compare(ours, theirs, truth), 1.0, margin=1.5) == "equivalent") == (p_value < 0.05)


@pytest.mark.parametrize(("count", "discordance"), [(1000, 0.08), (1000, 0.3)])
def test_the_detectable_difference_is_found_four_times_in_five(count: int, discordance: float) -> None:
    disputed = round(count * discordance)
    gap = detectable(Comparison(NONE, NONE, 1.0, (disputed // 2, disputed - disputed // 2), n=count)) / 100
    rng = np.random.default_rng(0)
    chances = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    found = [mcnemar(int(x), int(y)) < 0.05 for x, y, _ in rng.multinomial(count, chances, size=600)]
    assert 0.7 < np.mean(found) < 0.84  # the exact test is a little less powerful than the formula's


def test_the_detectable_difference_over_seeds_is_found_four_times_in_five() -> None:
    gap = detectable(Comparison(NONE, NONE, 1.0, (40, 40), error=0.7, dof=6.0, n=1000, pairs=9))
    assert 1 - nct.cdf(t.ppf(0.975, 6), 6, gap / 0.7) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("discordant", [(0, 0), (1, 1), (2, 2)])
def test_runs_that_hardly_disagree_could_show_no_difference(discordant: tuple[int, int]) -> None:
    assert math.isnan(detectable(Comparison(NONE, NONE, 1.0, discordant, n=1000)))
    assert math.isnan(detectable(Comparison(NONE, NONE, 1.0, (0, 0), n=1)))
    assert math.isnan(detectable(Comparison(NONE, NONE, 1.0, (0, 0), error=0.0, dof=999.0, n=1000, pairs=4)))


@quickly
@given(some.lists(some.integers(0, 5), min_size=2, max_size=5), some.lists(some.integers(0, 5), min_size=2, max_size=5))
def test_the_probability_of_improvement_counts_pairs_and_halves_ties(first: list[int], second: list[int]) -> None:
    pairs = [(x > y) + 0.5 * (x == y) for x in first for y in second]
    there, back = (probability_of_improvement(np.array(x), np.array(y)) for x, y in ((first, second), (second, first)))
    assert there == pytest.approx(np.mean(pairs)) and there + back == pytest.approx(1)
    assert math.isnan(probability_of_improvement(np.array(first[:1]), np.array(second))), "one seed tells none"


def found(estimate: float, narrow: tuple[float, float]) -> Comparison:
    wide = Interval(estimate, narrow[0] - 0.1, narrow[1] + 0.1)
    return Comparison(wide, Interval(estimate, *narrow, level=0.9), 0.5, (1, 1))


@pytest.mark.parametrize(
    ("estimate", "narrow", "p", "expected"),
    [
        (0.3, (-0.4, 0.99), 0.2, "equivalent"),
        (0.3, (0.1, 0.5), 0.001, "equivalent"),  # real, and too small to matter
        (0.3, (-0.4, 1.0), 0.2, "undetermined"),  # an interval that touches the margin does not lie within it
        (2.0, (1.5, 2.5), 0.001, "better"),
        (-2.0, (-2.5, -1.5), 0.001, "worse"),
        (2.0, (1.5, 2.5), 0.05, "undetermined"),  # after correction the test does not reject
    ],
)
def test_the_verdict_follows_the_interval_and_then_the_test(
    estimate: float, narrow: tuple[float, float], p: float, expected: str
) -> None:
    assert verdict(found(estimate, narrow), p, margin=1.0) == expected
