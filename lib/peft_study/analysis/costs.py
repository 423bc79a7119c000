"""The ledger of costs: what training and using the models took, and which strategies no other beats at lower cost.

A strategy is on the Pareto front of its budget where no other is at least as accurate at no more cost and better in
one of the two. Fronts are taken at one size, since labels are a cost as well, and by the figures as they are:
accuracies whose difference is undetermined may change places.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import further, keys, title, varying
from peft_study.records.read import Runs
from peft_study.report.tables import named
from peft_study.text import UNKNOWN


class Cost(NamedTuple):
    """A column of the ledger: its name in words, its unit in tables with the number of those in one, and its format."""

    words: str
    column: str
    unit: float
    form: str


COSTS = {
    "parameters.trainable": Cost("trainable parameters", "trainable (10⁶)", 1e6, "{:,.3g}"),
    "training.flops": Cost("operations of training", "TFLOP", 1e12, "{:,.4g}"),
    "training.seconds": Cost("seconds of training", "training (s)", 1, "{:,.0f}"),
    "training.peak_memory_bytes": Cost("peak memory", "peak memory (GiB)", 2**30, "{:.2f}"),
    "cost.model_bytes": Cost("weights on disk", "weights on disk (MiB)", 2**20, "{:.1f}"),
    "cost.inference_seconds": Cost("time for one review", "one review (ms)", 1e-3, "{:.1f}"),
}
DRAWN = ("parameters.trainable", "training.flops", "training.seconds")  # the costs of the figure
_ALSO = {
    "training.steps": Cost("optimizer steps", "steps", 1, "{:,.0f}"),
    "training.epochs": Cost("epochs", "epochs done", 1, "{:.3g}"),
    "training.tokens_per_second": Cost("tokens a second", "tokens/s", 1, "{:,.0f}"),
    "training.flops_per_step": Cost("operations of a step", "GFLOP per step", 1e9, "{:,.3g}"),
    "cost.inference_merged_seconds": Cost("time for one review, merged", "merged (ms)", 1e-3, "{:.1f}"),
}
_PARTS = (
    "parameters.trainable_backbone",
    "parameters.trainable_adapter",
    "parameters.trainable_head",
    "parameters.total",
)
_TRAINING = ("steps", "epochs", "seconds", "tokens_per_second", "flops_per_step", "flops", "peak_memory_bytes")
_USING = ("cost.model_bytes", "cost.inference_seconds", "cost.inference_merged_seconds")


def costs(runs: Runs) -> pd.DataFrame:
    """A row per strategy, size (and further axis): `accuracy` averaged over seeds, and medians of what the runs cost.

    Columns: those of `varying`, `accuracy` (share), every key of `COSTS` and the figures beside them under their names
    in the records, NaN where no record holds one. `training.flops` are the operations of the
    whole training: per step, times steps.
    """
    columns = [name for name in (*COSTS, *_ALSO, *_PARTS, "training.trainer_flops") if name != "training.flops"]
    numbers = runs.table.reindex(columns=columns).apply(pd.to_numeric, errors="coerce").astype(float)
    numbers = numbers.where(np.isfinite(numbers))
    numbers["training.flops"] = numbers["training.flops_per_step"] * numbers["training.steps"]
    found = pd.concat([keys(runs), numbers, runs.table["test.accuracy"].rename("accuracy")], axis=1)
    groups = found.groupby(varying(runs), sort=False)
    return groups.median().assign(accuracy=groups["accuracy"].mean()).reset_index().infer_objects()


def measured(table: pd.DataFrame) -> list[str]:
    """The costs that some row of a ledger has a figure for."""
    return [cost for cost in COSTS if table[cost].notna().any()]


def on_front(table: pd.DataFrame, cost: str) -> "pd.Series[Any]":
    """Whether each row of a ledger is on the front of `accuracy` against the column `cost` at its size.

    A nullable boolean: NA where the row's cost is not known. Of rows alike in both, all or none are on it.
    """
    found = pd.Series(pd.NA, table.index, dtype="boolean")
    for _, rows in table.dropna(subset=[cost]).groupby("train_size"):
        gain, price = rows["accuracy"].to_numpy(), rows[cost].to_numpy()
        no_worse = (gain >= gain[:, None]) & (price <= price[:, None])
        better = (gain > gain[:, None]) | (price < price[:, None])
        found[rows.index] = ~(no_worse & better).any(axis=1)
    return found


def shown(table: pd.DataFrame, columns: Mapping[str, Cost]) -> pd.DataFrame:
    """Those columns of a ledger as text in readable units, and a dash for each figure that no record holds."""
    return table[["strategy", "train_size", *further(table)]].assign(
        **{cost.column: _numbers(table[name] / cost.unit, cost.form) for name, cost in columns.items()}
    )


def _numbers(values: "pd.Series[float]", form: str) -> "pd.Series[str]":
    return values.map(lambda value: UNKNOWN if pd.isna(value) else form.format(value))


def parameters(table: pd.DataFrame) -> pd.DataFrame:
    """Trainable parameters of each strategy (and further axis), the adapter apart from the head."""
    first = table.drop_duplicates(["strategy", *further(table)])
    first = first.set_index(pd.Index([title(row) for row in first.to_dict("records")], name="strategy"))
    shown = pd.DataFrame(
        {part: _numbers(first[f"parameters.trainable_{part}"], "{:,.0f}") for part in ("backbone", "adapter", "head")}
    )
    shown["sum"] = _numbers(first["parameters.trainable"], "{:,.0f}")
    shown["share of the model"] = _numbers(first["parameters.trainable"] / first["parameters.total"], "{:.2%}")
    return shown


def training(table: pd.DataFrame) -> pd.DataFrame:
    """What training took, as printed: steps, epochs, seconds without evaluation, tokens/s, operations, memory."""
    every = COSTS | _ALSO
    return named(shown(table, {name: every[name] for name in (f"training.{key}" for key in _TRAINING)}))


def using(table: pd.DataFrame, f1: pd.DataFrame) -> pd.DataFrame:
    """What keeping and using a model takes, as printed; macro F1 per million trainable parameters beside it.

    `f1` is `comparison.summary(runs, "macro_f1")`, whose rows are those of the ledger.
    """
    every = COSTS | _ALSO
    ratio = _numbers(per_million(table, f1), "{:.3g}")
    return named(shown(table, {name: every[name] for name in _USING}).assign(**{"macro F1 per 10⁶ trainable": ratio}))


def per_million(table: pd.DataFrame, f1: pd.DataFrame) -> "pd.Series[float]":
    """Macro F1 per million trainable parameters of each row of a ledger; NaN where nothing trains or no record says."""
    trainable = table["parameters.trainable"]
    return f1["macro_f1"] / (trainable.where(trainable > 0) / 1e6)


def fronts(table: pd.DataFrame) -> pd.DataFrame:
    """Who is on which front, as printed: a column for each cost that the records hold."""
    columns = {"accuracy (%)": _numbers(100 * table["accuracy"], "{:.1f}")}
    for cost in measured(table):
        told = [UNKNOWN if one is pd.NA else "yes" if one else "no" for one in on_front(table, cost)]
        columns[COSTS[cost].words] = pd.Series(told, table.index)
    return named(table[["strategy", "train_size", *further(table)]].assign(**columns))
