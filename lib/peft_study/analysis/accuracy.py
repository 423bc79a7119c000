"""From finished runs to tables: accuracy, differences between strategies with their verdicts, disagreements.

Runs that differ by their seed only are one row of a table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.tfidf import Baseline
from peft_study.records.read import Runs
from peft_study.statistics import scores
from peft_study.statistics.calibration import chance_of, log_odds
from peft_study.statistics.intervals import NONE, SeedVariance, interval, seed_variance
from peft_study.statistics.paired_tests import Comparison, adjusted, compare, detectable, settling, verdict
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant

IDLE = "–"  # the value of an axis that a run's strategy ignores
FEW = 5  # strategies that one figure or sentence can tell apart
ALPHA = 0.05
MEASURES = (  # the columns of a family of comparisons, after those that say what is compared
    "difference",  # accuracy points
    "low",  # its simultaneous interval
    "high",
    "p_value",
    "adjusted_p",  # for the number of comparisons of the family
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


def grouped(runs: Runs) -> Any:
    """The table of runs, grouped by `varying`."""
    return runs.table.groupby([column for _, column in keys(runs).items()], sort=False)


def groups(runs: Runs) -> pd.DataFrame:
    """A row per strategy, size (and further axis): the columns of `varying` and `run_ids`."""
    rows = [(*key, list(group.index)) for key, group in grouped(runs)]
    return pd.DataFrame(rows, columns=[*varying(runs), "run_ids"])


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


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest budget."""
    return table[table["train_size"] == table["train_size"].max()]


def few(table: pd.DataFrame, by: str, baseline: str, count: int = FEW) -> pd.DataFrame:
    """All rows, or, of more than `count`, those of the strategy `baseline` and the lowest and highest in `by`."""
    if len(table) <= count:
        return table
    others = table[table["strategy"] != baseline].sort_values(by, kind="stable")
    half = (count - 1) // 2
    chosen = pd.concat([table[table["strategy"] == baseline].head(1), others.head(half), others.tail(half)])
    return chosen.loc[~chosen.index.duplicated()]


# --- Accuracy and differences -----------------------------------------------------------------------------------------


def summary(runs: Runs, part: str = "") -> pd.DataFrame:
    """A row per strategy, size (and further axis): scores averaged over seeds.

    Columns: those of `varying`, `accuracy` with its 95 % interval `low`, `high`, `macro_f1`, `auc` and
    `share_positive` of two classes or `balanced_accuracy` of more, `seeds` (how many), `run_ids`. All scores are
    shares. `part="ood_"` takes the out-of-domain test set.
    """
    table, rows = groups(runs), []
    cells = [[runs.arrays(run_id, part) for run_id in run_ids] for run_ids in table["run_ids"]]
    correct = [np.stack([arrays["preds"] == arrays["labels"] for arrays in cell]) for cell in cells]
    shared = seed_variance(correct)
    for cell, right in zip(cells, correct, strict=True):
        found, labels, preds = interval(right, shared), cell[0]["labels"], [arrays["preds"] for arrays in cell]
        row = {"accuracy": found.estimate, "low": found.low, "high": found.high}
        row["macro_f1"] = np.mean([scores.macro_f1(run, labels) for run in preds])
        if len(runs.class_names) == 2:
            row["auc"] = np.mean([scores.auc(log_odds(arrays["logits"])[:, 0], labels) for arrays in cell])
            row["share_positive"] = np.mean(preds)
        else:
            row["balanced_accuracy"] = np.mean([scores.balanced_accuracy(run, labels) for run in preds])
        rows.append(row)
    return table.assign(
        **pd.DataFrame(rows, index=table.index), seeds=table["run_ids"].map(len), run_ids=table.pop("run_ids")
    )


def has_ood(runs: Runs) -> bool:
    """Whether every run was also tested on out-of-domain texts."""
    return "ood.accuracy" in runs.table and bool(runs.table["ood.accuracy"].notna().all())


def against_baseline(runs: Runs) -> pd.DataFrame:
    """Every strategy against the study's baseline strategy at the same size, on the same test texts.

    Columns: those of `varying` and `MEASURES`. Empty without a baseline.
    """
    rows, comparisons, shared = [], [], runs_seed_variance(runs)
    for row, other in pairs(groups(runs), runs.study.baseline):
        rows.append({axis: row[axis] for axis in varying(runs)})
        ours, theirs = (runs.right(side["run_ids"]) for side in (row, other))
        comparisons.append(compare(ours, theirs, shared, at_chance(runs, theirs, shared)))
    return family(rows, comparisons, runs.study.margin)


def against_tfidf(runs: Runs, baseline: Baseline | None) -> pd.DataFrame:
    """Every strategy against TF-IDF at the same size; columns as in `against_baseline`."""
    rows, comparisons, shared = [], [], runs_seed_variance(runs)
    comparable = (
        baseline and np.array_equal(baseline.ids, runs.preds.index) and np.array_equal(baseline.labels, runs.labels)
    )
    for row in groups(runs).to_dict("records"):
        if baseline and comparable and row["train_size"] in baseline.preds:
            rows.append({axis: row[axis] for axis in varying(runs)})
            theirs = baseline.preds[row["train_size"]] == runs.labels
            comparisons.append(compare(runs.right(row["run_ids"]), theirs, shared, at_chance(runs, theirs)))
    return family(rows, comparisons, runs.study.margin)


def at_chance(runs: Runs, right: np.ndarray, shared: SeedVariance = NONE) -> bool:
    """Whether the 95 % interval of the accuracy of `right`, as `interval` takes it, includes the majority class's."""
    return interval(right, shared).low <= scores.majority(runs.labels)


def runs_seed_variance(runs: Runs, cells: Iterable[list[str]] | None = None) -> SeedVariance:
    """The variance between seeds, pooled over `cells` (each the run ids of one), or all strategies and budgets."""
    return seed_variance(map(runs.right, groups(runs)["run_ids"] if cells is None else cells))


def family(rows: Sequence[Mapping[str, Any]], comparisons: Sequence[Comparison], margin: float) -> pd.DataFrame:
    """One table of a family of comparisons, adjusted for their number; `rows` says what each of them compares.

    The further columns are `MEASURES`. Intervals hold jointly at 95 %.
    """
    level, table = 1 - ALPHA / max(1, len(comparisons)), []
    p_values = adjusted([c.p_value for c in comparisons])
    for row, c, p in zip(rows, comparisons, p_values, strict=True):
        found = c.interval(level)
        decision = verdict(found, c.seeds, margin, c.at_chance)
        settled = settling(c, margin, level) if decision == "undetermined" else (np.nan, np.nan)
        values = (c.difference, found.low, found.high, c.p_value, p, *c.discordant, decision, detectable(c, level))
        values += (c.seeds, *settled)
        table.append({**row, **dict(zip(MEASURES, values, strict=True))})
    return pd.DataFrame(table, columns=None if table else ["strategy", "train_size", *MEASURES])


def sign_changes(comparisons: pd.DataFrame, summary: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The rows of `against_baseline` whose difference has another sign in AUC (two classes) or else in macro F1.

    A further column, named `auc` or `macro_f1`, has that difference in points.
    """
    score, rows = "auc" if "auc" in summary else "macro_f1", []
    for row in comparisons.to_dict("records"):
        ours, theirs = (counterpart(row, summary, strategy) for strategy in (row["strategy"], baseline))
        gap = 100 * (ours[score] - theirs[score])
        rows += [row | {score: gap}] if gap * row["difference"] < 0 else []
    return pd.DataFrame(rows, columns=[*comparisons, score])


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
    chances = {}
    for name, run_id in {"right": right, "wrong": wrong}.items():
        arrays = runs.arrays(run_id)
        chances[name] = chance_of(arrays["logits"], arrays["labels"])
    table = pd.DataFrame({"id": arrays["ids"], "label": arrays["labels"], **chances})
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
