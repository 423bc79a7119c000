"""Sweeps of learning rates: the rate is chosen on validation, every sentence holds at its edges, and 04 runs."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
from made_runs import make_runs
from matplotlib import rc_context

from nbpaper import use_paper_style
from peft_study import paths
from peft_study.analysis import learning_rates as tables
from peft_study.engine import steps as batch
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.report import figures as plots
from peft_study.report import rate_claims as rates_claims
from peft_study.report import rate_figures as rates_plots
from peft_study.report import tables as comparison_printed
from peft_study.strategies.table import STRATEGIES

pytestmark = pytest.mark.usefixtures("cheap_garbage")
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


def everything(runs: Runs) -> SimpleNamespace:
    """All tables of 04, and its sentences and printed tables by name."""
    sweep = tables.sweep(runs)
    best = tables.best(sweep)
    own, ratios = tables.own(best), tables.ratios(best)
    differences = tables.differences(runs, sweep, own)
    sentences = {
        "points": rates_claims.points_drawn(sweep),
        "best": rates_claims.best_rates(own),
        "settled": rates_claims.settled(best),
        "tenfold": rates_claims.tenfold(ratios),
        "rank": rates_claims.rank(best),
        "compared": rates_claims.compared(differences, runs.study),
        "flipped": rates_claims.flipped(differences),
        "price": rates_claims.price(own),
        "defaults": rates_claims.defaults(own),
    }
    printed = {
        "best": rates_claims.best_table(best),
        "ratios": rates_claims.ratio_table(ratios),
        "differences": comparison_printed.differences(differences),
        "price": rates_claims.price_table(own),
        "defaults": rates_claims.defaults_table(own),
    }
    return SimpleNamespace(**locals())


EDGES: dict[str, Callable[[], Runs]] = {
    "a sweep": swept,
    "several seeds": lambda: swept({"": 0.5, "0.001": 0.3}, [grid | {"seed": [1, 2]} for grid in GRIDS]),
    "two sizes": lambda: swept({"": 0.5, "0.001": 0.3}, [grid | {"train_size": [250, 1000]} for grid in GRIDS]),
    "one rate": lambda: swept({"": 0.5}, [grid | {"learning_rate": [1e-3]} for grid in GRIDS]),
    "the strategy's own rate": lambda: swept({"": 0.5}, [grid | {"learning_rate": [None]} for grid in GRIDS]),
    "one rank": lambda: swept(grids=[GRIDS[0], GRIDS[1] | {"lora_r": [8]}]),
    "no further axis": lambda: swept(grids=[{"strategy": ["full", "lora"], "learning_rate": [1e-4, 1e-3]}]),
    "best at the edges": lambda: swept({"": 0.5, "0.0001": 0.3, "1e_05": 0.2}),
    "all diverged": lambda: swept({"": NAN}),
    "LoRA diverged": lambda: swept({"full": 0.4, "lora": float("inf")}),
    "no validation": lambda: swept({}),
    "no validation of the baseline": lambda: swept({"lora": 0.4}),
    "no run of the baseline": lambda: swept(without="full"),
    "only runs of the baseline": lambda: swept(without="lora"),
    "a missing run": lambda: swept(without="full-n01000-s42-learning_rate0.0001"),
    "another baseline": lambda: swept(baseline="lora"),
    "a small test set": lambda: swept(count=40),
    "five strategies": lambda: swept(
        {"": 0.4}, [{"strategy": ["full", "head", "bitfit", "lora", "lora-all"], "learning_rate": [1e-4, 1e-3]}]
    ),
}


@pytest.fixture(params=EDGES)
def edge(request: pytest.FixtureRequest) -> SimpleNamespace:
    return made(request.param)


@cache
def made(name: str) -> SimpleNamespace:
    """All of an edge, made once: nothing of it is read from files again."""
    return everything(EDGES[name]())


@pytest.fixture(autouse=True)
def paper_style() -> Iterator[None]:
    with rc_context():
        use_paper_style()
        yield


# --- What holds at every edge -----------------------------------------------------------------------------------------


def test_no_sentence_or_table_has_a_hole_in_it(edge: SimpleNamespace) -> None:
    shown = edge.sentences | {f"table of {name}": table.to_csv(sep="\t") for name, table in edge.printed.items()}
    for name, told in shown.items():
        assert not re.search(r"\b(nan|None|inf|NaT|<NA>)\b|\bof 0\b", told), f"{name}: {told}"
        assert "−0.0 " not in told and "+0.0" not in told and len(told) > 3, name


def test_every_finished_run_is_a_point_of_one_curve(edge: SimpleNamespace) -> None:
    assert sorted(run_id for ids in edge.sweep["run_ids"] for run_id in ids) == sorted(edge.runs.table.index)
    assert not edge.sweep.duplicated([*tables.group_axes(edge.sweep), "rate"]).any()


def test_no_measured_rate_of_a_group_has_a_lower_validation_loss_than_its_best(edge: SimpleNamespace) -> None:
    groups = edge.sweep.groupby(tables.group_axes(edge.sweep), sort=False)
    assert len(edge.best) == groups.ngroups
    for (_, group), row in zip(groups, edge.best.to_dict("records"), strict=True):
        finite = group["loss"][np.isfinite(group["loss"])]
        assert group["chosen"].sum() == (len(finite) > 0) == (not np.isnan(row["rate"]))
        if len(finite):
            assert row["loss"] == finite.min() and row["rate"] == group.loc[group["chosen"], "rate"].item()
            low, high = tables.span(row)
            assert low < row["rate"] < high


def test_a_ratio_lies_within_what_it_may_be(edge: SimpleNamespace) -> None:
    assert (edge.ratios["low"] < edge.ratios["ratio"]).all() and (edge.ratios["ratio"] < edge.ratios["high"]).all()
    assert "full" not in set(edge.ratios["strategy"])


def test_each_strategy_has_one_comparison_at_its_own_best_rate(edge: SimpleNamespace) -> None:
    counts = edge.differences.groupby(["strategy", "train_size", "rates"]).size() if len(edge.differences) else []
    assert all(count == 1 for count in counts)
    assert edge.runs.study.baseline not in set(edge.differences["strategy"])


@pytest.mark.filterwarnings("error")
def test_the_curves_are_drawn_for_whatever_runs_there_are(edge: SimpleNamespace) -> None:
    for column in ("loss", "accuracy"):
        parts = [part for _, part in edge.sweep.groupby("strategy", sort=False)]
        figure, axes = rates_plots.panels(len(parts))
        for part, axis in zip(parts, axes, strict=True):
            assert rates_plots.rate_curves(part, axis, column) is axis
        figure.canvas.draw()
    figure, axis = plots.figure(plots.FULL, 0.7 + 0.28 * len(edge.differences))
    plots.differences(edge.differences, 1.0, axis)


# --- One by one -------------------------------------------------------------------------------------------------------


def test_the_rate_is_chosen_on_validation_whatever_the_test_set_says() -> None:
    best = [everything(swept(accuracy={"": share})).best["rate"].tolist() for share in (0.9, 0.5)]
    worst = everything(swept(accuracy={"": 0.9, "full-n01000-s42-learning_rate0.0001": 0.1})).best["rate"].tolist()
    assert best[0] == best[1] == worst == [1e-4, 1e-3, 1e-3]


def test_a_rate_at_which_one_seed_diverged_is_not_chosen() -> None:
    grids = [{"strategy": ["full", "lora"], "seed": [1, 2], "learning_rate": [1e-4, 1e-3]}]
    told = everything(swept({"": 0.5, "0.001": 0.1, "s2-learning_rate0.001": NAN}, grids))
    assert told.best["rate"].tolist() == [1e-4, 1e-4]
    assert "At 2 of them the loss is not finite" in told.sentences["points"]


def test_losses_are_means_over_seeds() -> None:
    grids = [{"strategy": ["full"], "seed": [1, 2], "learning_rate": [1e-4, 1e-3]}]
    table = tables.sweep(swept({"": 0.5, "s2": 0.3}, grids))
    assert table["loss"].tolist() == pytest.approx([0.4, 0.4])
    assert table["chosen"].tolist() == [True, False], "of equal losses the lowest rate"


def test_the_rate_in_force_is_the_one_asked_for_or_the_strategys_own() -> None:
    runs = swept({"": 0.5}, [{"strategy": ["full", "lora"], "learning_rate": [None, 1e-3]}])
    assert tables.sweep(runs)["rate"].tolist() == [
        STRATEGIES["full"].learning_rate, 1e-3, STRATEGIES["lora"].learning_rate, 1e-3
    ]  # fmt: skip
    recorded = runs.table.assign(**{"training.learning_rate": 7e-4})
    assert tables.sweep(Runs(runs.study, recorded, {}))["rate"].tolist() == [7e-4, 1e-3, 7e-4, 1e-3]


def test_a_best_rate_inside_its_grid_is_settled_and_its_neighbours_are_shown() -> None:
    told = everything(swept())
    assert told.sentences["settled"] == (
        "Every best rate lies inside its grid: no neighbour's validation loss is lower."
    )
    assert told.printed["best"].iloc[2].tolist() == [8, "1e-3", "0.340", "0.500", "diverged", ""]
    assert told.sentences["best"] == (
        "The rates of lowest validation loss at 1,000 labels: Full fine-tuning at **1e-4**; "
        "LoRA (query, value), lora_r 8 at **1e-3**."
    )


def test_a_best_rate_at_the_edge_of_its_grid_says_where_to_extend_it() -> None:
    told = made("best at the edges")
    assert "**The others are not settled:**" in told.sentences["settled"]
    assert "- best at the lowest rate: extend downwards (Full fine-tuning at 1,000; LoRA" in told.sentences["settled"]
    high = everything(swept({"": 0.5, "full-n01000-s42-learning_rate0.001": 0.1}))
    assert "- best at the highest rate: extend upwards (Full fine-tuning at 1,000)" in high.sentences["settled"]
    assert "Full fine-tuning at **1e-3**, the highest tried" in high.sentences["best"]


def test_one_rate_is_no_choice() -> None:
    told = made("one rate")
    assert "0 of 3 best rates lie inside" in told.sentences["settled"] and "there was no choice" in str(told.sentences)
    assert told.ratios.empty and set(told.printed["defaults"]["the default is"]) == {"–"}
    assert "has a neighbour in its grid" in told.sentences["price"]


def test_without_validation_no_rate_is_chosen_and_it_says_why() -> None:
    told = made("no validation")
    assert told.sentences["best"] == (
        "There is no answer yet: no strategy has a rate that validation could choose (no validation on record)."
    )
    assert "9 of them have **no validation on record**" in told.sentences["points"]
    assert told.differences.empty and told.ratios.empty and "yet" in told.sentences["compared"]


def test_where_every_rate_diverged_none_is_chosen() -> None:
    told = made("all diverged")
    assert "(the loss is not finite at any)" in told.sentences["best"]
    half = made("LoRA diverged").sentences["best"]
    assert "LoRA (query, value) has no rate: the loss is not finite at any" in half


def test_ten_is_possible_where_the_grid_allows_it_and_not_beyond() -> None:
    told = everything(swept())
    assert told.ratios["ratio"].tolist() == pytest.approx([10, 10])
    assert told.printed["ratios"]["may be"].tolist() == ["0.1 to 1e+03"] * 2
    assert "2 of 2 ratios may be 10." in told.sentences["tenfold"]
    same = [{"strategy": ["full", "lora"], "learning_rate": [8e-4, 1e-3, 1.2e-3]}]
    near = everything(swept({"": 0.5, "learning_rate0.001": 0.3}, same)).sentences["tenfold"]
    assert near.endswith("0 of 1 ratios may be 10, not so LoRA (query, value) at 1,000 (0.667 to 1.5).")
    assert "cannot be told" in made("only runs of the baseline").sentences["tenfold"]


def test_ranks_whose_best_rates_are_a_step_apart_count_as_alike_and_further_ones_do_not() -> None:
    grids = [GRIDS[0], GRIDS[1] | {"learning_rate": [1e-4, 1e-3, 1e-2]}]
    shift = {"": 0.5, "0.001-lora_r2": 0.3}
    near = everything(swept(shift | {"0.01-lora_r8": 0.3}, grids)).sentences["rank"]
    far = everything(swept({"": 0.5, "0.0001-lora_r2": 0.3, "0.01-lora_r8": 0.3}, grids)).sentences["rank"]
    assert "1e-3 at rank 2 and 1e-2 at rank 8, within one step of the grid." in near
    assert "1e-4 at rank 2 and 1e-2 at rank 8, **more than one step apart**." in far
    assert "needs rates chosen at two ranks" in made("one rank").sentences["rank"]


def test_a_ranking_that_a_common_rate_would_turn_is_told() -> None:
    told = everything(swept())
    rows = told.differences.set_index("rates")
    assert rows["learning_rate"].to_dict() == {tables.OWN: "1e-3", tables.SAME: "1e-4"}
    assert rows.loc[tables.OWN, "difference"] == pytest.approx(0) and rows.loc[tables.SAME, "verdict"] == "worse"
    assert rows["lora_r"].tolist() == [8, 8], "the rate alone is another"
    worse = everything(swept(accuracy={"": 0.9, "lora-n01000-s42-learning_rate0.0001": 0.6}))
    assert (
        "1 of 1 verdicts would be others: LoRA (query, value) at 1,000 **worse** (−30.0 points at 1e-4)"
        in (worse.sentences["flipped"])
    )
    assert everything(swept({"": 0.5, "0.0001": 0.3})).sentences["flipped"].endswith("no verdict would be another.")


def test_all_comparisons_of_the_table_are_one_family() -> None:
    table = everything(swept(accuracy={"": 0.9, "lora": 0.85})).differences
    assert len(table) == 2 and table["corrected_p"].max() == pytest.approx(min(1, 2 * table["p_value"].min()))


def test_a_default_off_the_best_rate_is_named() -> None:
    told = everything(swept({"": 0.5, "full-n01000-s42-learning_rate1e_05": 0.2, "lora": 0.6, "lora_r8": 0.5}))
    assert told.printed["defaults"]["the default is"].tolist() == ["within a step", "too high"]
    own = tables.rate_text(STRATEGIES["lora"].learning_rate)
    assert f"LoRA (query, value) at 1,000 ({own} is too high, best here 1e-4)" in told.sentences["defaults"]


def test_a_default_beyond_a_best_rate_at_the_edge_is_outside_the_grid() -> None:
    told = everything(swept({"": 0.5, "full-n01000-s42-learning_rate1e_05": 0.2, "0.0001-lora_r": 0.1}, [
        GRIDS[0], GRIDS[1] | {"learning_rate": [1e-5, 1e-4]},
    ]))  # fmt: skip
    assert told.printed["defaults"]["the default is"].tolist() == ["within a step", "outside the grid"]
    assert told.printed["ratios"]["may be"].tolist() == ["at least 0.1"] * 2


def test_a_loss_too_high_to_draw_is_a_mark_at_the_upper_edge() -> None:
    table = tables.sweep(swept({"": 0.5, "0.001": 40.0, "0.01": NAN})).query("strategy == 'lora'")
    _, axis = plots.figure()
    rates_plots.rate_curves(table, axis)
    heights = np.concatenate([dots.get_offsets()[:, 1] for dots in axis.collections])
    assert (heights == rates_plots.CEILING).sum() == 4 and axis.get_ylim()[1] >= rates_plots.CEILING


@pytest.mark.parametrize(("rate", "text"), [(3e-4, "3e-4"), (0.02, "2e-2"), (1.5e-5, "1.5e-5"), (1, "1e0"), (NAN, "–")])
def test_a_rate_is_written_as_its_users_write_it(rate: float, text: str) -> None:
    assert tables.rate_text(rate) == text


# --- The notebook -----------------------------------------------------------------------------------------------------


def test_a_sweep_is_told_by_04_and_its_answer_and_figures_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error::RuntimeWarning")
    runs = swept(without="full-n01000-s42-learning_rate1e_05")
    assert batch.comparison_notebook(runs.study).name == batch.RATES
    batch.compare(runs.study.name)
    executed = nbformat.read(paths.study_folder(runs.study.name) / "compare.ipynb", as_version=4)
    told = str([cell.get("outputs") for cell in executed.cells])
    assert "8 of 9 planned runs are compared" in told and "ratios may be 10" in told
    assert not re.search(r"'(stderr|error)'|\b(nan|NaN|inf)\b", told)
    folder = paths.report_folder(runs.study.name)
    assert (folder / "answer.md").read_text(encoding="utf-8").startswith("The rates of lowest validation loss")
    assert {path.stem for path in (folder / "figures").glob("*.svg")} == {
        "fig-loss", "fig-accuracy", "fig-differences",
    }  # fmt: skip


def test_a_study_without_a_sweep_is_told_by_03_and_04_refuses_it(tmp_path: Any) -> None:
    study = make_runs().study
    assert batch.comparison_notebook(study).name == batch.COMPARE
    with pytest.raises(StudyError, match=r"^the study 'made' has no axis learning_rate.*03_compare_variants\.ipynb"):
        batch.execute(paths.NOTEBOOKS / batch.RATES, tmp_path / "compare.ipynb", {"study": study.name})
