"""Precision, recall and F1 of every class, with intervals over texts and seeds."""

from itertools import product

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import groups, steady, varying
from peft_study.records.read import Runs
from peft_study.statistics.intervals import Estimate, SeedVariance, of_seeds, seed_variance
from peft_study.statistics.scores import RATIOS, ratio_values


def class_scores(runs: Runs) -> pd.DataFrame:
    """A row per class, variant and measure, averaged over seeds.

    Columns: `class` (its number), `texts` (of it, in the test set), those of `varying`, the `measure`, and its `value`
    with a 95 % interval, `low` and `high`: shares, NaN where a run predicts no text as the class or the test set has
    none of it.
    """
    table, alike, rows = groups(runs), steady(runs), []
    predicted = [np.stack([runs.arrays(run_id)["preds"] for run_id in run_ids]) for run_ids in table["run_ids"]]
    for kind, name in product(range(len(runs.class_names)), RATIOS):
        labels, cells = 1 * (runs.labels == kind), [1 * (preds == kind) for preds in predicted]
        pooled = [preds for preds, run_ids in zip(cells, table["run_ids"], strict=True) if run_ids in alike]
        shared = seed_variance(class_values(name, labels, preds) for preds in pooled)
        for row, preds in zip(table.to_dict("records"), cells, strict=True):
            cell = {"class": kind, "texts": int(labels.sum())} | {axis: row[axis] for axis in varying(runs)}
            found = class_estimate(name, labels, preds, shared).interval()
            ends = {"low": max(0.0, found.low), "high": min(1.0, found.high)}
            rows.append(cell | {"measure": name, "value": found.estimate} | ends)
    return pd.DataFrame(rows)


def class_values(name: str, labels: np.ndarray, preds: np.ndarray) -> np.ndarray:
    """The values (runs, n) of the ratio `name` of class 1; `preds` are (runs, n), of the classes 0 and 1."""
    return np.stack([ratio_values(name, labels, run, [1])[0] for run in preds])


def class_estimate(name: str, labels: np.ndarray, preds: np.ndarray, shared: SeedVariance) -> Estimate:
    """The mean over runs of what `class_values` are of.

    As in `intervals.interval`, pseudo-texts keep intervals of few texts from being too narrow: two true positives, two
    false positives and two false negatives for precision and recall, one of each for F1. They join the texts before
    the ratio is taken, since the linear effect of one more is too large where the class has few. Simulated coverage of
    one run is 94.2 to 97.8 % (`lib/NOTES.md`).
    """
    guessed, true = np.repeat([[1, 1, 0], [1, 0, 1]], 1 if name == "F1" else 2, axis=1)
    padded = np.hstack([preds, np.tile(guessed, (len(preds), 1))])
    centred = class_values(name, np.append(labels, true), padded).mean(axis=0)
    values = class_values(name, labels, preds)
    seeds = of_seeds([values], shared)
    return Estimate(values.mean(), centred.mean(), centred.var() / len(centred), len(labels), seeds)
