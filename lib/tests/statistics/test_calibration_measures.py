"""Calibration: the measures are the field's, intervals cover, temperatures are found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from peft_study.statistics import calibration as measures

QUICK = settings(deadline=None, max_examples=20)


def simulated(scale: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (count, 2) `scale` times too large, and labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2.5, count)
    return two(scale * true), (rng.random(count) < expit(true)).astype(int)


def two(odds: np.ndarray) -> np.ndarray:
    """Logits of two classes, of the log-odds of the second."""
    return np.stack([np.zeros_like(odds), odds], axis=-1)


def test_the_error_of_a_model_that_is_always_equally_sure_is_confidence_less_accuracy() -> None:
    logits, labels = two(np.full(100, np.log(9))), np.r_[np.ones(60), np.zeros(40)].astype(int)
    assert measures.ece(logits, labels) == pytest.approx(0.3)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_the_interval_of_the_calibration_error_covers_the_true_one(scale: float) -> None:
    """95 % is aimed at; 80 % of 60 samples would be far from it, the plain percentile interval has none at 1.0."""
    logits, _ = simulated(scale, 200_000, 0)
    true = np.abs(measures.confidence(logits) - measures.confidence(logits / scale)).mean()
    samples = [simulated(scale, 1000, seed) for seed in range(1, 61)]
    intervals = [measures.expected_error(logits[None], labels, draws=200) for logits, labels in samples]
    assert np.mean([found.low <= true <= found.high for found in intervals]) >= 0.8
    assert np.mean([found.estimate for found in intervals]) == pytest.approx(true, abs=0.025)
    assert (np.mean([found.low > 0 for found in intervals]) > 0.5) == (scale > 1)


@QUICK
@given(some.integers(0, 999), some.integers(1, 200), some.integers(1, 3))
def test_neither_the_order_of_reviews_nor_that_of_runs_changes_an_interval(seed: int, count: int, runs: int) -> None:
    labels = simulated(1, count, seed)[1]
    logits = np.stack([simulated(1.2, count, seed + run)[0].round(1) for run in range(runs)])
    rng = np.random.default_rng(seed)
    items, order = rng.permutation(count), rng.permutation(runs)
    pairs = ((logits, labels), (logits[order][:, items], labels[items]))
    first, second = (measures.expected_error(*pair, draws=20) for pair in pairs)
    assert first.low <= first.estimate <= first.high
    assert (first.low, first.estimate, first.high) == pytest.approx((second.low, second.estimate, second.high))


@QUICK
@given(some.floats(0.3, 4), some.integers(0, 99))
def test_the_temperature_is_found_that_the_log_odds_were_multiplied_with(scale: float, seed: int) -> None:
    logits, labels = simulated(scale, 5000, seed)
    found = measures.temperature(logits, labels)
    assert found == pytest.approx(scale, rel=0.15)
    best = measures.losses(logits / found, labels).mean()
    assert all(best <= measures.losses(logits / other, labels).mean() + 1e-9 for other in (found * 0.99, found * 1.01))


@pytest.mark.parametrize(
    ("odds", "labels"),
    [([3, 2, -1, -4], [1, 1, 0, 0]), ([-3, 2, 1, -4], [1, 0, 0, 1]), ([np.nan, 1, 1, 1], [1, 1, 0, 0])],
)
def test_there_is_no_temperature_where_none_is_best(odds: list[float], labels: list[int]) -> None:
    """All is right; the log-odds carry no information; they are no numbers."""
    assert np.isnan(measures.temperature(two(np.array(odds, dtype=float)), np.array(labels)))


@QUICK
@given(some.integers(0, 99), some.integers(1, 400), some.integers(1, 3))
def test_the_reliability_diagram_adds_up(seed: int, count: int, runs: int) -> None:
    labels = simulated(1, count, seed)[1]
    logits = np.stack([simulated(2, count, seed + run)[0] for run in range(runs)])
    table = measures.reliability(logits, labels)
    assert table["reviews"].sum() == pytest.approx(count)
    assert np.average(table["accuracy"], weights=table["reviews"]) == pytest.approx(
        (logits.argmax(-1) == labels).mean()
    )
    assert table["confidence"].is_monotonic_increasing and table["confidence"].between(0.5, 1).all()
    assert ((table["low"] <= table["accuracy"] + 1e-9) & (table["accuracy"] <= table["high"] + 1e-9)).all()


def of_classes(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated logits (count, classes), and labels drawn from their probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, classes))
    return logits, (softmax(logits, axis=1).cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)


@QUICK
@given(some.integers(0, 999), some.integers(1, 200), some.integers(2, 6))
def test_the_scores_of_any_number_of_classes_are_those_of_scikit_learn(seed: int, count: int, classes: int) -> None:
    logits, labels = of_classes(count, classes, seed)
    chances, names = softmax(logits, axis=1), list(range(classes))
    assert measures.losses(logits, labels).mean() == pytest.approx(log_loss(labels, chances, labels=names), abs=1e-9)
    assert measures.confidence(logits) == pytest.approx(chances.max(axis=1))


def test_the_top_class_of_a_calibrated_model_of_many_classes_keeps_its_word() -> None:
    logits, labels = of_classes(4000, 4, 0)
    assert measures.expected_error(logits[None], labels, draws=200).low == 0
    assert measures.temperature(logits, labels) == pytest.approx(1, abs=0.1)
    assert measures.expected_error(3 * logits[None], labels, draws=200).low > 0.1
    assert measures.temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)
