"""Comparisons of selected runs: of any study in a figure, two runs side by side, quality against cost.

Tables, tests and figures are those of the report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from peft_study import paths
from peft_study.analysis.accuracy import disagreements, family, has_ood, largest_pair, summary, varying
from peft_study.analysis.costs import COSTS, measured
from peft_study.errors import StudyError
from peft_study.records.read import Runs, load_runs, require_runs, with_scratch
from peft_study.report import figures, tables
from peft_study.report.display import card
from peft_study.report.sentences import headed
from peft_study.statistics.paired_tests import compare
from peft_study.statistics.scores import METRICS
from peft_study.text import UNKNOWN
from peft_study.widgets import controls, markup
from peft_study.widgets.controls import Shown
from peft_study.widgets.reviews import matching


@controls.where_live
def browse_runs(study: str) -> None:
    """03: select a study, strategies, sizes, seeds and runs of notebook 02; a figure and a table show their scores."""

    def render(study: str) -> Shown:
        yield markup.line("Reading the records …")
        require_runs(runs := load_runs(study))
        merged, left_out = with_scratch(runs)
        box, update = of_one_study(merged)
        reasons = "; ".join(f"{run} ({reason})" for run, reason in left_out.items())
        yield box, *([markup.line(f"Left out: {reasons}.")] if left_out else [])
        update()

    controls.show(render, study=controls.choice("study", paths.studies(), study))


def of_one_study(runs: Runs) -> tuple[Any, Callable[..., None]]:
    """The panel of a study's runs, and the function that fills it."""

    def render(**accepted: Any) -> Shown:
        chosen = replace(runs, table=matching(runs.table, **accepted))
        if chosen.table.empty:
            raise StudyError("no finished run matches the selection; select more")
        yield markup.line("Computing intervals …")
        scores = summary(chosen)
        ood = summary(chosen, part="ood_") if has_ood(chosen) else None
        table = tables.results(scores, ood=ood)
        yield markup.line(f"Runs: {len(chosen.table):,}"), figures.scores(scores, chosen.table)[0], table

    axes = {"strategy": "strategies", "train_size": "sizes", "seed": "seeds"}
    values = {axis: runs.table[axis].unique().tolist() for axis in axes}
    values |= {axis: sorted(values[axis]) for axis in ("train_size", "seed")}
    lists = {axis: controls.several(name, values[axis]) for axis, name in axes.items()}
    if "run" in runs.table:
        names = {UNKNOWN: f"runs of {runs.study.name}"}
        lists["run"] = controls.several("runs", [(names.get(run, run), run) for run in runs.table["run"].unique()])
    return controls.panel(render, **lists)


@controls.where_live
def compare_two(runs: Runs, texts: Mapping[int, str]) -> None:
    """03: two selected runs of the study or of notebook 02, and the texts that only the first classifies correctly.

    `texts` maps a test text's id to the text; empty if the texts are unavailable.
    """
    pair = largest_pair(runs)
    runs, _ = with_scratch(runs)
    first, second = pair or (runs.table.index[0], runs.table.index[-1])

    def render(first: str, second: str, words: str, place: controls.Place) -> Shown:
        if first == second:
            raise StudyError(f"{first} is selected twice; select two different runs")
        pair = [markup.line(f"{first} minus {second}, the paired test:"), compared(runs, first, second)]
        table = disagreements(runs, first, second)
        table = table[table["id"].isin(list(texts))]
        matches = matching(table.assign(text=table["id"].map(texts).astype(str)), words)
        if matches.empty:
            yield *pair, markup.line(f"No available text is correct in {first} and incorrect in {second}.")
            return
        row, count = controls.at_place(matches, place)
        heading = [runs.class_names[row["label"]], f"text {count}, correct in {first} alone"]
        chances = {first: row["right"], second: row["wrong"]}
        heading += [f"{run}: {chance:.0%} for the true class" for run, chance in chances.items() if pd.notna(chance)]
        body = markup.marked(row["text"], search=words)
        yield *pair, card(heading, body, row["label"])

    controls.show(
        render,
        first=controls.choice("first run", runs.table.index, first),
        second=controls.choice("second run", runs.table.index, second),
        words=controls.search(),
        place=controls.Place(description="text", value=1, min=1),
    )


def compared(runs: Runs, first: str, second: str) -> pd.DataFrame:
    """The paired comparison of two runs, as the report prints it; a single comparison needs no correction."""
    comparison = compare(runs.scored(first), runs.scored(second))
    row = {axis: value for axis, value in runs.table.loc[first, varying(runs)].items() if value != UNKNOWN}
    return tables.differences(family([row], [comparison], runs.study.margin)).drop(columns="adjusted p")


@controls.where_live
def pick_trade_off(runs: Runs, costs: pd.DataFrame) -> None:
    """03: the Pareto fronts of any measure of quality against any cost; `costs` is `analysis.costs.costs(runs)`."""
    scores = cache(lambda part: summary(runs, part=part))  # their rows are the groups of runs of `costs`
    sizes, metric = sorted(set(costs["train_size"].tolist())), runs.study.metric
    names = dict.fromkeys([metric, "accuracy", "macro_f1"])
    qualities = {f"test {METRICS[name].noun}": ("", name) for name in names}
    qualities |= {f"out-of-domain {runs.study.noun}": ("ood_", metric)} if has_ood(runs) else {}

    def render(cost: str, quality: str, size: Sequence[int]) -> Shown:
        yield markup.line("Computing intervals …")
        part, name = qualities[quality]
        columns, note = [name, "low", "high"], "bars: 95% intervals over test texts and seeds"
        if name != metric:
            columns, note = [name], "without intervals"
        table = costs.drop(columns=metric).assign(**scores(part)[columns])
        figure = figures.trade_offs(table[table["train_size"].isin(size)], cost)
        if figure is None:
            raise StudyError("no run has a positive value of this cost; select another")
        figure.axes[0].set_ylabel(f"{quality} (%)")
        yield markup.line(f"{headed(quality)} against {COSTS[cost].words}; {note}"), figure

    controls.show(
        render,
        cost=controls.choice("cost", [(COSTS[name].words, name) for name in measured(costs)]),
        quality=controls.choice("quality", qualities),
        size=controls.choice("size", [("all", sizes), *((f"{size:,}", [size]) for size in sizes)]),
    )
