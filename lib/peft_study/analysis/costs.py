"""What training and using the models cost, and which strategies no other beats at lower cost.

A strategy is on the Pareto front of its budget where no other is at least as good at no more cost and better in
one of the two. Fronts are taken at one size, since labels are a cost as well. Times differ only where the ranges of
their repeats do not overlap; scores are the estimates, so that those whose difference is undetermined may change
places.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import keys, metric_of, varying
from peft_study.records.read import Runs


class Cost(NamedTuple):
    """A cost on record: its name, its unit in tables with how many of the record's units are in one, and its format."""

    words: str
    column: str
    unit: float
    form: str


COSTS = {
    "parameters.trainable_adapter": Cost("adapter parameters", "adapter", 1, "{:,.0f}"),
    "parameters.trainable_head": Cost("head parameters", "head", 1, "{:,.0f}"),
    "parameters.trainable": Cost("trainable parameters", "trainable", 1, "{:,.0f}"),
    "training.steps": Cost("optimizer steps", "steps", 1, "{:,.0f}"),
    "training.seconds": Cost("training time (s)", "training (s)", 1, "{:,.0f}"),
    "training.flops": Cost("training FLOPs", "training (TFLOP)", 1e12, "{:,.3g}"),
    "training.peak_memory_bytes": Cost("peak memory", "peak memory (GiB)", 2**30, "{:.2f}"),
    "cost.model_bytes": Cost("weights on disk", "weights on disk (MiB)", 2**20, "{:.1f}"),
    "cost.inference_seconds": Cost("inference time of one text (s)", "one text (ms)", 1e-3, "{:.1f}"),
    "cost.inference_merged_seconds": Cost("inference time, merged (s)", "merged (ms)", 1e-3, "{:.1f}"),
}
REPEATED = ("training.seconds", "cost.inference_seconds", "cost.inference_merged_seconds")  # costs that vary by chance
UNEVEN = 1.5  # `training.step_scatter` above which other programs disturbed the training time
_UNLISTED = ("parameters.total", "training.flops_per_step")


def costs(runs: Runs) -> pd.DataFrame:
    """A row per strategy, size (and further axis): the metric averaged over seeds, and medians of what the runs cost.

    Columns: those of `varying`, the study's metric (share; NaN of unstable runs), every key of `COSTS` and of
    `_UNLISTED` under their names in the records, NaN where no record holds one. `training.flops` are those of the whole
    training: per step, times steps. Of the costs in `REPEATED`, `_low` and `_high` are the range over the runs and,
    where a run has quartiles of its own repeats on record, over these.
    """
    metric = runs.study.metric
    columns = [name for name in (*COSTS, *_UNLISTED) if name != "training.flops"]
    numbers = runs.table[columns].astype(float)
    numbers["training.flops"] = numbers["training.flops_per_step"] * numbers["training.steps"]
    for cost in REPEATED:
        quartiles = runs.table.get(f"{cost}_quartiles", pd.Series(index=numbers.index, dtype=object))
        for place, end in enumerate(("low", "high")):
            own = quartiles.map(lambda pair, place=place: pair[place] if isinstance(pair, list) else np.nan)
            numbers[f"{cost}_{end}"] = own.astype(float).fillna(numbers[cost])
    table = pd.concat([keys(runs), numbers, runs.table[f"test.{metric}"].rename(metric)], axis=1)
    by_group = table.groupby(varying(runs), sort=False)
    ends = {f"{cost}_low": by_group[f"{cost}_low"].min() for cost in REPEATED}
    ends |= {f"{cost}_high": by_group[f"{cost}_high"].max() for cost in REPEATED}
    mixed = [runs.unstable(list(rows.index)) for _, rows in by_group]
    score = by_group[metric].mean().mask(mixed)
    return by_group.median().assign(**{metric: score}, **ends).reset_index().infer_objects()


def measured(table: pd.DataFrame) -> list[str]:
    """The costs that some row of `costs` has a figure for."""
    return [cost for cost in COSTS if table[cost].notna().any()]


def on_front(table: pd.DataFrame, cost: str) -> "pd.Series[Any]":
    """Whether each row of `costs` is on the front of the metric against the column `cost` at its size.

    A nullable boolean: NA where the row's cost or score is not known. Of rows alike in both, all or none are on it.
    """
    on, metric = pd.Series(pd.NA, table.index, dtype="boolean"), metric_of(table)
    for _, rows in table.dropna(subset=[cost, metric]).groupby("train_size"):
        gain = rows[metric].to_numpy()
        low, high = (rows.get(f"{cost}_{end}", rows[cost]).to_numpy() for end in ("low", "high"))
        no_worse = (gain >= gain[:, None]) & (low <= high[:, None])
        better = (gain > gain[:, None]) | (high < low[:, None])
        on[rows.index] = ~(no_worse & better).any(axis=1)
    return on
