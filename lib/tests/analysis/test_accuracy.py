"""From finished runs to tables of accuracy and differences: they agree with the predictions, at every edge."""

import numpy as np
import pandas as pd
import pytest
from made_runs import EDGES, MATRIX, make_runs, make_words, write_arrays

from peft_study import paths
from peft_study.analysis import accuracy as tables
from peft_study.analysis.costs import costs
from peft_study.records.read import Runs, load_runs
from peft_study.strategies.table import STRATEGIES

pytestmark = pytest.mark.usefixtures("cheap_garbage")


@pytest.fixture(params=EDGES)
def edge(request: pytest.FixtureRequest) -> Runs:
    return EDGES[request.param]()


# --- Accuracy and differences -----------------------------------------------------------------------------------------


def test_every_run_counts_in_the_summary_once_and_its_mean_lies_within_the_interval(edge: Runs) -> None:
    table = tables.summary(edge)
    assert sorted(run_id for ids in table["run_ids"] for run_id in ids) == sorted(edge.table.index)
    assert (table["seeds"] == table["run_ids"].str.len()).all() and len(costs(edge)) == len(table)
    assert not table.duplicated(tables.varying(edge)).any()
    for row in table.to_dict("records"):
        accuracies = [(edge.preds[run_id].to_numpy() == edge.labels).mean() for run_id in row["run_ids"]]
        assert row["accuracy"] == pytest.approx(np.mean(accuracies))
        assert row["low"] <= row["accuracy"] <= row["high"]


def test_every_comparison_is_of_runs_that_differ_in_the_strategy_alone(edge: Runs) -> None:
    against = tables.against_baseline(edge)
    summary = tables.summary(edge).set_index(tables.varying(edge))["accuracy"]
    assert edge.study.baseline not in set(against["strategy"])
    for row in against.to_dict("records"):
        axes = {axis: row[axis] for axis in tables.varying(edge)[1:]}
        heeds = STRATEGIES[edge.study.baseline].heeds
        others = [value if heeds(axis) else tables.IDLE for axis, value in axes.items()]
        gap = summary[(row["strategy"], *axes.values())] - summary[(edge.study.baseline, *others)]
        assert row["difference"] == pytest.approx(100 * gap)
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["corrected_p"] >= row["p_value"]


@pytest.mark.parametrize(("edge", "expected"), [("ties", "equivalent"), ("everything undetermined", "undetermined")])
def test_a_tie_is_equivalent_and_few_reviews_are_undetermined(edge: str, expected: str) -> None:
    assert set(tables.against_baseline(EDGES[edge]())["verdict"]) == {expected}


def test_more_comparisons_raise_p_values_and_the_smallest_detectable_difference() -> None:
    one = tables.against_baseline(make_runs({"lora": 0.85}, matrix=MATRIX | {"train_size": [250]}))
    two = tables.against_baseline(make_runs({"lora": 0.85}))
    assert one["detectable"].iloc[0] < two["detectable"].iloc[0]
    many = tables.against_baseline(EDGES["all strategies"]())
    assert len(many) == 2 * (len(STRATEGIES) - 1) and (many["corrected_p"] > many["p_value"]).any()


def test_the_probability_of_improvement_needs_several_seeds() -> None:
    three = tables.against_baseline(EDGES["several seeds"]())  # LoRA: 0.85, 0.85, 0.8 against 0.9, 0.9, 0.8
    assert (three["improvement"] * three["pairs"]).tolist() == [2.5, 2.5] and set(three["pairs"]) == {9}
    assert tables.against_baseline(EDGES["one seed"]())["improvement"].isna().all()


@pytest.mark.parametrize(
    "edge", ["no run of the baseline", "only runs of the baseline", "a single run", "no common size"]
)
def test_without_a_pair_there_is_no_comparison(edge: str) -> None:
    runs = EDGES[edge]()
    assert tables.against_baseline(runs).empty and tables.largest_pair(runs) is None


def test_an_axis_that_the_baseline_ignores_is_compared_with_its_only_value() -> None:
    runs = EDGES["an axis of one strategy"]()
    against = tables.against_baseline(runs)
    assert against["lora_r"].tolist() == [4, 16] * 2
    assert against["difference"].round().tolist() == [-10, 5] * 2
    assert tables.largest_pair(runs) == ("full-n01000-s1", "lora-n01000-s1-lora_r4")


def test_a_value_left_to_the_strategy_is_a_group_of_its_own() -> None:
    table = tables.summary(EDGES["a further axis with a default"]())
    assert table["learning_rate"].tolist() == ["default", 0.001] * 4


def test_a_bag_of_words_is_compared_where_it_has_the_same_reviews_and_size() -> None:
    runs = make_runs({"lora-n01000": 0.7})
    against = tables.against_words(runs, make_words())
    assert against["difference"].tolist() == pytest.approx([20, 20, 20, 0])
    assert tables.against_words(runs, make_words((250,)))["train_size"].tolist() == [250, 250]
    assert tables.against_words(runs, make_words(count=399)).empty and tables.against_words(runs, None).empty


def test_of_many_variants_the_baseline_and_both_ends_are_chosen() -> None:
    table = pd.DataFrame({"strategy": [f"s{i}" for i in range(20)], "value": range(20)})
    assert tables.few(table, "value", "s7")["strategy"].tolist() == ["s7", "s0", "s1", "s18", "s19"]
    assert len(tables.few(table.head(5), "value", "s7")) == 5


# --- Pairs of runs ----------------------------------------------------------------------------------------------------


def test_the_largest_pair_shares_everything_but_the_strategy() -> None:
    runs = make_runs(matrix=MATRIX | {"seed": [1, 2], "epochs": [4, 16]}, without="full-n01000-s1-epochs4")
    first, second = tables.largest_pair(runs) or ("", "")
    assert first.removeprefix("full") == second.removeprefix("lora") == "-n01000-s1-epochs16"


def test_disagreements_are_the_reviews_that_only_one_run_got_right_most_confident_mistake_first() -> None:
    runs = make_runs({"lora": 0.8})
    right, wrong = "full-n01000-s1", "lora-n01000-s1"
    table = tables.disagreements(runs, right, wrong)
    expected = runs.preds.index[(runs.preds[right] == runs.labels) & (runs.preds[wrong] != runs.labels)]
    assert sorted(table["id"]) == sorted(expected) and len(table) > 20
    assert (table["right"] > 0.5).all() and (table["wrong"] < 0.5).all() and table["wrong"].is_monotonic_increasing


def test_equally_confident_mistakes_are_in_the_order_of_their_ids() -> None:
    runs = make_runs({"lora": 0.8})
    preds = runs.preds["lora-n01000-s1"].to_numpy()
    logits = np.where(preds[:, None] == 1, [-1.0, 1.0], [1.0, -1.0])
    write_arrays(paths.run_folder("made", "lora-n01000-s1") / "preds_and_labels.npz", preds, logits=logits)
    assert tables.disagreements(load_runs("made"), "full-n01000-s1", "lora-n01000-s1")["id"].is_monotonic_increasing
