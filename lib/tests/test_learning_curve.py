"""Learning curves: a known law is found again, and what data cannot carry is refused with the reason."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from made_runs import make_runs

from peft_study.analysis import accuracy as comparison_tables
from peft_study.analysis import learning_curves as tables
from peft_study.analysis.learning_curves import Curve, fit, refusal
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.report import curve_claims as claims

SIZES = [250, 500, 1000, 2000]
MATRIX = {"strategy": ["full", "lora"], "train_size": SIZES, "seed": [1]}
LAW = Curve(floor=0.08, drop=0.04, exponent=0.7, unit=2000)
LATE = Curve(floor=0.08, drop=0.06, exponent=0.7, unit=2000)  # needs 1.8 times the labels of LAW


def falling(**content: object) -> Runs:
    """Runs of 2,000 test reviews whose accuracies follow LAW (full) and LATE (LoRA)."""
    laws = {"full": LAW, "lora": LATE}
    shares = {f"{name}-n{size:05d}": 1 - law.error(size) for name, law in laws.items() for size in SIZES}
    return make_runs(shares, count=2000, **({"matrix": MATRIX} | content))  # type: ignore[arg-type]


def learned(runs: Runs, draws: int = 20) -> pd.DataFrame:
    return tables.curves(runs, comparison_tables.summary(runs), draws=draws)


@settings(max_examples=15, deadline=None)
@given(some.floats(0.01, 0.2), some.floats(0.02, 0.2), some.floats(0.2, 1.5))
def test_a_law_without_noise_is_found_again(floor: float, drop: float, exponent: float) -> None:
    law = Curve(floor, drop, exponent, 2000)
    found = fit(SIZES, np.array([law.error(size) for size in SIZES]))
    assert [found.error(size) for size in (250, 700, 2000)] == pytest.approx(
        [law.error(size) for size in (250, 700, 2000)], abs=1e-3
    )


@given(some.floats(100, 1e5))
def test_the_size_that_reaches_an_error_is_where_the_curve_has_it(size: float) -> None:
    assert LAW.size(LAW.error(size)) == pytest.approx(size, rel=1e-6)


def test_an_error_below_the_floor_is_never_reached() -> None:
    assert LAW.size(0.08) == LAW.size(0.05) == float("inf")


@pytest.mark.parametrize(
    ("sizes", "errors", "reason"),
    [
        ([250], [0.2], "1 budget cannot carry"),
        ([250, 500, 1000], [0.3, 0.2, 0.1], "3 budgets cannot carry a curve of three parameters; it takes 4"),
        (SIZES, [0.3, 0.2, 0.25, 0.1], "the error does not fall at 1,000 labels"),
        (SIZES, [0.3, 0.2, 0.2, 0.2], "the error does not fall at 1,000 and at 2,000 labels"),
    ],
)
def test_what_cannot_carry_a_curve_is_refused_with_the_reason(
    sizes: list[int], errors: list[float], reason: str
) -> None:
    assert reason in refusal(sizes, errors)
    with pytest.raises(StudyError, match=re.escape(reason)):
        fit(sizes, np.array(errors))


def test_the_budget_that_matches_the_baseline_is_found_with_an_interval_around_it() -> None:
    table = learned(falling()).set_index("strategy")
    row = table.loc["lora"]
    assert row["target"] == 2000 and row["accuracy"] == pytest.approx(0.88)
    assert row["size"] == pytest.approx(LATE.size(LAW.error(2000)), rel=0.02)
    assert (table["floor_low"] <= table["floor"]).all() and (table["floor"] <= table["floor_high"]).all()
    assert row["size_low"] <= row["size"] <= row["size_high"]
    told = claims.learning_curves(table.reset_index())
    assert told.startswith("To match the 88.0% of the baseline strategy with 2,000 labels, LoRA (query, value) needs ")
    assert "full" not in told.lower()
    shown = claims.curve_table(table.reset_index())
    assert shown.loc["Full fine-tuning", "labels to match"] == "–"
    assert re.fullmatch(
        r"3,[5-7]00 \[[<\d][\d, ]+, [>\d][\d, ]+\]", shown.loc["LoRA (query, value)", "labels to match"]
    )


def test_several_seeds_widen_what_is_known_of_the_curve() -> None:
    laws = {"full-n": LAW, "lora-n": LATE}
    shares = {f"{name}{size:05d}": 1 - law.error(size) for name, law in laws.items() for size in SIZES}
    luck = {key + f"-s{seed}": share + gap for key, share in shares.items() for seed, gap in ((2, 0.02), (3, -0.02))}
    many = make_runs(shares | luck, count=2000, matrix=MATRIX | {"seed": [1, 2, 3]}, name="many")
    steady = make_runs(shares, count=2000, matrix=MATRIX | {"seed": [1, 2, 3]}, name="steady")
    wide, narrow = (learned(runs).set_index("strategy").loc["lora"] for runs in (many, steady))
    assert wide["size"] == pytest.approx(narrow["size"], rel=0.1)
    assert wide["floor_high"] - wide["floor_low"] >= narrow["floor_high"] - narrow["floor_low"]


def test_a_curve_is_not_read_beyond_twice_its_largest_budget() -> None:
    row = learned(falling()).set_index("strategy", drop=False).loc["lora"].to_dict()
    far = pd.DataFrame([row | {"size": 4100.0, "size_high": float("inf")}])
    assert claims.reach(far.iloc[0].to_dict()) == "none up to 4,000"
    assert "would need more than 4,000, which is as far as its curve is read." in claims.learning_curves(far)
    near = row | {"size": 3000.0, "size_low": 200.0, "size_high": float("inf")}
    assert claims.reach(near) == "3,000 [< 250, > 4,000]"


def test_refused_curves_are_named_beside_those_that_are_fitted() -> None:
    table = learned(make_runs({"full-n00250": 0.8, "full-n00500": 0.85, "full-n01000": 0.88}, matrix=MATRIX), draws=3)
    assert table["refusal"].tolist()[0] == "" and table["refusal"].tolist()[1].startswith("the error does not fall at")
    told = claims.learning_curves(table)
    assert told.startswith("There is no strategy with a curve beside the baseline strategy to match.")
    assert "LoRA (query, value): the error does not fall at 500 and at 1,000 and at 2,000 labels." in told


def test_three_budgets_are_refused_in_one_sentence() -> None:
    table = learned(make_runs(matrix=MATRIX | {"train_size": SIZES[:3]}))
    assert claims.learning_curves(table) == (
        "No learning curve is fitted. 3 budgets cannot carry a curve of three parameters; it takes 4."
    )
    assert claims.curve_table(table).empty


def test_without_a_run_of_the_baseline_there_is_a_curve_and_nothing_to_match() -> None:
    table = learned(falling(without="full"), draws=3)
    assert table["target"].isna().all() and (table["refusal"] == "").all()
    assert claims.learning_curves(table).startswith("There is no strategy with a curve beside")
