"""From finished runs to tables of accuracy and differences: they agree with the predictions, at every edge."""

import numpy as np
import pandas as pd
import pytest
from made_runs import EDGES, MATRIX, make_runs, make_words
from statsmodels.stats.multitest import multipletests

from peft_study.analysis import accuracy as tables
from peft_study.analysis.costs import costs
from peft_study.strategies.table import STRATEGIES

WITHOUT_PAIRS = ("no run of", "only runs of", "a single run", "a single strategy", "no common size")


@pytest.mark.parametrize("edge", EDGES)
def test_every_run_is_summarised_once_and_every_comparison_is_of_runs_that_differ_in_the_strategy_alone(
    edge: str,
) -> None:
    runs = EDGES[edge]()
    table, axes = tables.summary(runs), tables.varying(runs)
    assert sorted(run_id for ids in table["run_ids"] for run_id in ids) == sorted(runs.table.index)
    assert not table.duplicated(axes).any() and len(costs(runs)) == len(table)
    for row in table.to_dict("records"):
        accuracies = [(runs.preds[run_id].to_numpy() == runs.labels).mean() for run_id in row["run_ids"]]
        if 0.5 in accuracies and max(accuracies) > 0.8:
            assert np.isnan([row["accuracy"], row["low"], row["high"]]).all(), "unstable"
            continue
        assert row["low"] <= row["accuracy"] == pytest.approx(np.mean(accuracies)) and row["accuracy"] <= row["high"]
    against, means = tables.against_baseline(runs), table.set_index(axes)["accuracy"]
    assert runs.study.baseline not in set(against["strategy"])
    assert against.empty == (tables.largest_pair(runs) is None) == edge.startswith(WITHOUT_PAIRS)
    heeds = STRATEGIES[runs.study.baseline].heeds
    for row in against.to_dict("records"):
        same = [row[axis] if heeds(axis) else tables.IDLE for axis in axes[1:]]
        gap = means[tuple(row[axis] for axis in axes)] - means[(runs.study.baseline, *same)]
        assert np.isnan(row["difference"]) == (row["verdict"] == "unstable") == np.isnan(gap)
        assert np.isnan(gap) or row["low"] <= row["difference"] == pytest.approx(100 * gap)
        assert np.isnan(gap) or row["difference"] <= row["high"]
    tested = against.dropna(subset="p_value")
    assert set(against["verdict"][against["p_value"].isna()]) <= {"unstable"}
    if len(tested):
        planned = 2 if edge == "a missing run" else len(against)
        bonferroni = np.minimum(1, planned * tested["p_value"])
        assert tested["adjusted_p"].to_numpy() == pytest.approx(bonferroni)
        assert len(tested) < planned or bonferroni.to_numpy() == pytest.approx(
            multipletests(tested["p_value"], method="bonferroni")[1]
        )


def test_a_run_at_chance_leaves_the_intervals_of_other_strategies_and_budgets_as_they_are() -> None:
    matrix = {"strategy": ["full", "lora", "lora-all"], "train_size": [250, 1000], "seed": [1, 2, 3]}
    varied = {"s2": 0.88, "s3": 0.91}
    failed = make_runs(varied | {"lora-all-n01000-s3": 0.5}, matrix=matrix)
    table = tables.summary(failed).set_index(["strategy", "train_size"])
    alone = tables.summary(make_runs(varied, matrix=matrix, without="lora-all-n01000"))
    for row in alone.to_dict("records"):
        found = table.loc[(row["strategy"], row["train_size"])]
        assert (found["low"], found["high"]) == pytest.approx((row["low"], row["high"]))


def test_an_interval_stays_when_missing_runs_join() -> None:
    whole = make_runs({"lora": 0.85}, matrix=MATRIX | {"seed": [1, 2, 3]})
    part = make_runs({"lora": 0.85}, matrix=MATRIX | {"seed": [1, 2, 3]}, without="lora-n01000")
    for compared in (tables.against_baseline, lambda runs: tables.against_tfidf(runs, make_words())):
        columns = ["strategy", "train_size", "low", "high", "adjusted_p"]
        after, before = compared(whole)[columns], compared(part)[columns]
        kept = after[after["train_size"].eq(250) | after["strategy"].eq("full")].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, before)


def test_an_axis_that_the_baseline_ignores_is_compared_with_its_only_value() -> None:
    runs = EDGES["an axis of one strategy"]()
    against = tables.against_baseline(runs)
    assert against["lora_r"].tolist() == [4, 16] * 2
    assert tables.largest_pair(runs) == ("full-n01000-s1", "lora-n01000-s1-lora_r4")


def test_tfidf_is_compared_where_it_has_the_same_reviews_and_size() -> None:
    runs = make_runs({"lora-n01000": 0.7})
    against = tables.against_tfidf(runs, make_words())
    assert against["difference"].tolist() == pytest.approx([20, 20, 20, 0])
    assert tables.against_tfidf(runs, make_words((250,)))["train_size"].tolist() == [250, 250]
    assert tables.against_tfidf(runs, make_words(count=399)).empty and tables.against_tfidf(runs, None).empty


def test_of_many_variants_the_baseline_and_both_ends_are_chosen() -> None:
    table = pd.DataFrame({"strategy": [f"s{i}" for i in range(20)], "value": range(20)})
    assert tables.few(table, "value", "s7")["strategy"].tolist() == ["s7", "s0", "s1", "s18", "s19"]
    assert len(tables.few(table.head(5), "value", "s7")) == 5


def test_disagreements_are_the_reviews_that_only_one_run_got_right_most_confident_mistake_first() -> None:
    runs = make_runs({"lora": 0.8})
    right, wrong = "full-n01000-s1", "lora-n01000-s1"
    table = tables.disagreements(runs, right, wrong)
    expected = runs.preds.index[(runs.preds[right] == runs.labels) & (runs.preds[wrong] != runs.labels)]
    assert sorted(table["id"]) == sorted(expected) and len(table) > 20
    assert (table["right"] > 0.5).all() and (table["wrong"] < 0.5).all() and table["wrong"].is_monotonic_increasing
