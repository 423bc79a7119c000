"""Precision, recall and F1 of every class, with intervals over texts and seeds."""

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import groups, varying
from peft_study.records.read import Runs
from peft_study.statistics.intervals import Estimate, SeedVariance, of_seeds, seed_variance
from peft_study.statistics.scores import class_ratios, pseudo_values

_PSEUDO = {"precision": 2, "recall": 2, "F1": 1}


def class_scores(runs: Runs) -> pd.DataFrame:
    """A row per class, variant and measure, averaged over seeds.

    Columns: `class` (its number), `texts` (of it, in the test set), those of `varying`, the `measure`, and its `value`
    with a 95 % interval, `low` and `high`: shares, NaN where a run predicts no text as the class or the test set has
    none of it.
    """
    table, rows = groups(runs), []
    cells = [np.stack([runs.arrays(run_id)["preds"] for run_id in run_ids]) for run_ids in table["run_ids"]]
    for kind in range(len(runs.class_names)):
        ratios = [class_ratios(preds, runs.labels, kind) for preds in cells]
        shared = {name: seed_variance([pseudo_values(*ratio[name]) for ratio in ratios]) for name in _PSEUDO}
        for row, preds in zip(table.to_dict("records"), cells, strict=True):
            cell = {"class": kind, "texts": int((runs.labels == kind).sum())} | {n: row[n] for n in varying(runs)}
            for name in _PSEUDO:
                found = class_estimate(preds, runs.labels, kind, name, shared[name]).interval()
                ends = {"low": max(0.0, found.low), "high": min(1.0, found.high)}
                rows.append(cell | {"measure": name, "value": found.estimate} | ends)
    return pd.DataFrame(rows)


def class_estimate(preds: np.ndarray, labels: np.ndarray, kind: int, name: str, shared: SeedVariance) -> Estimate:
    """The precision, recall or F1 (`name`) of the class `kind`, a mean over runs; `preds` are (runs, n).

    As in `intervals.interval`, pseudo-texts keep intervals of few texts from being too narrow: two true positives, two
    false positives and two false negatives for precision and recall, one of each for F1. Simulated coverage of one run
    is 94.2 to 97.8 % (`lib/NOTES.md`).
    """
    guessed, true = np.repeat([[kind, kind, -1], [kind, -1, kind]], _PSEUDO[name], axis=1)
    more = np.hstack([preds, np.tile(guessed, (len(preds), 1))]), np.append(labels, true)
    values, padded = (pseudo_values(*class_ratios(*texts, kind)[name]) for texts in ((preds, labels), more))
    centred = padded.mean(axis=0)
    seeds = of_seeds([values], shared)
    return Estimate(values.mean(), centred.mean(), centred.var() / len(centred), len(labels), seeds)
