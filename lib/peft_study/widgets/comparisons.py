"""Finished runs by choice: those of any study in a figure, two of them side by side, quality against cost.

The tables, tests and figures are those of the report; only what they are of is chosen here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import pandas as pd

from peft_study import paths
from peft_study.analysis.accuracy import disagreements, grouped, has_ood, largest_pair, summary, varying
from peft_study.analysis.costs import COSTS, measured
from peft_study.errors import StudyError
from peft_study.records.read import Runs, load_runs, require_runs
from peft_study.report import figures, tables
from peft_study.statistics.intervals import Interval
from peft_study.statistics.paired_tests import compare, verdict
from peft_study.strategies.table import STRATEGIES
from peft_study.text import p_text, points
from peft_study.widgets import controls, markup
from peft_study.widgets.controls import Shown
from peft_study.widgets.reviews import matching

QUALITIES = {  # in words: the metric and the part of `summary`, the column of a run's own score
    "test accuracy": ("accuracy", "", "test.accuracy"),
    "macro F1": ("macro_f1", "", "test.macro_f1"),
    "accuracy on other reviews": ("accuracy", "ood_", "ood.accuracy"),
}


@controls.where_live
def browse_runs(study: str) -> None:
    """03: a study to pick, and of its runs the strategies, sizes, seeds and metric that a figure and a table show."""

    def render(study: str) -> Shown:
        yield markup.line("Reading the records …")
        runs = load_runs(study)
        require_runs(runs)
        box, update = of_one_study(runs)
        yield box
        update()

    controls.show(render, study=controls.choice("study", paths.studies(), study))


def of_one_study(runs: Runs) -> tuple[Any, Callable[..., None]]:
    """The runs of one study by strategy, size and seed."""
    name = runs.study.name

    def render(metric: str, **accepted: Any) -> Shown:
        chosen = replace(runs, table=matching(runs.table, **accepted))
        if chosen.table.empty:
            raise StudyError("no finished run has all that is picked; pick more")
        yield markup.line("Computing intervals …")
        statistic, part, column = QUALITIES[metric]
        table = summary(chosen, statistic, part).rename(columns={statistic: "accuracy"})
        dots = chosen.table.assign(**{"test.accuracy": chosen.table[column].astype(float)})  # each run's own score
        figure, axis = figures.accuracy(table, dots)
        (axis.set_ylabel if table["train_size"].nunique() > 1 else axis.set_xlabel)(f"{metric} (%)")
        count = "1 run" if len(chosen.table) == 1 else f"{len(chosen.table):,} runs"
        caption = f"{metric[0].upper()}{metric[1:]} of {count} of the study {name}, with 95% intervals."
        intervals = [str(Interval(*row).scaled(100)) for row in table[["accuracy", "low", "high"]].to_numpy()]
        listed = tables.named(table[varying(chosen)].assign(**{f"{metric} (%)": intervals, "seeds": table["seeds"]}))
        yield figure, markup.line(caption), listed

    sizes, seeds = (sorted(set(runs.table[axis].tolist())) for axis in ("train_size", "seed"))
    return controls.panel(
        render,
        strategy=controls.several("strategies", [(STRATEGIES[n].label, n) for n in runs.table["strategy"].unique()]),
        train_size=controls.several("sizes", [(f"{size:,}", size) for size in sizes]),
        seed=controls.several("seeds", [(str(seed), seed) for seed in seeds]),
        metric=controls.choice("metric", qualities(runs)),
    )


def qualities(runs: Runs) -> list[str]:
    """The measures of quality that every run has."""
    return [name for name, (_, part, _) in QUALITIES.items() if not part or has_ood(runs)]


@controls.where_live
def compare_two(runs: Runs, texts: Mapping[int, str]) -> None:
    """03: any two runs side by side, and the reviews that only one of them got right.

    `texts` maps a test review's id to its text; empty where the reviews are not at hand.
    """
    first, second = largest_pair(runs) or (runs.table.index[0], runs.table.index[-1])

    def render(first: str, second: str, right: str, words: str, place: int) -> Shown:
        if first == second:
            raise StudyError(f"{first} is picked twice; pick two runs")
        pair = [markup.line(tested(runs, first, second)), crosstab(runs, first, second)]
        winner, loser = (first, second) if right == "the first" else (second, first)
        table = disagreements(runs, winner, loser)
        if not set(table["id"]) <= set(texts):
            yield *pair, markup.line("The reviews themselves are not on this machine.")
            return
        matches = matching(table.assign(text=table["id"].map(texts)), words)
        if matches.empty:
            yield *pair, markup.line(f"No such review is right in {winner} and wrong in {loser}.")
            return
        row, count = controls.at_place(matches, place)
        heading = [runs.class_names[row["label"]], f"review {count} that only {winner} got right"]
        chances = {winner: row["right"], loser: row["wrong"]}
        heading += [f"{run}: {chance:.0%} for the true class" for run, chance in chances.items() if pd.notna(chance)]
        yield *pair, markup.review(heading, row["label"], escape(row["text"]))

    ids = list(runs.table.index)
    controls.show(
        render,
        first=controls.choice("first run", ids, first),
        second=controls.choice("second run", ids, second),
        right=controls.choice("only right is", ["the first", "the second"]),
        words=controls.search(),
        place=controls.place("review", len(runs.labels)),
    )


def crosstab(runs: Runs, first: str, second: str) -> pd.DataFrame:
    """How many test reviews both runs, only one of them, and neither got right."""
    right = {run: (runs.preds[run] == runs.labels).map({True: "right", False: "wrong"}) for run in (first, second)}
    return pd.crosstab(right[first], right[second])


def tested(runs: Runs, first: str, second: str) -> str:
    """The paired comparison of two runs in a sentence; a single comparison needs no correction."""
    comparison = compare(runs.preds[first].to_numpy(), runs.preds[second].to_numpy(), runs.labels)
    difference, margin = comparison.difference, runs.study.margin
    return (
        f"{first} minus {second}: {points(difference.estimate)} [{points(difference.low)}, {points(difference.high)}] "
        f"points of accuracy; McNemar's test, uncorrected for several pairs: {p_text(comparison.p_value)}. "
        f"Verdict, with a margin of ±{margin:g} points: {verdict(comparison, comparison.p_value, margin)}."
    )


@controls.where_live
def pick_trade_off(runs: Runs, costs: pd.DataFrame) -> None:
    """03: the Pareto front of any measure of quality against any cost; `costs` is `analysis.costs.costs(runs)`."""
    sizes = sorted(set(costs["train_size"].tolist()))

    def render(cost: str, metric: str, size: Sequence[int]) -> Shown:
        means = grouped(runs)[QUALITIES[metric][2]].agg(lambda scores: scores.astype(float).mean())
        table = costs.assign(accuracy=means.to_numpy())  # the rows of `costs` are the same groups of runs
        figure = figures.trade_offs(table[table["train_size"].isin(size)], [cost])
        if figure is None:
            raise StudyError("no run of this size has this cost on record; pick another")
        figure.axes[0].set_ylabel(f"{metric} (%)")
        caption = f"{metric[0].upper()}{metric[1:]} against {COSTS[cost].words}; lines are the Pareto fronts of a size."
        yield figure, markup.line(caption)

    controls.show(
        render,
        cost=controls.choice("cost", [(COSTS[name].words, name) for name in measured(costs)]),
        metric=controls.choice("quality", qualities(runs)),
        size=controls.choice("size", [("all", sizes), *((f"{size:,}", [size]) for size in sizes)]),
    )
