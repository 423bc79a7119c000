"""Sweeps of learning rates: the rate is chosen on validation, tables and figures hold at their edges, and 04 runs."""

import json
import re
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
from made_runs import make_runs, make_study

from peft_study import paths
from peft_study.analysis import learning_rates
from peft_study.engine import steps
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.report import rate_tables, tables
from peft_study.report.rate_figures import CEILING, rate_curves
from peft_study.strategies.table import STRATEGIES

NAN = float("nan")
GRIDS = [
    {"strategy": ["full"], "learning_rate": [1e-5, 1e-4, 1e-3]},
    {"strategy": ["lora"], "lora_r": [2, 8], "learning_rate": [1e-4, 1e-3, 1e-2]},
]
LOSSES = {
    "": 0.5,
    "full-n01000-s42-learning_rate0.0001": 0.3,
    "lora-n01000-s42-learning_rate0.001": 0.35,
    "learning_rate0.001-lora_r8": 0.34,
    "learning_rate0.01": NAN,
}
ACCURACIES = {"": 0.9, "lora-n01000-s42-learning_rate0.0001-lora_r8": 0.6}


def swept(loss: dict[str, Any] | None = None, grids: Any = None, accuracy: Any = None, **content: Any) -> Runs:
    """Runs of a sweep with a validation loss each; by default every best rate lies inside its grid."""
    return make_runs(accuracy or ACCURACIES, loss=LOSSES if loss is None else loss, matrix=grids or GRIDS, **content)


@cache
def made(name: str) -> SimpleNamespace:
    """All of an edge, made once: nothing of it is read from files again."""
    return everything(EDGES[name]())


def everything(runs: Runs) -> SimpleNamespace:
    """All tables of 04, as computed and as printed."""
    sweep = learning_rates.sweep(runs)
    best = learning_rates.best(sweep)
    own, ratios = learning_rates.own(best), learning_rates.ratios(best)
    differences = learning_rates.differences(runs, sweep, own)
    printed = {"best": rate_tables.best_rates(best, ratios), "differences": tables.differences(differences)}
    return SimpleNamespace(**locals())


def test_seeds_that_diverge_at_too_high_a_rate_do_not_widen_the_intervals_at_the_best_ones() -> None:
    grids, losses = [grid | {"seed": [1, 2, 3]} for grid in GRIDS], {"": 0.5, "learning_rate0.0001": 0.3}
    diverging = {f"lora-n01000-s{seed}-learning_rate0.01": 0.9 - seed / 5 for seed in (1, 2, 3)}
    calm, wild = (everything(swept(losses, grids, {"": 0.9} | more)).differences for more in ({}, diverging))
    assert wild[["low", "high"]].to_numpy() == pytest.approx(calm[["low", "high"]].to_numpy())


EDGES: dict[str, Callable[[], Runs]] = {
    "a sweep": swept,
    "two seeds and sizes": lambda: swept(
        {"": 0.5, "0.001": 0.3}, [grid | {"seed": [1, 2], "train_size": [250, 1000]} for grid in GRIDS]
    ),
    "one rate": lambda: swept({"": 0.5}, [grid | {"learning_rate": [1e-3]} for grid in GRIDS]),
    "no further axis": lambda: swept(grids=[{"strategy": ["full", "lora"], "learning_rate": [1e-4, 1e-3]}]),
    "best at the edges": lambda: swept({"": 0.5, "0.0001": 0.3, "1e_05": 0.2}),
    "all diverged": lambda: swept({"": NAN}),
    "no validation": lambda: swept({}),
    "no run of the baseline": lambda: swept(without="full"),
    "only runs of the baseline": lambda: swept(without="lora"),
    "a missing run": lambda: swept(without="full-n01000-s42-learning_rate0.0001"),
    "another baseline": lambda: swept(baseline="lora"),
    "five strategies": lambda: swept(
        {"": 0.4}, [{"strategy": ["full", "head", "bitfit", "lora", "lora-all"], "learning_rate": [1e-4, 1e-3]}]
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", EDGES)
def test_the_tables_and_figures_of_04_hold_at_every_edge(name: str) -> None:
    edge = made(name)
    for table in edge.printed.values():
        text = table.to_csv(sep="\t")
        assert not re.search(r"\b(nan|None|inf|NaT|<NA>)\b", text) and "−0.0" not in text and "+0.0" not in text
    assert sorted(run_id for ids in edge.sweep["run_ids"] for run_id in ids) == sorted(edge.runs.table.index)
    assert not edge.sweep.duplicated([*learning_rates.group_axes(edge.sweep), "rate"]).any()
    assert (edge.ratios["low"] < edge.ratios["ratio"]).all() and (edge.ratios["ratio"] < edge.ratios["high"]).all()
    assert not edge.differences.duplicated(["strategy", "train_size", "rates"]).any()
    assert edge.runs.study.baseline not in set(edge.differences["strategy"])
    for column in ("loss", "accuracy"):
        figure = rate_curves(edge.sweep, column)
        assert len(figure.axes) == edge.sweep["strategy"].nunique()
        figure.canvas.draw()


@pytest.mark.parametrize("name", EDGES)
def test_no_measured_rate_of_a_group_has_a_lower_validation_loss_than_its_best(name: str) -> None:
    edge = made(name)
    groups = edge.sweep.groupby(learning_rates.group_axes(edge.sweep), sort=False)
    assert len(edge.best) == groups.ngroups
    for (_, group), row in zip(groups, edge.best.to_dict("records"), strict=True):
        finite = group["loss"][np.isfinite(group["loss"])]
        assert group["chosen"].sum() == (len(finite) > 0) == (not np.isnan(row["rate"]))
        if len(finite):
            assert row["loss"] == finite.min() and row["rate"] == group.loc[group["chosen"], "rate"].item()
            low, high = learning_rates.span(row)
            assert low < row["rate"] < high


def test_the_rate_is_chosen_on_validation_whatever_the_test_set_says() -> None:
    table = learning_rates.sweep(swept(accuracy={"": 0.9, "full-n01000-s42-learning_rate0.0001": 0.1}))
    assert learning_rates.best(table)["rate"].tolist() == [1e-4, 1e-3, 1e-3]


def test_losses_are_means_over_seeds_and_a_rate_at_which_one_seed_diverged_is_not_chosen() -> None:
    grids = [{"strategy": ["full"], "seed": [1, 2], "learning_rate": [1e-4, 1e-3]}]
    diverged = learning_rates.sweep(swept({"": 0.5, "0.001": 0.1, "s2-learning_rate0.001": NAN}, grids))
    assert diverged["chosen"].tolist() == [True, False]
    table = learning_rates.sweep(swept({"": 0.5, "s2": 0.3}, grids))
    assert table["loss"].tolist() == pytest.approx([0.4, 0.4])
    assert table["chosen"].tolist() == [True, False], "of equal losses the lowest rate"


def test_the_rate_is_that_of_the_study_or_the_recorded_one_or_the_strategys_default() -> None:
    runs = swept({"": 0.5}, [{"strategy": ["full", "lora"], "learning_rate": [None, 1e-3]}])
    default = {name: STRATEGIES[name].learning_rate for name in ("full", "lora")}
    assert learning_rates.sweep(runs)["rate"].tolist() == [default["full"], 1e-3, default["lora"], 1e-3]
    recorded = runs.table.assign(**{"training.learning_rate": 7e-4})
    assert learning_rates.sweep(Runs(runs.study, recorded, {}))["rate"].tolist() == [7e-4, 1e-3, 7e-4, 1e-3]


def test_a_best_rate_is_shown_between_its_neighbours_or_with_the_side_on_which_to_extend_the_grid() -> None:
    assert made("a sweep").printed["best"].iloc[2].tolist() == [
        *(8, "1e-3", "0.340", "0.500", "diverged", "3e-3", "10 (0.1 to 1e+03)")
    ], "no remark"
    assert set(made("best at the edges").printed["best"]["remark"]) == {
        "best at the lowest rate: extend the grid downwards"
    }
    high = everything(swept({"": 0.5, "full-n01000-s42-learning_rate0.001": 0.1}))
    assert high.printed["best"]["remark"].iloc[0] == "best at the highest rate: extend the grid upwards"


def test_where_there_is_no_choice_none_is_made_and_the_table_says_why() -> None:
    one = made("one rate")
    assert one.ratios.empty and set(one.best["settled"]) == {"only"} and "steps" not in one.printed
    for name, remark in {
        "no validation": "no rate: no validation on record",
        "all diverged": "no rate: the loss is not finite at any",
    }.items():
        edge = made(name)
        assert edge.differences.empty and edge.ratios.empty
        assert set(edge.printed["best"]["remark"]) == {remark} and "best rate" not in edge.printed["best"]


def test_a_ratio_has_the_range_that_the_grid_allows_and_a_common_rate_compares_the_same_settings() -> None:
    assert made("a sweep").ratios["ratio"].tolist() == pytest.approx([10, 10])
    rows = made("a sweep").differences.set_index("rates")
    own, same = rows.loc[learning_rates.OWN], rows.loc[learning_rates.SAME]
    assert (own["learning_rate"], same["learning_rate"]) == ("1e-3", "1e-4")
    assert own["difference"] == pytest.approx(0) and same["high"] < 0
    assert rows["lora_r"].tolist() == [8, 8], "only the rate differs"


def test_a_default_is_compared_with_the_range_of_the_best_rate() -> None:
    lowest = "full-n01000-s42-learning_rate1e_05"
    high = everything(swept({"": 0.5, lowest: 0.2, "lora": 0.6, "lora_r8": 0.5}))
    assert high.printed["best"]["default"].tolist() == ["1e-4", "3e-3 (too high)", "3e-3 (too high)"]
    grids = [GRIDS[0], GRIDS[1] | {"learning_rate": [1e-5, 1e-4]}]
    outside = everything(swept({"": 0.5, lowest: 0.2, "0.0001-lora_r": 0.1}, grids))
    assert outside.printed["best"]["default"].tolist() == ["1e-4", *["3e-3 (outside the grid)"] * 2]
    assert outside.printed["best"]["ratio (range)"].tolist()[1:] == ["10 (at least 0.1)"] * 2


@pytest.mark.parametrize("classes", [2, 150])
def test_a_loss_too_high_to_draw_is_a_mark_at_the_upper_edge(classes: int) -> None:
    table = learning_rates.sweep(swept({"": 0.5, "0.001": 40.0, "0.01": NAN})).query("strategy == 'lora'")
    ceiling = CEILING * np.log(classes)
    (axis,) = rate_curves(table, classes=classes).axes
    heights = np.concatenate([dots.get_offsets()[:, 1] for dots in axis.collections])
    assert (heights == ceiling).sum() == 4 and axis.get_ylim()[1] >= ceiling


@pytest.mark.parametrize("edge", ["a missing run", "no validation"])
def test_04_reports_a_sweep_and_writes_its_answer_numbers_and_figures(
    edge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error::RuntimeWarning")
    runs = EDGES[edge]()
    assert steps.comparison_notebook(runs.study).name == steps.RATES
    steps.compare(runs.study.name)
    executed = nbformat.read(paths.study_folder(runs.study.name) / "compare.ipynb", as_version=4)
    outputs = str([cell.get("outputs") for cell in executed.cells])
    assert not re.search(r"'(stderr|error)'|\b(nan|NaN|inf)\b", outputs)
    folder = paths.report_folder(runs.study.name)
    answer = (folder / "answer.md").read_text(encoding="utf-8")
    assert ("**1e-3**" in answer) == (edge != "no validation")
    numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    assert {"sweep", "best", "own", "ratios", "differences"} <= numbers["tables"].keys()
    assert {file.stem for file in (folder / "figures").glob("*.svg")} >= {"fig-loss", "fig-accuracy"}


def test_a_study_without_a_sweep_is_compared_by_03_and_04_refuses_it() -> None:
    study = make_study()
    assert steps.comparison_notebook(study).name == steps.COMPARE
    with pytest.raises(StudyError, match=r"^the study 'made' has no axis learning_rate.*03_compare_variants\.ipynb"):
        learning_rates.require_sweep(study)
