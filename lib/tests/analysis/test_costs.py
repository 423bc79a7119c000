"""Costs: medians over seeds, and Pareto fronts by their definition."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from made_runs import MATRIX, make_runs

from peft_study.analysis import costs

NUMBER = some.integers(0, 3)


@settings(max_examples=50, deadline=None)
@given(some.lists(some.tuples(NUMBER, NUMBER | some.none(), some.sampled_from([250, 1000])), min_size=1, max_size=8))
def test_a_strategy_is_on_the_front_where_no_other_of_its_size_beats_it_at_no_more_cost(rows: list[Any]) -> None:
    table = pd.DataFrame(rows, columns=["accuracy", "training.seconds", "train_size"])
    front = costs.on_front(table.astype({"training.seconds": float}), "training.seconds")
    for i, (gain, price, size) in enumerate(rows):
        rivals = [(g, p) for g, p, s in rows if s == size and p is not None]
        beaten = price is not None and any(g >= gain and p <= price and (g, p) != (gain, price) for g, p in rivals)
        assert front[i] is pd.NA if price is None else front[i] == (not beaten)


def test_costs_are_medians_over_seeds_and_the_operations_of_all_steps() -> None:
    runs = make_runs({"lora": 0.8, "s2": 0.7, "s3": 0.7}, matrix=MATRIX | {"seed": [1, 2, 3]})
    runs.table.loc["full-n00250-s1", "training.seconds"] = 1e6
    runs.table.loc["full-n00250-s2", "training.steps"] = 50
    table = costs.costs(runs).set_index(["strategy", "train_size"])
    assert table.loc[("full", 250), "training.seconds"] == 25
    assert table.loc[("full", 250), "training.flops"] == 3e11 and table.loc[("lora", 250), "training.flops"] == 2e11
    assert table.loc[("full", 250), "accuracy"] == pytest.approx((0.9 + 0.7 + 0.7) / 3)


def test_an_unstable_strategy_has_costs_but_neither_score_nor_place_on_a_front() -> None:
    runs = make_runs({"lora": 0.95, "lora-n00250-s3": 0.5}, matrix=MATRIX | {"train_size": [250], "seed": [1, 2, 3]})
    table = costs.costs(runs)
    assert table["training.seconds"].notna().all()
    assert table["accuracy"].isna().tolist() == [False, True]
    assert costs.on_front(table, "training.seconds").tolist() == [True, pd.NA]


def test_a_time_within_the_spread_of_repeats_is_no_lower_cost() -> None:
    runs = make_runs({"lora": 0.8}, matrix=MATRIX | {"train_size": [250], "seed": [1, 2]})
    runs.table["training.seconds"] = [20.0, 24.0, 19.0, 23.0]  # full, full, lora, lora
    assert costs.on_front(costs.costs(runs), "training.seconds").tolist() == [True, False]
    runs.table["training.seconds"] = [20.0, 24.0, 15.0, 19.0]
    assert costs.on_front(costs.costs(runs), "training.seconds").tolist() == [True, True]
    runs.table["cost.inference_seconds"] = [0.02, 0.02, 0.019, 0.019]
    assert costs.on_front(costs.costs(runs), "cost.inference_seconds").tolist() == [True, True]
    runs.table["cost.inference_seconds_quartiles"] = [[0.019, 0.021]] * 2 + [[0.018, 0.0195]] * 2
    assert costs.on_front(costs.costs(runs), "cost.inference_seconds").tolist() == [True, False]
