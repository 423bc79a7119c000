"""Calibration: the measures are the field's, intervals cover, temperatures are found, sentences hold at the edges."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from made_runs import make_runs, write_arrays
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss

from peft_study import paths
from peft_study.analysis import calibration as calibration_tables
from peft_study.errors import StudyError
from peft_study.records.read import Runs, load_runs
from peft_study.report import calibration_claims as calibration_claims
from peft_study.report import calibration_figures as calibration_plots
from peft_study.report import run_claims
from peft_study.report.figures import figure
from peft_study.statistics import calibration as measures
from peft_study.strategies.table import STRATEGIES
from peft_study.training.prediction import Predictions

QUICK = settings(deadline=None, max_examples=20)
MATRIX = {"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1]}
LORA = "lora-n00250-s1"


def simulated(scale: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (count, 2) `scale` times too large, and labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2.5, count)
    return two(scale * true), (rng.random(count) < expit(true)).astype(int)


def two(odds: np.ndarray) -> np.ndarray:
    """Logits of two classes, of the log-odds of the second."""
    return np.stack([np.zeros_like(odds), odds], axis=-1)


@QUICK
@given(some.integers(0, 999), some.integers(1, 300))
def test_the_brier_score_is_that_of_scikit_learn(seed: int, count: int) -> None:
    logits, labels = simulated(1.5, count, seed)
    found = brier_score_loss(labels, expit(logits[:, 1]), labels=[0, 1], pos_label=1)
    assert measures.brier(logits, labels) == pytest.approx(found)


@QUICK
@given(some.integers(0, 999), some.integers(1, 300), some.booleans())
def test_bins_hold_equally_many_and_equal_values_share_one(seed: int, count: int, tied: bool) -> None:
    values = np.random.default_rng(seed).random(count).round(1 if tied else 12)
    found = measures.bins(values, 10)
    assert (np.diff(found[np.argsort(values)]) >= 0).all()
    assert pd.Series(found).groupby(values).nunique().eq(1).all()
    if not tied:
        sizes = np.bincount(found, minlength=10)
        assert sizes.max() - sizes.min() <= 2 and sizes.sum() == count


def test_the_error_of_a_model_that_is_always_equally_sure_is_its_overconfidence() -> None:
    logits, labels = two(np.full(100, np.log(9))), np.r_[np.ones(60), np.zeros(40)].astype(int)
    assert measures.ece(logits, labels) == pytest.approx(0.3)
    assert measures.overconfidence(logits, labels).estimate == pytest.approx(0.3)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_the_interval_of_the_calibration_error_covers_the_true_one(scale: float) -> None:
    """95 % is aimed at; 80 % of 60 samples would be far from it, the plain percentile interval has none at 1.0."""
    logits, _ = simulated(scale, 200_000, 0)
    true = np.abs(measures.confidence(logits) - measures.confidence(logits / scale)).mean()
    intervals = [measures.expected_error(*simulated(scale, 1000, seed), draws=200) for seed in range(1, 61)]
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
    for measure in (measures.expected_error, measures.overconfidence):
        first, second = measure(logits, labels, draws=20), measure(logits[order][:, items], labels[items], draws=20)
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
    ("odds", "reason"),
    [([3, 2, -1, -4], "classified rightly"), ([-3, 2, 1, -4], "say nothing"), ([np.nan, 1, 1, 1], "numbers")],
)
def test_where_no_temperature_is_best_the_reason_is_told(odds: list[float], reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        measures.temperature(
            two(np.array(odds, dtype=float)), np.array([1, 1, 0, 0] if reason != "say nothing" else [1, 0, 0, 1])
        )


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
    return logits, (measures.probabilities(logits).cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)


@QUICK
@given(some.integers(0, 999), some.integers(1, 200), some.integers(3, 6))
def test_the_scores_of_many_classes_are_those_of_scikit_learn(seed: int, count: int, classes: int) -> None:
    logits, labels = of_classes(count, classes, seed)
    chances, names = measures.probabilities(logits), list(range(classes))
    assert measures.brier(logits, labels) == pytest.approx(brier_score_loss(labels, chances, labels=names))
    assert measures.losses(logits, labels).mean() == pytest.approx(log_loss(labels, chances, labels=names), abs=1e-9)
    assert measures.confidence(logits) == pytest.approx(chances.max(axis=1))


@QUICK
@given(some.integers(0, 999), some.integers(1, 60))
def test_a_class_that_nothing_speaks_for_changes_no_measure_but_the_scale_of_the_brier_score(
    seed: int, count: int
) -> None:
    logits, labels = simulated(1.5, count, seed)
    more = np.concatenate([logits, np.full((count, 1), -1e6)], axis=1)
    assert measures.brier(more, labels) == pytest.approx(2 * measures.brier(logits, labels))
    for measure in (measures.losses, measures.ece, measures.shortfall):
        assert measure(more, labels) == pytest.approx(measure(logits, labels))


def test_the_top_class_of_a_calibrated_model_of_many_classes_keeps_its_word() -> None:
    logits, labels = of_classes(4000, 4, 0)
    assert measures.expected_error(logits, labels, draws=200).low == 0
    assert measures.temperature(logits, labels) == pytest.approx(1, abs=0.1)
    assert measures.expected_error(3 * logits, labels, draws=200).low > 0.1
    assert measures.temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)
    table = measures.reliability(logits, labels)
    assert table["confidence"].min() < 0.5 and (table["confidence"] - table["accuracy"]).abs().max() < 0.1


@pytest.mark.parametrize(("classes", "begins"), [(2, (49, 49)), (4, (20, 45))])
def test_the_reliability_diagram_begins_where_a_guess_between_two_or_among_more_would(
    classes: int, begins: tuple[float, float]
) -> None:
    table = measures.reliability(*of_classes(500, classes, 0))
    _, ax = figure()
    calibration_plots.reliability({"one": ("full", table)}, ax)
    assert begins[0] <= ax.get_xlim()[0] <= begins[1]


# --- Of runs ----------------------------------------------------------------------------------------------------------


def _without_logits() -> Runs:
    runs = make_runs(validation=0.8)
    file = paths.run_folder("made", LORA) / "preds_and_labels.npz"
    write_arrays(file, runs.preds[LORA].to_numpy(), logits=np.full((400, 2), np.nan))
    return load_runs("made")


def _damaged() -> Runs:
    runs = make_runs(validation=0.8)
    (paths.run_folder("made", LORA) / "validation_preds_and_labels.npz").write_bytes(b"PK")
    return runs


def _no_logits_at_all() -> Runs:
    runs = make_runs(validation=0.8)
    for run_id in runs.table.index:
        file = paths.run_folder("made", str(run_id)) / "preds_and_labels.npz"
        write_arrays(file, runs.preds[run_id].to_numpy(), logits=np.full((400, 2), np.nan))
    return load_runs("made")


EDGES: dict[str, tuple[Callable[[], Runs], str]] = {
    "no validation": (lambda: make_runs(), "No temperature could be fitted. Without a temperature: `full-n00250-s1`"),
    "validation": (lambda: make_runs(validation=0.8), "fitted on 50 validation"),
    "all right": (lambda: make_runs({"": 1.0}, validation=1.0), "all of its 50 validation reviews"),
    "coins": (lambda: make_runs({"": 0.5}, validation=0.3), "say nothing"),
    "three seeds": (lambda: make_runs(validation=0.8, matrix=MATRIX | {"seed": [1, 2, 3]}), "4 variants"),
    "a single run": (
        lambda: make_runs(validation=0.8, matrix={"strategy": ["full"], "train_size": [250], "seed": [1]}),
        "the one variant",
    ),
    "all strategies": (
        lambda: make_runs(validation=0.8, matrix=MATRIX | {"strategy": list(STRATEGIES), "train_size": [250]}),
        "variants",
    ),
    "one review": (lambda: make_runs({"": 1.0}, count=1, validation=0.8), "temperatures of 4 variants"),
    "a run without logits": (_without_logits, "`lora-n00250-s1` (its logits are not on record"),
    "a damaged file": (_damaged, "`lora-n00250-s1` (validation_preds_and_labels.npz is corrupt"),
    "no logits at all": (_no_logits_at_all, "`lora-n01000-s1` (its logits are not on record"),
}


@pytest.mark.parametrize("name", EDGES)
def test_sentences_tables_and_figures_hold_at_every_edge(name: str) -> None:
    make, expected = EDGES[name]
    runs = make()
    measured, (fitted, reasons) = calibration_tables.measured(runs), calibration_tables.temperatures(runs)
    scaled, without = calibration_tables.scaled(runs, fitted), calibration_tables.without_logits(runs)
    sizes = pd.Series([50.0] * len(runs.table))
    told = [
        calibration_claims.trusted(measured, without),
        calibration_claims.accurate_and_calibrated(measured),
        calibration_claims.temperature(scaled, reasons, sizes),
    ]
    assert expected in told[2]
    assert set(fitted.index) | set(reasons) == set(runs.table.index)
    if measured.empty:
        assert told[0] == told[1] == calibration_claims.UNKNOWN
    else:
        told += [calibration_tables.scores(measured).to_csv()]
        figure = calibration_plots.both(calibration_tables.diagram(runs, measured), measured, scaled, "full")
        figure.draw_without_rendering()
        assert 1 <= len(figure.axes[0].get_legend_handles_labels()[0]) <= 6
        assert (measured["ece_low"] <= measured["ece"]).all() and (measured["ece"] <= measured["ece_high"]).all()
    if len(scaled):
        told += [calibration_tables.scaling(scaled).to_csv()]
    for sentence in told:
        assert not re.search(r"\b(nan|None|inf|none)\b", sentence), sentence


def test_a_run_without_logits_is_named_and_left_out() -> None:
    runs = _without_logits()
    measured = calibration_tables.measured(runs)
    assert LORA not in [run for ids in measured["run_ids"] for run in ids] and len(measured) == 3
    assert f"Left out, since not all of its logits are on record: `{LORA}`." in calibration_claims.trusted(
        measured, calibration_tables.without_logits(runs)
    )


def test_the_temperature_mends_overconfidence_on_reviews_that_it_was_not_fitted_on() -> None:
    runs = make_runs(count=2000)
    for part, seed in (("", 1), ("validation_", 2)):
        logits, labels = simulated(2.0, 2000, seed)
        file = paths.run_folder("made", LORA) / f"{part}preds_and_labels.npz"
        flip = np.where(labels == np.arange(2000) % 2, 1, -1) * logits[:, 1]  # as odds for the labels of made runs
        write_arrays(file, (flip > 0).astype(int), logits=two(flip))
    runs = load_runs("made")
    fitted, _ = calibration_tables.temperatures(runs)
    assert fitted[LORA] == pytest.approx(2, rel=0.15)
    row = calibration_tables.scaled(runs, fitted).iloc[0]
    assert row["change_high"] < 0 and row["log_loss_after"] < row["log_loss"] and row["ece_after"] < row["ece"]
    assert (
        calibration_tables.measured(runs).set_index(["strategy", "train_size"]).loc[("lora", 250), "overconfidence_low"]
        > 0
    )


def test_the_sentence_names_the_most_accurate_and_the_best_calibrated_only_where_they_stand_out() -> None:
    rows = {"strategy": ["full", "lora"], "train_size": [10, 10], "accuracy": [0.9, 0.8], "ece": [0.1, 0.02]}
    table = pd.DataFrame(rows | {"ece_low": [0.06, 0.0], "ece_high": [0.14, 0.05]})
    say = calibration_claims.accurate_and_calibrated
    assert (
        "most accurate variant, Full fine-tuning (90.0%), has an ECE of 10.0 points; the best calibrated, LoRA"
        in say(table)
    )
    assert say(table.assign(ece_high=[0.14, 0.07])).endswith("but the intervals of the two overlap.")
    assert "both the most accurate and" in say(table.assign(ece=[0.01, 0.02]))
    assert "share the first place" in say(table.assign(accuracy=0.9))
    assert "no second variant" in say(table.head(1))


def test_what_02_says_of_confidence_holds_with_and_without_validation() -> None:
    def predictions(scale: float, seed: int, count: int = 500) -> Predictions:
        logits, labels = simulated(scale, count, seed)
        return Predictions(np.arange(count), labels, logits.astype("float32"), 0.0)

    test = predictions(2, 0)
    assert "Without validation reviews" in run_claims.confidence(test, None)
    told = run_claims.confidence(test, predictions(2, 1))
    assert re.search(r"Divided by [12]\.\d\d, which fits 500 validation reviews best", told)
    one = Predictions(np.arange(1), np.ones(1, dtype=int), np.array([[-3.0, 3.0]]), 0.0)
    assert "No temperature: all of its 1 validation" in run_claims.confidence(test, one)
    broken = Predictions(test.ids, test.labels, np.full((500, 2), np.nan), 0.0)
    assert "Not all logits are numbers" in run_claims.confidence(broken, test)


def test_calibration_never_loads_torch() -> None:
    source = "".join(file.read_text() for file in Path(measures.__file__).parent.glob("calibration*.py"))
    assert "torch" not in source.replace("Never imports torch", "").replace("never imports torch", "")


def test_seeds_that_differ_widely_widen_the_intervals() -> None:
    logits, labels = simulated(1.0, 1000, 0)
    alike, apart = np.stack([logits] * 3), np.stack([logits, 2 * logits, 4 * logits])
    one = measures.overconfidence(logits, labels)
    same, wide = (measures.overconfidence(runs, labels) for runs in (alike, apart))
    assert same.high - same.low == pytest.approx(one.high - one.low, rel=0.05)
    assert wide.high - wide.low > 3 * (same.high - same.low), "Student's t of two degrees of freedom"
    assert np.ptp([getattr(measures.expected_error(apart, labels), end) for end in ("low", "high")]) > 0.1
