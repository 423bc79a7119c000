"""Slices of the test reviews: accuracies and differences on them, and what is said of them."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_runs import make_runs

from peft_study.analysis import accuracy as comparison_tables
from peft_study.analysis import slices as slices_tables
from peft_study.analysis.selection import few
from peft_study.data import slices as slices_rules
from peft_study.records.read import Runs
from peft_study.report import slice_claims as slices_claims
from peft_study.report import slice_figures as slices_plots
from peft_study.strategies.table import STRATEGIES

pytestmark = pytest.mark.usefixtures("cheap_garbage")
MATRIX = {"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1]}


def made(count: int = 400, other: int = 100, seed: int = 0) -> pd.DataFrame:
    """Slices of the reviews of made runs, at random; "rating" holds only ten."""
    rng = np.random.default_rng(seed)
    ids = np.r_[np.arange(count), np.arange(other)]
    table = pd.DataFrame({"part": ["test"] * count + ["ood"] * other, "id": ids, "label": ids % 2})
    columns = {name: rng.random(len(ids)) < 0.5 for name in slices_rules.SLICES}
    return table.assign(**columns | {"rating": ids < 10, "clean": True})


EDGES: dict[str, Callable[[], Runs]] = {
    "one seed": lambda: make_runs({"lora": 0.75}),
    "several seeds": lambda: make_runs({"lora": 0.85}, matrix=MATRIX | {"seed": [1, 2, 3]}),
    "a missing run": lambda: make_runs(without="lora-n01000"),
    "no run of the baseline": lambda: make_runs(without="full"),
    "a single strategy": lambda: make_runs(matrix=MATRIX | {"strategy": ["full"]}),
    "a single run": lambda: make_runs(matrix={"strategy": ["full"], "train_size": [250], "seed": [1]}),
    "ties": lambda: make_runs({"": 1.0}),
    "no other reviews": lambda: make_runs(ood=None),
    "a further axis": lambda: make_runs(matrix=MATRIX | {"epochs": [4, 16]}),
    "all strategies": lambda: make_runs(
        {"head": 0.6}, matrix=MATRIX | {"strategy": list(STRATEGIES), "train_size": [250]}
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_tables_sentences_and_the_figure_hold_at_every_edge(name: str) -> None:
    runs = EDGES[name]()
    sliced = slices_tables.match(runs, made())
    scores = slices_tables.accuracies(sliced)
    compared = slices_tables.differences(sliced, scores)
    titles = slices_tables.shown(scores, compared, runs.study.baseline)
    printed = slices_tables.printed(scores, compared, titles)
    told = [
        slices_claims.available(sliced),
        slices_claims.hardest(scores, sliced),
        slices_claims.verdicts(compared, sliced),
        printed.to_csv(),
    ]
    for sentence in told:
        assert len(sentence) > 10 and not re.search(r"\b(nan|None|inf|none)\b|_", sentence.replace("none", "")), (
            sentence
        )
    assert "not compared: states a rating (10)" in told[0] and (slices_rules.OTHER in printed.to_csv()) == (
        name != "no other reviews"
    )
    assert len(printed) <= 10 * 10 and len(titles) <= 6
    assert "of the slices of 50 reviews or more, accuracy is" in told[1] or "At " not in told[1]
    assert "rating" not in set(compared["slice"] if len(compared) else [])
    if len(compared):
        figure = slices_plots.dots(compared, titles, 1.0)
        figure.draw_without_rendering()
        assert len(figure.axes[0].get_yticks()) == compared["slice"].nunique()


def test_a_slice_of_all_reviews_would_repeat_the_comparison_of_all_and_is_left_out() -> None:
    runs = make_runs({"lora": 0.8})
    sliced = slices_tables.match(runs, made().assign(clean=True))
    assert "clean" not in sliced.slices
    sliced = replace(sliced, slices=sliced.slices | {"clean": ("test", np.ones(len(runs.labels), dtype=bool))})
    scores = slices_tables.accuracies(sliced)
    compared = slices_tables.differences(sliced, scores)
    whole, clean = comparison_tables.against_baseline(runs), compared[compared["slice"] == "clean"].reset_index()
    pd.testing.assert_frame_equal(
        clean[["difference", "low", "high", "p_value"]], whole[["difference", "low", "high", "p_value"]]
    )
    assert (clean["corrected_p"] >= whole["corrected_p"]).all(), "corrected for all slices"
    accuracies = comparison_tables.summary(runs)["accuracy"]
    assert scores.loc[scores["slice"] == "clean", "accuracy"].tolist() == accuracies.tolist()
    other = comparison_tables.summary(runs, part="ood_")["accuracy"]
    assert scores.loc[scores["slice"] == slices_rules.OTHER, "accuracy"].tolist() == other.tolist()


def test_an_accuracy_is_of_the_reviews_of_its_slice_alone() -> None:
    runs = make_runs({"lora": 0.8})
    table = made().assign(short=lambda t: t["id"] < 60)
    sliced = slices_tables.match(runs, table.sample(frac=1, random_state=0))
    scores = slices_tables.accuracies(sliced).set_index(["slice", "strategy", "train_size"])
    right = runs.preds["lora-n00250-s1"].to_numpy()[:60] == runs.labels[:60]
    assert scores.loc[("short", "lora", 250), "accuracy"] == pytest.approx(right.mean())


def test_slices_of_other_reviews_are_not_used_and_the_reader_is_told() -> None:
    runs = make_runs()
    strange = made().assign(id=lambda t: t["id"] + 1)
    flipped = made().assign(label=lambda t: 1 - t["label"])
    for table in (strange, flipped):
        sliced = slices_tables.match(runs, table)
        assert not sliced.slices and "of other test reviews" in slices_claims.available(sliced)
    half = made(other=7)
    sliced = slices_tables.match(runs, half)
    assert slices_rules.OTHER not in sliced.slices and "another kind in `slices.csv` are not those" in sliced.absent
    assert "01_explore_data.ipynb` makes them" in slices_claims.available(slices_tables.match(runs, None))


def test_without_slices_everything_is_empty_and_said() -> None:
    runs = make_runs()
    sliced = slices_tables.match(runs, None)
    scores = slices_tables.accuracies(sliced)
    compared = slices_tables.differences(sliced, scores)
    assert scores.empty and compared.empty
    assert slices_tables.shown(scores, compared, "full") == []
    assert slices_tables.printed(scores, compared, []).empty
    assert slices_claims.verdicts(compared, sliced) == ""
    assert "no two slices" in slices_claims.hardest(scores, sliced)


def test_of_many_variants_the_baseline_and_both_ends_are_shown() -> None:
    table = pd.DataFrame({"strategy": [f"s{i}" for i in range(20)], "value": range(20)})
    assert few(table, "value", "s7")["strategy"].tolist() == ["s7", "s0", "s1", "s18", "s19"]
    assert len(few(table.head(5), "value", "s7")) == 5
