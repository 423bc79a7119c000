"""Which learning rate each strategy deserves, from the runs of a sweep; `claims` says it.

A rate is chosen by the lowest validation loss and never on the test set. A *group* is a strategy with its value on
every further axis (its rank, ...) at one size: all that a curve over rates holds fixed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import IDLE, family, further, keys
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.statistics.paired_tests import compare
from peft_study.strategies.table import STRATEGIES
from peft_study.study.study import Study
from peft_study.text import UNKNOWN

OWN, SAME = "each its own best", "nearest to the baseline's"  # `rates` of the table of differences
CHOSEN = ("inside", "lowest", "highest")  # `settled` of a best rate that was chosen from several


def require_sweep(study: Study) -> None:
    """Raise `StudyError` where the study has but one learning rate for each strategy."""
    if not study.sweeps_rates:
        raise StudyError(
            f"the study {study.name!r} has no axis learning_rate, so there is no rate to choose; "
            f"03_compare_variants.ipynb compares its strategies (./run_all.sh {study.name} makes it), or give its "
            "matrix the axis learning_rate"
        )


def sweep(runs: Runs) -> pd.DataFrame:
    """A row per group and rate, averaged over seeds.

    Columns: those of the group (`strategy`, `train_size`, further axes), `rate` (in force: asked for, or else recorded,
    or else the strategy's own), `loss` (nats, on validation; not finite where a seed diverged), `validation_accuracy`
    and `accuracy` (shares; the latter on the test set), `run_ids`, `measured` (whether validation is on record) and
    `chosen` (the group's lowest finite loss; of equal ones the lowest rate).
    """
    columns = {"validation.loss": "loss", "validation.accuracy": "validation_accuracy", "test.accuracy": "accuracy"}
    wanted = ["learning_rate", "training.learning_rate", *columns]
    numbers = runs.table.reindex(columns=wanted).apply(pd.to_numeric, errors="coerce").rename(columns=columns)
    own = runs.table["strategy"].map({name: entry.learning_rate for name, entry in STRATEGIES.items()})
    rate = numbers["learning_rate"].fillna(numbers["training.learning_rate"]).fillna(own)
    table = keys(runs).drop(columns="learning_rate").assign(rate=rate, **numbers[list(columns.values())])
    axes = group_axes(table)
    found = table.assign(run_ids=table.index).groupby([*axes, "rate"], sort=False)
    plain_mean = dict.fromkeys(columns.values(), lambda values: values.to_numpy().mean())  # pandas' own skips NaN
    table = found.agg(plain_mean | {"run_ids": list}).reset_index()
    measured = table["loss"].notna() | table["validation_accuracy"].notna()
    finite = table[np.isfinite(table["loss"])].sort_values("rate").groupby(axes, sort=False)["loss"].idxmin()
    return table.assign(measured=measured, chosen=table.index.isin(finite))


def group_axes(table: pd.DataFrame) -> list[str]:
    """The columns that tell the groups of a table apart."""
    return ["strategy", "train_size", *further(table)]


def best(table: pd.DataFrame) -> pd.DataFrame:
    """A row per group of `sweep`: its best rate and the neighbours of that in the grid.

    Columns: those of the group, `rate`, `loss`, `accuracy`, `run_ids`, `settled` (where in the grid the best lies:
    "inside", "lowest", "highest" or "only"; or why there is none: "diverged", "unmeasured"), and `rate_below`,
    `loss_below`, `accuracy_below`, `rate_above`, ... of the next rates; NaN where there is none.
    """
    rows = []
    for _, group in table.groupby(group_axes(table), sort=False):
        known = group[group["measured"]].sort_values("rate").reset_index(drop=True)
        row: dict[str, Any] = group.iloc[0][group_axes(table)].to_dict()
        place = int(known["chosen"].argmax()) if known["chosen"].any() else len(known)
        row["run_ids"] = [] if place == len(known) else known["run_ids"][place]
        for side, step in {"": 0, "_below": -1, "_above": 1}.items():
            there = bool(row["run_ids"]) and 0 <= place + step < len(known)
            row |= {
                name + side: known[name][place + step] if there else np.nan for name in ("rate", "loss", "accuracy")
            }
        rows.append(row | {"settled": _settled(row, len(known))})
    return pd.DataFrame(rows)


def _settled(row: Mapping[str, Any], known: int) -> str:
    if np.isnan(row["rate"]):
        return "diverged" if known else "unmeasured"
    sides = not np.isnan(row["rate_below"]), not np.isnan(row["rate_above"])
    return {(True, True): "inside", (False, True): "lowest", (True, False): "highest", (False, False): "only"}[sides]


def own(found: pd.DataFrame) -> pd.DataFrame:
    """Of the groups of `best`, each strategy's own best at each size, by validation loss; the columns are the same."""
    ordered = found.sort_values("loss", kind="stable")  # NaN last
    return found.loc[sorted(ordered.drop_duplicates(["strategy", "train_size"]).index)].reset_index(drop=True)


def span(row: Mapping[Any, Any]) -> tuple[float, float]:
    """Between which rates the true best lies if losses fall and rise but once: one step of the grid to either side."""
    below, above = row["rate_below"], row["rate_above"]
    return (0.0 if np.isnan(below) else below), (np.inf if np.isnan(above) else above)


def ratios(found: pd.DataFrame) -> pd.DataFrame:
    """The best rate of each group over that of full fine-tuning with the same settings, both chosen from several.

    Columns: those of the group, `rate`, `full_rate`, `ratio`, and `low` and `high`: where the ratio may lie, since both
    best rates are known to one step of the grid.
    """
    rows: list[dict[Any, Any]] = []
    chosen, axes = found[found["settled"].isin(CHOSEN)].to_dict("records"), group_axes(found)
    for row in chosen:
        alike = [full for full in chosen if full["strategy"] == "full" and _alike(row, full, axes[1:])]
        if row["strategy"] != "full" and alike:
            full = min(alike, key=lambda other: other["loss"])
            (low, high), (full_low, full_high) = span(row), span(full)
            rows.append(
                {axis: row[axis] for axis in axes}
                | {"rate": row["rate"], "full_rate": full["rate"], "ratio": row["rate"] / full["rate"]}
                | {"low": low / full_high, "high": high / full_low if full_low else np.inf}
            )
    return pd.DataFrame(rows, columns=[*axes, "rate", "full_rate", "ratio", "low", "high"])


def _alike(row: Mapping[Any, Any], other: Mapping[Any, Any], axes: list[str]) -> bool:
    """Whether two rows are the same on every axis that both strategies heed."""
    return all(row[axis] == other[axis] or IDLE in (row[axis], other[axis]) for axis in axes)


def differences(runs: Runs, table: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Every strategy against the baseline strategy at the baseline's best rate, on the same test reviews.

    `chosen` is of `own`. A strategy has a row at its own best (`rates` is `OWN`) and one (`SAME`) at the rate of its
    grid that is nearest to the baseline's best, with the same settings, where that is another run. Further columns:
    those of the group, `learning_rate` (text), and those of `comparison_tables.against_baseline`; the correction is
    for all rows. Empty where there is no pair.
    """
    rows, found = [], []
    picked = chosen[chosen["rate"].notna()].to_dict("records")
    for base in (row for row in picked if row["strategy"] == runs.study.baseline):
        theirs = runs.preds[base["run_ids"]].to_numpy().T
        for row in picked:
            if row["strategy"] == base["strategy"] or row["train_size"] != base["train_size"]:
                continue
            near = _nearest(table, row, base["rate"])
            for rates, told in {OWN: row, SAME: near}.items():
                if rates == OWN or near["run_ids"] != row["run_ids"]:
                    settings = {axis: told[axis] for axis in group_axes(table)}
                    rows.append(settings | {"learning_rate": rate_text(told["rate"]), "rates": rates})
                    found.append(compare(runs.preds[told["run_ids"]].to_numpy().T, theirs, runs.labels))
    return family(rows, found, runs.study.margin)


def _nearest(table: pd.DataFrame, row: Mapping[Any, Any], rate: float) -> dict[Any, Any]:
    """The row of the sweep of the same group as `row` whose rate is nearest to `rate`."""
    axes = group_axes(table)
    same = table[(table[axes] == pd.Series({axis: row[axis] for axis in axes})).all(axis=1)]
    steps = np.abs(np.log(same["rate"] / rate)).round(6)
    return same.assign(steps=steps).sort_values(["steps", "loss"], kind="stable").iloc[0].to_dict()


def rate_text(rate: float) -> str:
    """A learning rate as its users write it: 3e-4; a dash where there is none."""
    if not np.isfinite(rate):
        return UNKNOWN
    digits, power = f"{rate:e}".split("e")
    return f"{float(digits):g}e{int(power)}"
