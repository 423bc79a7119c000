"""Precision, recall and F1 of every class: their values, and how far they may be off."""

import numpy as np
import pytest
from made_runs import make_runs
from sklearn.metrics import precision_recall_fscore_support

from peft_study.analysis.class_scores import class_estimate, class_scores
from peft_study.report import tables
from peft_study.statistics.intervals import NONE, estimate
from peft_study.statistics.scores import RATIOS


def draw(rng: np.random.Generator, count: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of a class that 3 % of the texts have, of which 70 % are found, and 1 % of the others."""
    labels = (rng.random(count) < 0.03).astype(int)
    return np.where(rng.random(count) < np.where(labels, 0.7, 0.01), 1, 0), labels


def test_scores_of_classes_are_scikit_learns_averaged_over_seeds_and_lie_in_their_intervals() -> None:
    runs = make_runs({"full": 0.9, "lora": 0.7})
    table = class_scores(runs)
    for (kind, strategy, size), rows in table.groupby(["class", "strategy", "train_size"]):
        own = runs.table.index[(runs.table["strategy"] == strategy) & (runs.table["train_size"] == size)]
        scores = [precision_recall_fscore_support(runs.labels, runs.preds[run], zero_division=0) for run in own]
        assert rows["value"].to_numpy() == pytest.approx(np.mean(scores, axis=0)[:3, kind])
        assert set(rows["texts"]) == {(runs.labels == kind).sum()}
    assert table["value"].between(table["low"], table["high"]).all()
    assert (table["low"] >= 0).all() and (table["high"] <= 1).all()


def test_a_class_that_is_never_predicted_has_no_precision_and_an_f1_of_0() -> None:
    preds, labels = np.zeros((1, 50), int), np.repeat([0, 1], [46, 4])
    found = {name: class_estimate(name, labels, preds, NONE).interval() for name in RATIOS}
    assert np.isnan(found["precision"].estimate) and found["F1"].estimate == found["recall"].estimate == 0
    assert found["F1"].high > 0.2 and found["recall"].high > 0.2


def test_the_recall_of_a_class_is_the_accuracy_on_its_texts() -> None:
    preds, labels = draw(np.random.default_rng(0))
    recall, right = class_estimate("recall", labels, preds[None], NONE), (preds == labels)[labels == 1]
    of_class = estimate(right, np.array([[1], [0]]), 4, NONE)
    assert (recall.value, recall.centre, recall.items) == pytest.approx(
        (of_class.value, of_class.centre, of_class.items)
    )


@pytest.mark.parametrize("name", ["precision", "recall", "F1"])
def test_the_interval_of_a_rare_class_covers_the_truth_as_often_as_it_says(name: str) -> None:
    rng, recall, precision = np.random.default_rng(1), 0.7, 0.021 / (0.021 + 0.0097)
    truth = {"recall": recall, "precision": precision, "F1": 2 * precision * recall / (precision + recall)}[name]
    intervals = [class_estimate(name, labels, preds[None], NONE).interval() for preds, labels in map(draw, [rng] * 500)]
    assert np.mean([found.low <= truth <= found.high for found in intervals]) >= 0.93


def test_of_many_classes_the_table_has_those_of_the_lowest_f1() -> None:
    table = class_scores(make_runs({"full": 0.9, "lora": 0.7}))
    shown = tables.classes(table, ["Full fine-tuning", "LoRA (query, value)"], ("<a>", "b" * 99), most=1)
    assert list(shown.columns) == ["precision (%)", "recall (%)", "F1 (%)"] and len(shown) == 2
    worst = table[table["measure"] == "F1"].groupby("class")["value"].mean().idxmin()
    assert set(shown.index.get_level_values("class")) == {("<a>", f"{'b' * 39}…")[worst]}
