"""Slices of runs: accuracies and differences on the reviews of each slice, and slices of other reviews refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_runs import MATRIX, make_runs

from peft_study.analysis import accuracy, slices
from peft_study.analysis.slice_rules import OTHER, SLICES
from peft_study.records.read import Runs
from peft_study.report import figures, tables
from peft_study.strategies.table import STRATEGIES


def made(count: int = 400, other: int = 100, seed: int = 0) -> pd.DataFrame:
    """Slices of the reviews of made runs, at random; "rating" holds only ten, "clean" all."""
    rng = np.random.default_rng(seed)
    ids = np.r_[np.arange(count), np.arange(other)]
    table = pd.DataFrame({"part": ["test"] * count + ["ood"] * other, "id": ids, "label": ids % 2})
    columns = {name: rng.random(len(ids)) < 0.5 for name in SLICES}
    return table.assign(**columns | {"rating": ids < 10, "clean": True})


EDGES: dict[str, Callable[[], Runs]] = {
    "one seed": lambda: make_runs({"lora": 0.75}),
    "several seeds": lambda: make_runs({"lora": 0.85}, matrix=MATRIX | {"seed": [1, 2, 3]}),
    "no run of the baseline": lambda: make_runs(without="full"),
    "a single strategy": lambda: make_runs(matrix=MATRIX | {"strategy": ["full"]}),
    "no other reviews": lambda: make_runs(ood=None),
    "a further axis": lambda: make_runs(matrix=MATRIX | {"epochs": [4, 16]}),
    "many strategies": lambda: make_runs(
        {"head": 0.6}, matrix=MATRIX | {"strategy": list(STRATEGIES)[:8], "train_size": [250]}
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_tables_and_the_figure_hold_at_every_edge(name: str) -> None:
    runs = EDGES[name]()
    sliced = slices.match(runs, made())
    scores = slices.scores(sliced)
    compared = slices.differences(sliced, scores)
    titles = slices.selection(scores, compared, runs.study.baseline)
    shown = tables.slices(scores, compared, titles)
    assert "nan" not in shown.to_csv() and len(shown) <= len(titles) * scores["slice"].nunique() and len(titles) <= 6
    assert (OTHER in set(scores["slice"])) == (name != "no other reviews")
    assert not {"rating", "clean"} & set(scores["slice"]), "a slice divides the test set"
    if len(compared):
        figure = figures.slice_differences(compared, titles, runs.study)
        figure.draw_without_rendering()
        assert len(figure.axes[0].get_yticks()) == compared["slice"].nunique()


def test_a_slice_of_all_reviews_would_repeat_the_comparison_of_all_and_is_left_out() -> None:
    runs = make_runs({"lora": 0.8})
    sliced = slices.match(runs, made().sample(frac=1, random_state=0))
    assert "clean" not in sliced.slices
    sliced = replace(sliced, slices=sliced.slices | {"clean": ("", np.ones(len(runs.labels), dtype=bool))})
    scores = slices.scores(sliced)
    compared = slices.differences(sliced, scores)
    whole, clean = accuracy.against_baseline(runs), compared[compared["slice"] == "clean"].reset_index()
    pd.testing.assert_frame_equal(clean[["difference", "p_value"]], whole[["difference", "p_value"]])
    assert (clean["adjusted_p"] >= whole["adjusted_p"]).all(), "adjusted for all slices"
    right = runs.right("lora-n00250-s1")
    short = sliced.slices["short"][1]
    rows = scores.set_index(["slice", "strategy", "train_size"])["accuracy"]
    assert rows["short", "lora", 250] == pytest.approx(right[short].mean())
    means = accuracy.summary(runs)["accuracy"]
    assert scores.loc[scores["slice"] == "clean", "accuracy"].tolist() == means.tolist()
    other = accuracy.summary(runs, part="ood_")["accuracy"]
    assert scores.loc[scores["slice"] == OTHER, "accuracy"].tolist() == other.tolist()


def test_slices_of_other_reviews_are_not_used_and_the_reader_is_told() -> None:
    runs = make_runs()
    for table in (made().assign(id=lambda t: t["id"] + 1), made().assign(label=lambda t: 1 - t["label"])):
        sliced = slices.match(runs, table)
        assert not sliced.slices and "does not match the test texts" in sliced.absent
    assert "does not match" in slices.match(runs, pd.concat([made().head(1), made()])).absent, "a text is there twice"
    sliced = slices.match(runs, made(other=7))
    assert OTHER not in sliced.slices and "not match the out-of-domain texts" in sliced.absent
    none = slices.match(runs, None)
    scores = slices.scores(none)
    assert "`slices.csv`, which notebook 01 writes, is absent" in none.absent and scores.empty
    assert slices.selection(scores, slices.differences(none, scores), "full") == []
