"""The best learning rate of each strategy, from the records of a sweep.

A rate is chosen by the lowest validation loss and never on the test set. A *group* is a strategy with its value on
every further axis (its rank, ...) at one size: all that is fixed along a curve over rates.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import at_chance, family, further, keys, metric_of, pairs, runs_seed_variance
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.statistics.paired_tests import compare
from peft_study.strategies.table import STRATEGIES
from peft_study.study.study import Study
from peft_study.text import UNKNOWN

OWN, SAME = "each its own best", "nearest to the baseline's"  # `rates` of the table of differences
CHOSEN = ("inside", "lowest", "highest")  # `settled` of a best rate that was chosen from several


def require_sweep(study: Study) -> None:
    """Raise `StudyError` where the study has only one learning rate for each strategy."""
    if not study.sweeps_rates:
        raise StudyError(
            f"the study {study.name!r} has no axis learning_rate, so there is no rate to choose; "
            f"03_compare_variants.ipynb compares its strategies (./run_all.sh {study.name} makes it), or give its "
            "matrix the axis learning_rate"
        )


def sweep(runs: Runs) -> pd.DataFrame:
    """A row per group and rate, averaged over seeds.

    Columns: those of the group (`strategy`, `train_size`, further axes), `rate` (of the study, or else recorded, or
    else the strategy's default), `loss` (nats, on validation; not finite where a seed diverged), `validation_accuracy`
    and the study's metric (shares; the latter on the test set), `run_ids`, `measured` (whether validation is on record)
    and `chosen` (the group's lowest finite loss; of equal losses the lowest rate).
    """
    metric = runs.study.metric
    columns = {"validation.loss": "loss", "validation.accuracy": "validation_accuracy", f"test.{metric}": metric}
    recorded = ["learning_rate", "training.learning_rate", *columns]
    numbers = runs.table.reindex(columns=recorded).apply(pd.to_numeric, errors="coerce").rename(columns=columns)
    default = runs.table["strategy"].map({name: entry.learning_rate for name, entry in STRATEGIES.items()})
    rate = numbers["learning_rate"].fillna(numbers["training.learning_rate"]).fillna(default)
    by_run = keys(runs).drop(columns="learning_rate").assign(rate=rate, **numbers[list(columns.values())])
    axes = group_axes(by_run)
    mean = dict.fromkeys(columns.values(), lambda values: values.to_numpy().mean())  # pandas' own skips NaN
    points = by_run.assign(run_ids=by_run.index).groupby([*axes, "rate"], sort=False)
    table = points.agg(mean | {"run_ids": list}).reset_index()
    measured = table["loss"].notna() | table["validation_accuracy"].notna()
    lowest = table[np.isfinite(table["loss"])].sort_values("rate").groupby(axes, sort=False)["loss"].idxmin()
    return table.assign(measured=measured, chosen=table.index.isin(lowest))


def group_axes(table: pd.DataFrame) -> list[str]:
    """The columns that distinguish the groups of a table."""
    return ["strategy", "train_size", *further(table)]


def best(table: pd.DataFrame) -> pd.DataFrame:
    """A row per group of `sweep`: its best rate and that rate's neighbours in the grid.

    Columns: those of the group, `run_ids`, `rate`, `loss`, the metric, the same of the next lower rate (`rate_below`,
    ...) and of the next higher (`rate_above`, ...), NaN where there is none, and `settled`: where in the grid the best
    lies ("inside", "lowest", "highest" or "only"), or why there is none ("diverged", "unmeasured").
    """
    axes, columns = group_axes(table), ["rate", "loss", metric_of(table)]
    grid = table[table["measured"]].sort_values("rate", kind="stable")
    points = grid.groupby(axes, sort=False)[columns]
    neighbours = [points.shift(1).add_suffix("_below"), points.shift(-1).add_suffix("_above")]
    chosen = pd.concat([grid[[*axes, "run_ids", *columns]], *neighbours], axis=1)[grid["chosen"]]
    groups = table.groupby(axes, sort=False)["measured"].any().reset_index()
    rows = groups.merge(chosen, on=axes, how="left")
    absent, below, above = rows["rate"].isna(), rows["rate_below"].notna(), rows["rate_above"].notna()
    cases = [absent & rows["measured"], absent, below & above, above, below]
    settled = np.select(cases, ["diverged", "unmeasured", "inside", "lowest", "highest"], "only")
    run_ids = [ids if isinstance(ids, list) else [] for ids in rows["run_ids"]]
    return rows.drop(columns="measured").assign(run_ids=run_ids, settled=settled)


def own(best_rates: pd.DataFrame) -> pd.DataFrame:
    """Of the groups of `best`, each strategy's own best at each size, by validation loss; the columns are the same."""
    ordered = best_rates.sort_values("loss", kind="stable")  # NaN last
    first = ordered.drop_duplicates(["strategy", "train_size"]).index
    return best_rates.loc[sorted(first)].reset_index(drop=True)


def span(row: Mapping[Any, Any]) -> tuple[float, float]:
    """Between which rates the true best lies if losses fall and rise only once: one step of the grid to either side."""
    below, above = row["rate_below"], row["rate_above"]
    return (0.0 if np.isnan(below) else below), (np.inf if np.isnan(above) else above)


def ratios(best_rates: pd.DataFrame) -> pd.DataFrame:
    """The best rate of each group over that of full fine-tuning with the same settings, both chosen from several.

    Columns: those of the group, `rate`, `full_rate`, `ratio`, and `low` and `high`: the bounds of the ratio, since both
    best rates are known to one step of the grid.
    """
    chosen, axes = best_rates[best_rates["settled"].isin(CHOSEN)], group_axes(best_rates)
    rows: list[dict[Any, Any]] = []
    for row, full in pairs(chosen, "full"):
        (low, high), (full_low, full_high) = span(row), span(full)
        rows.append(
            {axis: row[axis] for axis in axes}
            | {"rate": row["rate"], "full_rate": full["rate"], "ratio": row["rate"] / full["rate"]}
            | {"low": low / full_high, "high": high / full_low if full_low else np.inf}
        )
    return pd.DataFrame(rows, columns=[*axes, "rate", "full_rate", "ratio", "low", "high"])


def differences(runs: Runs, table: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Every strategy against the baseline strategy at the baseline's best rate, on the same test texts.

    `table` is of `sweep`, `chosen` of `own`. A strategy has a row at its own best (`rates` is `OWN`) and one (`SAME`)
    at the rate of its grid that is nearest to the baseline's best, with the same settings, where that is another run.
    Further columns: those of the group, `learning_rate` (text), and those of `accuracy.against_baseline`; the
    correction is for all rows. Empty where there is no pair.
    """
    rows, comparisons = [], []
    shared = runs_seed_variance(runs, chosen.loc[chosen["rate"].notna(), "run_ids"])  # some seeds diverge at high rates
    best_rates = chosen[chosen["rate"].notna()].to_dict("records")
    for baseline in (row for row in best_rates if row["strategy"] == runs.study.baseline):
        theirs = runs.scored(baseline["run_ids"])
        poor = at_chance(runs, theirs, shared)
        for row in best_rates:
            if row["strategy"] == baseline["strategy"] or row["train_size"] != baseline["train_size"]:
                continue
            nearest = _nearest(table, row, baseline["rate"])
            for rates, point in {OWN: row, SAME: nearest}.items():
                if rates == OWN or nearest["run_ids"] != row["run_ids"]:
                    settings = {axis: point[axis] for axis in group_axes(table)}
                    rows.append(settings | {"learning_rate": rate_text(point["rate"]), "rates": rates})
                    comparisons.append(compare(runs.scored(point["run_ids"]), theirs, shared, poor))
    compared = family(rows, comparisons, runs.study.margin)
    return compared if rows else compared.assign(learning_rate=[], rates=[])


def _nearest(table: pd.DataFrame, row: Mapping[Any, Any], rate: float) -> dict[Any, Any]:
    """The row of the sweep of the same group as `row` whose rate is nearest to `rate`."""
    axes = group_axes(table)
    group = table[(table[axes] == pd.Series({axis: row[axis] for axis in axes})).all(axis=1)]
    steps = np.abs(np.log(group["rate"] / rate)).round(6)
    return group.assign(steps=steps).sort_values(["steps", "loss"], kind="stable").iloc[0].to_dict()


def rate_text(rate: float) -> str:
    """A learning rate as in code: 3e-4; a dash for NaN."""
    if not np.isfinite(rate):
        return UNKNOWN
    digits, power = f"{rate:e}".split("e")
    return f"{float(digits):g}e{int(power)}"
