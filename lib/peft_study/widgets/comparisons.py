"""Finished runs by choice: those of any study in a figure, two of them side by side, quality against cost.

The tables, tests and figures are those of the report; only what they are of is chosen here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.analysis import costs as ledger_tables
from peft_study.analysis.accuracy import METRICS, disagreements, largest_pair, summary, title
from peft_study.data import browsing
from peft_study.records import read as results
from peft_study.records.read import Runs
from peft_study.report import figures as plots
from peft_study.report.tables import has_ood
from peft_study.statistics.paired_tests import compare, verdict
from peft_study.strategies.table import STRATEGIES
from peft_study.text import p_text, points
from peft_study.widgets import markup
from peft_study.widgets.panel import ANY, Chooser, Panel, dropdown, place, search, several

QUALITIES = {  # in words: the metric and the part of `summary`
    "test accuracy": ("accuracy", ""),
    "macro F1": ("macro_f1", ""),
    "accuracy on other reviews": ("accuracy", "ood_"),
}


def run_browser(study: str) -> Chooser:
    """A study to pick, and of its runs the strategies, sizes, seeds and metric that a figure and a table then show."""

    def make(name: str) -> Panel:
        runs = results.load_runs(name)
        results.require_runs(runs)
        return _browser(runs)

    return Chooser(dropdown("study", paths.studies(), study), make)


def _browser(runs: Runs) -> Panel:
    """The runs of one study."""

    def render(strategies: Sequence[str], sizes: Sequence[int], seeds: Sequence[int], metric: str) -> Iterator[str]:
        chosen = picked(runs, strategies, sizes, seeds)
        if chosen.table.empty:
            yield markup.line("No finished run has all that is picked; pick more.")
            return
        found = []
        for done, strategy in enumerate(strategies):
            yield markup.line(f"Computing intervals: strategy {done + 1:,} of {len(strategies):,} …")
            if len(part := picked(chosen, [strategy], sizes, seeds).table):
                found.append(quality(replace(chosen, table=part), metric))
        table = pd.concat(found, ignore_index=True)
        figure, axis = plots.accuracy(table, _dots(chosen, metric))
        (axis.set_ylabel if table["train_size"].nunique() > 1 else axis.set_xlabel)(f"{metric} (%)")
        count = "1 run" if len(chosen.table) == 1 else f"{len(chosen.table):,} runs"
        alt = f"{metric[0].upper()}{metric[1:]} of {count} of the study {runs.study.name}, with 95% intervals."
        yield markup.picture(figure, alt) + markup.line(alt) + markup.table(_printed(table, metric), index=False)

    return Panel(
        render,
        strategies=several("strategies", [(STRATEGIES[n].label, n) for n in runs.table["strategy"].unique()]),
        sizes=several("sizes", [(f"{size:,}", size) for size in sorted(set(runs.table["train_size"].tolist()))]),
        seeds=several("seeds", sorted(set(runs.table["seed"].tolist()))),
        metric=dropdown("metric", qualities(runs)),
    )


def picked(runs: Runs, strategies: Sequence[str], sizes: Sequence[int], seeds: Sequence[int]) -> Runs:
    """Those of the runs that have one of the strategies, of the sizes, and of the seeds."""
    wanted = {"strategy": strategies, "train_size": sizes, "seed": seeds}
    fits = np.logical_and.reduce([runs.table[axis].isin(values) for axis, values in wanted.items()])
    return replace(runs, table=runs.table[fits])


def qualities(runs: Runs) -> list[str]:
    """The measures of quality that every run has."""
    return [name for name, (_, part) in QUALITIES.items() if not part or has_ood(runs)]


def quality(runs: Runs, name: str) -> pd.DataFrame:
    """The table `summary` of a measure of quality; whatever it is, its column is called `accuracy`."""
    metric, part = QUALITIES[name]
    return summary(runs, metric, part).rename(columns={metric: "accuracy"})


def _dots(runs: Runs, name: str) -> pd.DataFrame:
    """The runs with the measure, for the dots of a figure, in the column that it draws."""
    metric, part = QUALITIES[name]
    arrays = {run_id: runs.arrays(run_id, part) for run_id in runs.table.index}
    one = {run_id: np.ones((1, len(found["labels"]))) for run_id, found in arrays.items()}
    scores = [METRICS[metric](found["preds"][None], found["labels"], one[run])[0, 0] for run, found in arrays.items()]
    return runs.table.assign(**{"test.accuracy": scores})


def _printed(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The measure with its interval, for reading."""
    told = [
        f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        for row in table.to_dict("records")
    ]
    names = [title(row) for row in table.to_dict("records")]
    sizes = table["train_size"].map("{:,}".format)
    return pd.DataFrame({"strategy": names, "labelled reviews": sizes, f"{metric} (%)": told, "seeds": table["seeds"]})


def two_runs(runs: Runs, texts: Mapping[int, str]) -> Panel:
    """Any two runs: how often each is right, whether the difference counts, and the reviews that part them."""
    first, second = largest_pair(runs) or (list(runs.table.index) * 2)[:2]

    def render(one: str, other: str, right: str, words: str, place: int) -> Iterator[str]:
        if one == other:
            yield markup.line("These are the same run; pick another one.")
            return
        yield markup.line("Comparing the two runs …")
        pair = markup.line(_verdict(runs, one, other)) + markup.table(crosstab(runs, one, other))
        winner, loser = (one, other) if right == "the first" else (other, one)
        table = disagreements(runs, winner, loser)
        if not set(table["id"]) <= set(texts):
            yield pair + markup.line("The reviews themselves are not on this machine.")
            return
        table = browsing.search(table.assign(text=[texts[i] for i in table["id"]]), words=words)
        yield pair + _disagreement(table, winner, loser, place, runs.class_names)

    return Panel(
        render,
        one=dropdown("first run", runs.table.index, first),
        other=dropdown("second run", runs.table.index, second),
        right=dropdown("only right is", ["the first", "the second"]),
        words=search(),
        place=place("review", len(runs.labels)),
    )


def crosstab(runs: Runs, one: str, other: str) -> pd.DataFrame:
    """How many test reviews both runs, only one of them, and neither got right."""
    right, also = (runs.preds[run].to_numpy() == runs.labels for run in (one, other))
    counts = [[(right & also).sum(), (right & ~also).sum()], [(~right & also).sum(), (~right & ~also).sum()]]
    rows, columns = ([f"{run} right", f"{run} wrong"] for run in (one, other))
    return pd.DataFrame(counts, rows, columns).map("{:,}".format)


def _verdict(runs: Runs, one: str, other: str) -> str:
    """The paired comparison of two runs in a sentence; a single comparison needs no correction."""
    found = compare(runs.preds[one].to_numpy(), runs.preds[other].to_numpy(), runs.labels)
    difference, margin = found.difference, runs.study.margin
    return (
        f"{one} minus {other}: {points(difference.estimate)} [{points(difference.low)}, {points(difference.high)}] "
        f"points of accuracy; McNemar's test, not corrected for looking at several pairs: {p_text(found.p_value)}. "
        f"Verdict, with a margin of ±{margin:g} points: {verdict(found, found.p_value, margin)}."
    )


def _disagreement(table: pd.DataFrame, winner: str, loser: str, place: int, names: Sequence[str]) -> str:
    """The review at a place among those that only `winner` got right."""
    if table.empty:
        return markup.line(f"No such review is right in {winner} and wrong in {loser}.")
    at = min(place, len(table))
    row = table.iloc[at - 1]
    sure = [
        f"{run}: {row[side]:.0%} for the true class"
        for run, side in ((winner, "right"), (loser, "wrong"))
        if pd.notna(row[side])
    ]
    heading = [f"review {at:,} of {len(table):,} that only {winner} got right", *sure]
    return markup.review([names[row["label"]], *heading], row["label"], escape(row["text"]))


def trade_off(runs: Runs, costs: pd.DataFrame) -> Panel:
    """The Pareto front of a measure of quality against a cost, at one size or at all."""
    sizes = sorted(set(costs["train_size"].tolist()))

    def render(cost: str, metric: str, size: int | None) -> Iterator[str]:
        yield markup.line("Drawing …")
        table = costs.assign(accuracy=quality(runs, metric)["accuracy"])  # the rows are the same groups of runs
        table = table if size is None else table[table["train_size"] == size]
        if not (table[cost] > 0).any():
            yield markup.line("No run of this size has this cost on record.")
            return
        strategies = list(table["strategy"].unique())
        figure, axis = plots.figure(plots.FULL, plots.above_legend(3.2, strategies))
        plots.trade_off(table, cost, axis).set_ylabel(f"{metric} (%)")
        plots.strategy_legend(strategies, axis)
        words = ledger_tables.COSTS[cost].words
        alt = f"{metric[0].upper()}{metric[1:]} against {words}; a line is the Pareto front of one size."
        yield markup.picture(figure, alt) + markup.line(alt)

    return Panel(
        render,
        cost=dropdown("cost", [(ledger_tables.COSTS[name].words, name) for name in ledger_tables.measured(costs)]),
        metric=dropdown("quality", qualities(runs)),
        size=dropdown("size", [("all", ANY), *((f"{size:,}", size) for size in sizes)]),
    )
