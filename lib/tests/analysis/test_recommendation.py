"""The recommendation: the cheapest option that is close to the best, with the comparisons that bear on it."""

from typing import Any

import pandas as pd
import pytest
from made_runs import make_runs, make_words

from peft_study.analysis import accuracy
from peft_study.analysis.costs import costs
from peft_study.analysis.recommendation import TFIDF, available, recommend, swapped
from peft_study.records.read import Runs

LORA, FULL = "LoRA (query, value)", "Full fine-tuning"
MATRIX: dict[str, Any] = {"strategy": ["full", "lora"], "train_size": [250], "seed": [1, 2, 3]}


def advice(runs: Runs, tfidf: float | None = None, **changes: Any) -> pd.DataFrame:
    """The recommendation for some runs beside TF-IDF of an accuracy; `changes` replaces columns of costs."""
    words = accuracy.against_tfidf(runs, None if tfidf is None else make_words((250, 1000), tfidf))
    cost = costs(runs).assign(**changes)
    return recommend(runs, accuracy.summary(runs), accuracy.against_baseline(runs), words, cost)


@pytest.mark.parametrize(
    ("shares", "tfidf", "choice", "against"),
    [
        ({"full": 0.9, "lora": 0.895}, None, LORA, [FULL]),  # within a point, and cheaper
        ({"full": 0.9, "lora": 0.88}, None, FULL, [LORA]),
        ({"full": 0.9, "lora": 0.88}, 0.8, FULL, [LORA, TFIDF]),
        ({"full": 0.88, "lora": 0.9}, 0.8, LORA, [FULL, TFIDF]),
        ({"full": 0.88, "lora": 0.9}, 0.9, TFIDF, [LORA]),  # the cheapest of all, compared with the most accurate
    ],
)
def test_the_cheapest_option_within_the_margin_of_the_best_is_chosen(
    shares: dict[str, float], tfidf: float | None, choice: str, against: list[str]
) -> None:
    table = advice(make_runs(shares, matrix=MATRIX), tfidf)
    assert table["choice"].unique().tolist() == [choice] and table["against"].tolist() == against
    best = max([*shares.values(), tfidf or 0])
    assert table["highest"].tolist() == pytest.approx([best] * len(table))
    own = {LORA: shares["lora"], FULL: shares["full"], TFIDF: tfidf}
    gaps = [100 * (own[choice] - own[other]) for other in against]
    assert table["difference"].tolist() == pytest.approx(gaps) and (table["low"] <= table["high"]).all()


def test_costs_are_flops_or_else_trainable_parameters() -> None:
    runs = make_runs({"": 0.9}, matrix=MATRIX)
    dear = {"training.flops": [1.0, 2.0], "parameters.trainable": [2, 1]}
    assert advice(runs, **dear)["choice"].tolist() == [FULL]
    assert advice(runs, **dear | {"training.flops": [float("nan"), 2.0]})["choice"].tolist() == [LORA]


def test_nothing_is_recommended_with_two_seeds_or_without_an_alternative() -> None:
    assert advice(make_runs(matrix=MATRIX | {"seed": [1, 2]}), 0.8).empty
    assert advice(make_runs(matrix=MATRIX | {"strategy": ["full"]})).empty
    assert advice(make_runs(matrix=MATRIX, without="lora-n00250-s3")).empty
    alone = advice(make_runs(matrix=MATRIX | {"strategy": ["full"]}), 0.8)
    assert alone["choice"].tolist() == [FULL] and alone["against"].tolist() == [TFIDF]


def test_swapping_the_sides_twice_changes_nothing() -> None:
    table = accuracy.against_baseline(make_runs({"lora": 0.8}, matrix=MATRIX))
    assert swapped(table)["verdict"].tolist() == ["better"] and swapped(table)["low"].item() > 0
    pd.testing.assert_frame_equal(swapped(swapped(table)), table)


def test_the_reviews_to_test_on_are_those_beside_the_largest_budget() -> None:
    runs = make_runs()
    assert pd.isna(available(runs))
    runs.table["data.unique"] = 5_000
    assert available(runs) == 4_000
