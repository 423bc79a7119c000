"""From finished runs to tables: scores, differences between strategies with their verdicts, disagreements.

Differences and intervals are in the study's metric, which names its column: `accuracy`, `macro_f1`, ... Runs that
differ by their seed only are one row of a table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.tfidf import Baseline
from peft_study.records.read import Runs
from peft_study.statistics.calibration import chance_of
from peft_study.statistics.intervals import NONE, SeedVariance, interval, seed_variance
from peft_study.statistics.paired_tests import Comparison, compare, detectable, settling, verdict
from peft_study.statistics.scores import METRICS, Scored
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant

IDLE = "–"  # the value of an axis that a run's strategy ignores
FEW = 5  # strategies that one figure or sentence can tell apart
ALPHA = 0.05
MEASURES = (  # the columns of a family of comparisons, after those that say what is compared
    "difference",  # points of the metric
    "low",  # its simultaneous interval
    "high",
    "p_value",
    "adjusted_p",  # for the number of planned comparisons of the family
    "only_strategy",  # texts that the strategy got right more often
    "only_baseline",
    "verdict",
    "detectable",  # the smallest difference in points that this design finds with 80 % power
    "seeds",  # of the side that has fewer
    "settle_seeds",  # a side, and test texts, that would settle an undetermined comparison; NaN of others
    "settle_items",
)


# --- Rows of a table: strategy, size and any further axis of the study ------------------------------------------------


def varying(runs: Runs) -> list[str]:
    """The columns that distinguish groups of runs: the axes of the matrix without the seed, strategy and size first.

    If runs of notebook 02 are included, a column `run` keeps each of them a group by itself.
    """
    return ["strategy", "train_size", *further(runs.study.axes), *({"run"} & {*runs.table})]


def further(columns: Iterable[Any]) -> list[str]:
    """The columns of a table (or the axes of a matrix) that are axes beyond strategy, size and seed."""
    fields = {*Variant.model_fields, "run"} - {"strategy", "train_size", "seed"}
    return [str(column) for column in columns if column in fields]


def title(row: Mapping[Any, Any]) -> str:
    """The label of a row's strategy, with its value on every further axis: `LoRA (query, value), lora_r 4`.

    That of a run that is no part of the study is the run's name.
    """
    if row.get("run", IDLE) != IDLE:
        return str(row["run"])
    values = ((axis, row[axis]) for axis in further(row) if row[axis] != IDLE)
    return ", ".join(
        [STRATEGIES[row["strategy"]].label]
        + [f"{axis} {value:g}" if isinstance(value, float) else f"{axis} {value}" for axis, value in values]
    )


def keys(runs: Runs) -> pd.DataFrame:
    """`varying` of every run, as values that can be grouped and printed.

    Lists and mappings are text, None is "default", and `IDLE` stands where the run's strategy ignores the axis.
    """
    keys = runs.table[varying(runs)].astype(object).map(_key).astype(object)  # a map of numbers is numeric again
    for axis in further(keys):
        keys.loc[[not STRATEGIES[name].heeds(axis) for name in keys["strategy"]], axis] = IDLE
    return keys


def _key(value: Any) -> Any:
    if isinstance(value, list):
        return "+".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {setting}" for name, setting in value.items()) or "default"
    return "default" if pd.isna(value) else value


def groups(runs: Runs) -> pd.DataFrame:
    """A row per strategy, size (and further axis): the columns of `varying` and `run_ids`."""
    table = keys(runs).assign(run_ids=runs.table.index)
    return table.groupby(varying(runs), sort=False)["run_ids"].agg(list).reset_index().infer_objects()


def _planned_groups(runs: Runs) -> pd.DataFrame:
    """`groups` of all runs of the study, of finished and missing ones."""
    variants = {run_id: variant.model_dump() for run_id, variant in runs.study.variants.items()}
    return groups(replace(runs, table=pd.DataFrame.from_dict(variants, orient="index")))


def counterpart(row: Mapping[Any, Any], table: pd.DataFrame, strategy: str) -> Any:
    """The row (a Series) of `table` for `strategy` at the size and on the further axes of `row`; None if there is none.

    An axis that `strategy` ignores is the same whatever the other's value.
    """
    others = table[(table["strategy"] == strategy) & (table["train_size"] == row["train_size"])]
    for axis in further(table):
        others = others[others[axis].isin([row[axis], IDLE])]
    return None if others.empty else others.iloc[0]


def pairs(table: pd.DataFrame, strategy: str) -> Iterator[tuple[dict[Any, Any], Any]]:
    """Each row of `table` of another strategy and its `counterpart` for `strategy`, where there is one."""
    for row in table[table["strategy"] != strategy].to_dict("records"):
        if (other := counterpart(row, table, strategy)) is not None:
            yield row, other


def by_seed(row: Mapping[Any, Any], runs: Runs, column: str) -> pd.DataFrame:
    """A number of the records (`column` of `runs.table`) of a comparison's two sides, for each seed that both have.

    Columns: `strategy`, that of the strategy of `row`, and `baseline`; indexed by the seed.
    """
    strategies = {"strategy": row["strategy"], "baseline": runs.study.baseline}
    sides = {side: counterpart(row, groups(runs), name)["run_ids"] for side, name in strategies.items()}
    numbers = {side: runs.table.loc[ids].set_index("seed")[column].astype(float) for side, ids in sides.items()}
    return pd.concat(numbers, axis=1, join="inner").dropna()


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest budget."""
    return table[table["train_size"] == table["train_size"].max()]


def few(table: pd.DataFrame, by: str, baseline: str) -> pd.DataFrame:
    """All rows, or, of more than `FEW`, those of the strategy `baseline` and the lowest and highest in `by`."""
    if len(table) <= FEW:
        return table
    others = table[table["strategy"] != baseline].sort_values(by, kind="stable")
    half = (FEW - 1) // 2
    chosen = pd.concat([table[table["strategy"] == baseline].head(1), others.head(half), others.tail(half)])
    return chosen.loc[~chosen.index.duplicated()]


# --- Scores and differences -------------------------------------------------------------------------------------------


def summary(runs: Runs, part: str = "") -> pd.DataFrame:
    """A row per strategy, size (and further axis): scores averaged over seeds.

    Columns: those of `varying`, the study's metric with its 95 % interval `low`, `high`, of `accuracy`, `macro_f1`,
    `auc` (of two classes) or `balanced_accuracy` (of more) those that are not this metric, `share_positive` of two
    classes, `seeds` (how many), `run_ids`. All scores are shares, NaN of runs that are `unstable`. `part="ood_"` takes
    the out-of-domain test set.
    """
    table, rows, two, column = groups(runs), [], len(runs.class_names) == 2, "ood" if part else "test"
    cells = [runs.scored(run_ids, part) for run_ids in table["run_ids"]]
    alike = steady(runs)
    shared = seed_variance(c.values for c, run_ids in zip(cells, table["run_ids"], strict=True) if run_ids in alike)
    others = ("accuracy", "macro_f1", "auc" if two else "balanced_accuracy")
    for cell, run_ids in zip(cells, table["run_ids"], strict=True):
        found = interval(cell, shared)
        row = {runs.study.metric: found.estimate, "low": found.low, "high": found.high}
        row |= {name: runs.table.loc[run_ids, f"{column}.{name}"].mean() for name in others if name not in row}
        if two:
            row["share_positive"] = np.mean([runs.arrays(run, part)["preds"] for run in run_ids])
        rows.append(dict.fromkeys(row, np.nan) if cell.unstable else row)
    return table.assign(
        **pd.DataFrame(rows, index=table.index), seeds=table["run_ids"].map(len), run_ids=table.pop("run_ids")
    )


def metric_of(table: pd.DataFrame) -> str:
    """The metric that a table compares, of which its `low` and `high` are: the first of its columns that is one."""
    return next(str(column) for column in table if column in METRICS)


def has_ood(runs: Runs) -> bool:
    """Whether every run was also tested on out-of-domain texts."""
    return bool(runs.table["ood.accuracy"].notna().all())


def against_baseline(runs: Runs) -> pd.DataFrame:
    """Every strategy against the study's baseline strategy at the same size, on the same test texts.

    Columns: those of `varying` and `MEASURES`. Empty without a baseline.
    """
    rows, comparisons, shared = [], [], runs_seed_variance(runs)
    for row, other in pairs(groups(runs), runs.study.baseline):
        rows.append({axis: row[axis] for axis in varying(runs)})
        ours, theirs = (runs.scored(side["run_ids"]) for side in (row, other))
        comparisons.append(compare(ours, theirs, shared, at_chance(runs, theirs, shared)))
    planned = sum(1 for _ in pairs(_planned_groups(runs), runs.study.baseline))
    return family(rows, comparisons, runs.study.margin, planned)


def against_tfidf(runs: Runs, baseline: Baseline | None) -> pd.DataFrame:
    """Every strategy against TF-IDF at the same size; columns as in `against_baseline`."""
    rows, comparisons, shared = [], [], runs_seed_variance(runs)
    by_size: dict[int, Scored] = {}
    if baseline and np.array_equal(baseline.ids, runs.preds.index) and np.array_equal(baseline.labels, runs.labels):
        by_size = baseline.scored(runs.study.metric)
    for row in groups(runs).to_dict("records"):
        if theirs := by_size.get(row["train_size"]):
            rows.append({axis: row[axis] for axis in varying(runs)})
            comparisons.append(compare(runs.scored(row["run_ids"]), theirs, shared, at_chance(runs, theirs)))
    planned = _planned_groups(runs)["train_size"].isin(by_size).sum()
    return family(rows, comparisons, runs.study.margin, planned)


def at_chance(runs: Runs, scored: Scored, shared: SeedVariance = NONE) -> bool:
    """Whether the 95 % interval of the score reaches down to the score of the majority-class baseline."""
    return interval(scored, shared).low <= runs.chance


def runs_seed_variance(runs: Runs, cells: Iterable[list[str]] | None = None) -> SeedVariance:
    """The variance between seeds, pooled over `cells` (each the run ids of one), or those that are `steady`."""
    return seed_variance(runs.scored(run_ids).values for run_ids in (steady(runs) if cells is None else cells))


def steady(runs: Runs) -> list[list[str]]:
    """The run ids of each strategy and budget of which no run is at chance, or of all where each has such a run.

    Where some seeds learn and others do not, runs vary far more than at the other strategies and budgets; pooled with
    that variance, the intervals of these would be far too wide.
    """
    cells = list(groups(runs)["run_ids"])
    return [run_ids for run_ids in cells if runs.at_chance.isdisjoint(run_ids)] or cells


def family(
    rows: Sequence[Mapping[str, Any]], comparisons: Sequence[Comparison], margin: float, planned: int = 0
) -> pd.DataFrame:
    """One table of a family of comparisons; `rows` says what each of them compares.

    They are adjusted for their number, or for that which was `planned`, where runs are missing: their intervals stay
    when these runs join. The further columns are `MEASURES`. Intervals hold jointly at 95 %.
    """
    count = max(1, len(comparisons), planned)
    level, table = 1 - ALPHA / count, []
    for row, c in zip(rows, comparisons, strict=True):
        found = c.interval(level)
        decision = verdict(found, c.seeds, margin, c.at_chance)
        settled = settling(c, margin, level) if decision == "undetermined" else (np.nan, np.nan)
        bonferroni = min(count * c.p_value, 1.0)  # NaN stays NaN
        values = (c.difference, found.low, found.high, c.p_value, bonferroni, *c.discordant, decision)
        values += (detectable(c, level), c.seeds, *settled)
        table.append({**row, **dict(zip(MEASURES, values, strict=True))})
    return pd.DataFrame(table, columns=None if table else ["strategy", "train_size", *MEASURES])


def sign_changes(runs: Runs, comparisons: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of `against_baseline` whose difference has another sign in another score.

    That is the AUC, or else macro F1, or else accuracy: the first that `summary` has and that is not the study's
    metric. A further column, of its name, has that difference in points.
    """
    other = next(name for name in ("auc", "macro_f1", "accuracy") if name in summary and name != runs.study.metric)
    rows = []
    for row in comparisons.to_dict("records"):
        ours, theirs = (counterpart(row, summary, strategy) for strategy in (row["strategy"], runs.study.baseline))
        gap = 100 * (ours[other] - theirs[other])
        rows += [row | {other: gap}] if gap * row["difference"] < 0 else []
    return pd.DataFrame(rows, columns=[*comparisons, other])


# --- Pairs of runs ----------------------------------------------------------------------------------------------------


def largest_pair(runs: Runs) -> tuple[str, str] | None:
    """The run ids of the baseline strategy and of another one at the largest budget that both have, if any.

    All else, the seed and any further axis, is the same.
    """
    table = pd.concat([keys(runs), runs.table["seed"]], axis=1)
    table = table.sort_values(["train_size", "seed"], ascending=[False, True], kind="stable")
    for run_id, row in table[table["strategy"] != runs.study.baseline].iterrows():
        same = counterpart(row, table[table["seed"] == row["seed"]], runs.study.baseline)
        if same is not None:
            return str(same.name), str(run_id)
    return None


def disagreements(runs: Runs, right: str, wrong: str) -> pd.DataFrame:
    """The test texts that run `right` got right and run `wrong` got wrong, the latter's most confident first.

    Columns: `id`, `label`, `right` and `wrong` (each run's probability of the true class). Equally confident mistakes
    are in the order of their ids.
    """
    sides = {"right": right, "wrong": wrong}
    chances = {name: chance_of(runs.arrays(run_id)["logits"], runs.labels) for name, run_id in sides.items()}
    table = pd.DataFrame({"id": runs.preds.index, "label": runs.labels, **chances})
    return table[runs.right(right) & ~runs.right(wrong)].sort_values(["wrong", "id"])


def sensitivity(runs: Runs) -> pd.DataFrame:
    """The comparisons with the baseline strategy where the other checkpoint rule selects what is tested.

    Columns: those of `against_baseline`, and `tested` and `tested_difference`: the verdict and the difference of the
    tested checkpoints. Verdicts that differ come first. Empty where no record has predictions of another checkpoint.
    """
    table, other = against_baseline(runs), runs.under_other_rule()
    if other is None:
        return table.iloc[:0].assign(tested=[], tested_difference=[])
    changed = against_baseline(other).assign(tested=table["verdict"], tested_difference=table["difference"])
    return changed.sort_values("verdict", key=lambda verdicts: verdicts == changed["tested"], kind="stable")
