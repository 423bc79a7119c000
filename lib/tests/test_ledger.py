"""The ledger of costs: fronts by their definition, and sentences that say what the figures do."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from made_runs import make_run, make_runs, make_study

from peft_study import paths
from peft_study.analysis import accuracy as comparison_tables
from peft_study.analysis import costs as ledger_tables
from peft_study.records.read import Runs, load_runs
from peft_study.report import cost_claims as ledger_claims
from peft_study.report import figures as plots
from peft_study.strategies.table import STRATEGIES
from peft_study.text import UNKNOWN

MATRIX: dict[str, Any] = {"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1]}
pytestmark = pytest.mark.usefixtures("cheap_garbage")


def bill(rows: list[tuple[str, int, float, float | None]], cost: str = "training.seconds") -> pd.DataFrame:
    """A ledger of strategy, size, accuracy and one cost."""
    table = pd.DataFrame(rows, columns=["strategy", "train_size", "accuracy", cost])
    return table.reindex(columns=[*table.columns, *(c for c in ledger_tables.COSTS if c != cost)]).astype({cost: float})


# --- Fronts -----------------------------------------------------------------------------------------------------------

NUMBER = some.integers(0, 3)


@settings(max_examples=50, deadline=None)
@given(some.lists(some.tuples(NUMBER, NUMBER | some.none(), some.sampled_from([250, 1000])), min_size=1, max_size=8))
def test_a_strategy_is_on_the_front_where_no_other_of_its_size_beats_it_at_no_more_cost(rows: list[Any]) -> None:
    table = bill([("full", size, gain / 4, price) for gain, price, size in rows])
    front = ledger_tables.on_front(table, "training.seconds")
    for i, (gain, price, size) in enumerate(rows):
        rivals = [(g, p) for g, p, s in rows if s == size and p is not None]
        beaten = price is not None and any(g >= gain and p <= price and (g, p) != (gain, price) for g, p in rivals)
        assert front[i] is pd.NA if price is None else front[i] == (not beaten)


@settings(max_examples=30, deadline=None)
@given(some.lists(some.tuples(NUMBER, NUMBER), min_size=1, max_size=8), some.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_front(pairs: list[tuple[int, int]], random: Any) -> None:
    table = bill([("full", 250, gain / 4, float(price)) for gain, price in pairs])
    order = random.sample(range(len(pairs)), len(pairs))
    mixed = ledger_tables.on_front(table.iloc[order], "training.seconds")
    assert mixed.sort_index().tolist() == ledger_tables.on_front(table, "training.seconds").tolist()


def test_strategies_alike_in_accuracy_and_cost_share_the_front() -> None:
    table = bill([("full", 250, 0.9, 5.0), ("lora", 250, 0.9, 5.0), ("head", 250, 0.8, 6.0)])
    assert ledger_tables.on_front(table, "training.seconds").tolist() == [True, True, False]
    assert "Full fine-tuning and LoRA (query, value)" in ledger_claims.fronts(table)


def test_the_front_is_told_and_its_unknown_costs_counted() -> None:
    table = bill([("full", 250, 0.9, 5.0), ("lora", 250, 0.85, 2.0), ("head", 250, 0.8, None)])
    told = ledger_claims.fronts(table)
    assert told.startswith("At 250 labels, ")
    assert "by seconds of training (1 of 3 not known): LoRA (query, value) and Full fine-tuning. @fig-tradeoff" in told
    assert "@fig" not in ledger_claims.fronts(
        bill([("full", 250, 0.9, 5.0), ("lora", 250, 0.8, 2.0)], "cost.model_bytes")
    )
    assert ledger_tables.fronts(table)["seconds of training"].tolist() == ["yes", "yes", UNKNOWN]


def test_no_front_is_claimed_where_there_is_one_strategy_or_no_cost() -> None:
    assert "a single strategy" in ledger_claims.fronts(bill([("full", 250, 0.9, 5.0)]))
    assert "hold no cost" in ledger_claims.fronts(bill([("full", 250, 0.9, None), ("lora", 250, 0.9, None)]))


# --- The ledger -------------------------------------------------------------------------------------------------------


def test_the_ledger_is_the_median_of_the_seeds_and_the_operations_of_all_steps() -> None:
    runs = make_runs({"lora": 0.8, "s2": 0.7, "s3": 0.7}, matrix=MATRIX | {"seed": [1, 2, 3]})
    runs.table.loc["full-n00250-s1", "training.seconds"] = 1e6
    runs.table.loc["full-n00250-s2", "training.steps"] = 50
    table = ledger_tables.costs(runs).set_index(["strategy", "train_size"])
    assert table.loc[("full", 250), "training.seconds"] == 25
    assert table.loc[("full", 250), "training.flops"] == 3e11 and table.loc[("lora", 250), "training.flops"] == 2e11
    assert table.loc[("full", 250), "accuracy"] == pytest.approx((0.9 + 0.7 + 0.7) / 3)


def test_what_no_record_holds_is_a_dash_in_every_table() -> None:
    runs = make_runs()
    wrong = {"training.seconds": "long", "training.steps": None, "cost.model_bytes": np.inf, "parameters.trainable": 0}
    table = ledger_tables.costs(Runs(runs.study, runs.table.assign(**wrong), {}))
    shown = ledger_tables.training(table)
    assert set(shown["training (s)"]) == set(shown["TFLOP"]) == set(shown["steps"]) == {UNKNOWN}
    used = ledger_tables.using(table, comparison_tables.summary(runs, "macro_f1"))
    assert set(used["weights on disk (MiB)"]) == set(used["macro F1 per 10⁶ trainable"]) == {UNKNOWN}
    assert used["one review (ms)"].tolist() == ["20.0"] * 4


def test_the_ratio_that_misleads_is_shown_by_whom_it_puts_first() -> None:
    runs = make_runs({"lora": 0.8})
    told = ledger_claims.per_million(ledger_tables.costs(runs), comparison_tables.summary(runs, "macro_f1"))
    assert told == (
        "At 1,000 labels it puts LoRA (query, value) first, with 65 times the value of Full fine-tuning, at −10.0 "
        "points of macro F1."
    )
    runs = make_runs({"full": 0.8})
    told = ledger_claims.per_million(ledger_tables.costs(runs), comparison_tables.summary(runs, "macro_f1"))
    assert told == "At 1,000 labels it puts LoRA (query, value) first, which no other beats in macro F1 either."
    runs = make_runs(matrix=MATRIX | {"strategy": ["full"]})
    assert "do not tell" in ledger_claims.per_million(
        ledger_tables.costs(runs), comparison_tables.summary(runs, "macro_f1")
    )


# --- What stays equal -------------------------------------------------------------------------------------------------


def trained(steps: dict[str, int | None], **content: Any) -> Runs:
    """Runs whose records say so many steps, by a part of their names."""
    study = make_study(**content)
    for run_id in study.variants:
        folder = make_run(study, run_id)
        file = folder / "metrics.json"
        blocks = json.loads(file.read_text())
        blocks["training"]["steps"] = next(number for part, number in steps.items() if part in run_id)
        blocks["training"]["epochs"] = 1.0
        file.write_text(json.dumps(blocks))
    return load_runs(study.name)


def test_equal_epochs_are_said_to_mean_more_steps_for_more_labels() -> None:
    assert ledger_claims.budget(trained({"n00250": 29, "n01000": 113})) == (
        "Every run trained for 1 epoch: more labels also mean more steps, so that the budget and the length of "
        "training grow together (optimizer steps: 29 at 250 labels and 113 at 1,000 labels)."
    )


def test_steps_that_differ_within_a_size_are_a_range_and_unknown_ones_are_left_out() -> None:
    runs = trained({"full-n00250": 29, "lora-n00250": 58, "": None}, defaults={"epochs": 2})
    told = ledger_claims.budget(runs)
    assert told.startswith("Every run trained for 2 epochs: ") and "(optimizer steps: 29 to 58 at 250 labels)" in told
    one = ledger_claims.budget(trained({"": None}, matrix=MATRIX | {"train_size": [250]}))
    assert one == "Every run trained for 1 epoch."


def test_fixed_steps_are_said_to_show_a_larger_budget_less_often() -> None:
    told = ledger_claims.budget(trained({"": 60}, defaults={"max_steps": 60}))
    assert told.startswith(
        "Every run took 60 optimizer steps, whatever its budget: a larger budget is seen fewer times"
    )
    assert "(epochs: 1 at 250 labels and 1 at 1,000 labels)" in told


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        ({"strategies": {"lora": {"epochs": 3}}}, "epochs 1 and 3"),
        ({"strategies": {"lora": {"max_steps": 9}}}, "epochs 1, max_steps 9"),
        ({"matrix": MATRIX | {"max_steps": [5, 9]}}, "max_steps 5 and 9"),
    ],
)
def test_runs_of_unequal_length_are_said_to_be_so(content: dict[str, Any], asked: str) -> None:
    told = ledger_claims.budget(trained({"": 60}, **content))
    assert told.startswith(f"The runs did not train equally long ({asked}; optimizer steps: 60 at 250 labels")


# --- Curves and figures -----------------------------------------------------------------------------------------------


def test_runs_that_were_still_learning_at_their_end_are_counted() -> None:
    runs = make_runs()
    assert ledger_claims.curves(runs).startswith("No run was validated twice")
    courses = [[0.6, 0.5, 0.4], [0.6, 0.3, 0.35], [0.7, 0.69, 0.66], [0.4, 0.4, 0.4]]
    for run_id, losses in zip(runs.table.index, courses, strict=True):
        log = [{"step": 10 * i, "epoch": 1.0, "eval_loss": loss} for i, loss in enumerate(losses, start=1)]
        (paths.run_folder("made", run_id) / "log_history.json").write_text(json.dumps(log))
    runs = load_runs("made")
    told = ledger_claims.curves(runs)
    strategies = runs.table["strategy"].tolist()
    assert "still falling in 2 of 4 runs" in told and "by 0.030 to 0.100 nats" in told
    for name in {strategies[0], strategies[2]}:
        n = [strategies[0], strategies[2]].count(name)
        assert f"{STRATEGIES[name].label}: {n} of {strategies.count(name)}" in told
    for run_id in runs.table.index:
        log = [{"step": 1, "epoch": 1.0, "eval_loss": 0.3}, {"step": 2, "epoch": 1.0, "eval_loss": 0.4}]
        (paths.run_folder("made", run_id) / "log_history.json").write_text(json.dumps(log))
    assert ledger_claims.curves(load_runs("made")).startswith("In none of 4 runs was the validation loss still falling")


def test_curves_are_promised_only_where_a_run_left_a_log() -> None:
    runs = make_runs()
    assert "@fig-curves" in ledger_claims.curves(runs) and "Only" not in ledger_claims.curves(runs)
    for left, run_id in enumerate(runs.table.index, start=1):
        (paths.run_folder("made", run_id) / "log_history.json").unlink()
        told = ledger_claims.curves(runs)
        assert f"Only {4 - left} of 4 runs left a log." in told if left < 4 else "@fig-curves" not in told
    assert plots.training_curves(runs.table, runs.log, ["full", "lora"]) is None
