"""Learning curves: a known law is recovered, and data that do not allow a curve are refused with the reason."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from made_runs import make_runs

from peft_study.analysis import learning_curves
from peft_study.analysis.accuracy import summary
from peft_study.analysis.learning_curves import Curve, fit, refusal
from peft_study.records.read import Runs
from peft_study.report import rate_tables

SIZES = [250, 500, 1000, 2000]
MATRIX = {"strategy": ["full", "lora"], "train_size": SIZES, "seed": [1]}
LAW = Curve(floor=0.08, drop=0.04, exponent=0.7, unit=2000)
LATE = Curve(floor=0.08, drop=0.06, exponent=0.7, unit=2000)  # needs 1.8 times the labels of LAW


def error(law: Curve, size: float) -> float:
    """The expected error at a budget."""
    return law.floor + law.drop * (size / law.unit) ** -law.exponent


SHARES = {
    f"{name}-n{size:05d}": 1 - error(law, size) for name, law in (("full", LAW), ("lora", LATE)) for size in SIZES
}


def falling(**content: object) -> Runs:
    """Runs of 2,000 test reviews whose accuracies follow LAW (full) and LATE (LoRA)."""
    return make_runs(SHARES, count=2000, **({"matrix": MATRIX} | content))  # type: ignore[arg-type]


def fitted(runs: Runs, draws: int = 20) -> pd.DataFrame:
    return learning_curves.curves(runs, summary(runs), draws=draws)


@settings(max_examples=15, deadline=None)
@given(some.floats(0.01, 0.2), some.floats(0.02, 0.2), some.floats(0.2, 1.5))
def test_a_law_without_noise_is_recovered(floor: float, drop: float, exponent: float) -> None:
    law = Curve(floor, drop, exponent, 2000)
    curve = fit(np.array(SIZES), np.array([error(law, size) for size in SIZES]))
    at = (250, 700, 2000)
    assert [error(curve, size) for size in at] == pytest.approx([error(law, size) for size in at], abs=1e-3)


def test_a_size_is_where_the_curve_has_its_error_and_none_is_below_the_floor() -> None:
    assert LAW.size(error(LAW, 700)) == pytest.approx(700, rel=1e-6)
    assert LAW.size(0.08) == LAW.size(0.05) == float("inf")


@pytest.mark.parametrize(
    ("sizes", "errors", "reason"),
    [
        ([250, 500, 1000], [0.3, 0.2, 0.1], "a curve of three parameters needs 4 budgets, not 3"),
        (SIZES, [0.3, 0.2, 0.2, 0.2], "the error does not fall at 1,000 and at 2,000 labels"),
        (SIZES, [0.4, 0.3, 0.2, 0.1], ""),
    ],
)
def test_data_that_do_not_allow_a_curve_have_a_reason(sizes: list[int], errors: list[float], reason: str) -> None:
    assert refusal(sizes, errors) == reason


def test_the_budget_that_matches_the_baseline_has_an_interval_around_it() -> None:
    table = fitted(falling()).set_index("strategy", drop=False)
    row = table.loc["lora"]
    assert row["target"] == 2000 and row["accuracy"] == pytest.approx(0.88)
    assert row["size"] == pytest.approx(LATE.size(error(LAW, 2000)), rel=0.02)
    assert row["size_low"] <= row["size"] <= row["size_high"]
    matched = rate_tables.matching_budget(row.to_dict())
    assert re.fullmatch(r"3,[5-7]00 \[[<\d][\d, ]+, [>\d][\d, ]+\]", matched)


def test_a_curve_is_not_read_beyond_twice_its_largest_budget() -> None:
    row = fitted(falling()).set_index("strategy", drop=False).loc["lora"].to_dict()
    assert rate_tables.matching_budget(row | {"size": 4100.0, "size_high": float("inf")}) == "none up to 4,000"
    near = row | {"size": 3000.0, "size_low": 200.0, "size_high": float("inf")}
    assert rate_tables.matching_budget(near) == "3,000 [< 250, > 4,000]"


def test_a_refused_curve_has_its_reason_and_without_the_baseline_there_is_nothing_to_match() -> None:
    refused = fitted(make_runs({"full-n00250": 0.8, "full-n00500": 0.85, "full-n01000": 0.88}, matrix=MATRIX), draws=3)
    assert refused["refusal"].tolist() == ["", refusal(SIZES, [0.1] * 4)]
    table = fitted(falling(without="full"), draws=3)
    assert table["target"].isna().all() and (table["refusal"] == "").all()
    assert rate_tables.matching_budget(table.iloc[0].to_dict()) == "–"


def test_what_the_last_increase_of_the_budget_is_worth_is_measured_on_the_same_texts() -> None:
    (row,) = learning_curves.gains(falling(matrix=MATRIX | {"seed": [1, 2, 3]})).to_dict("records")
    assert (row["strategy"], row["fewer"], row["train_size"]) == ("full", 1000, 2000)
    expected = 100 * (error(LAW, 1000) - error(LAW, 2000))
    assert row["difference"] == pytest.approx(expected, abs=0.1) and row["low"] < expected < row["high"]
    assert learning_curves.gains(falling(matrix=MATRIX | {"train_size": [250]})).empty
    both = learning_curves.gains(falling(matrix=MATRIX | {"max_length": [32, 64]}))
    assert both["max_length"].tolist() == [32, 64] and both["train_size"].tolist() == [2000, 2000]
