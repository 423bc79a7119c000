"""From runs and slices to tables: the study's metric on each slice, and differences from the baseline there."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import (
    FEW,
    at_chance,
    family,
    few,
    groups,
    has_ood,
    largest,
    pairs,
    runs_seed_variance,
    steady,
    title,
    varying,
)
from peft_study.analysis.slice_rules import OTHER, SLICES
from peft_study.records.read import Runs
from peft_study.statistics.intervals import SeedVariance, interval, seed_variance
from peft_study.statistics.paired_tests import compare
from peft_study.statistics.scores import Scored

LEAST = 50  # texts: fewer allow no verdict


@dataclass(frozen=True)
class Sliced:
    """The slices of a study that belong to its runs.

    `slices` maps a slice's name to its part, as in `Runs.arrays`, and the mask (n,) of its texts there.
    `absent` says what is missing.
    """

    runs: Runs
    slices: dict[str, tuple[str, np.ndarray]]
    absent: str = ""

    def scored(self, name: str, run_ids: list[str]) -> Scored:
        """Runs, scored on the texts of a slice."""
        return self.runs.scored(run_ids, *self.slices[name])

    def seeds(self, name: str) -> SeedVariance:
        """The variance of the score on a slice between seeds, which all variants share."""
        return seed_variance(self.scored(name, run_ids).values for run_ids in self._steady)

    @cached_property
    def _steady(self) -> list[list[str]]:
        return steady(self.runs)


def match(runs: Runs, table: pd.DataFrame | None) -> Sliced:
    """The slices of `table` (from `load_slices`), where ids and labels are those that the runs were tested on."""
    if table is None:
        return Sliced(runs, {}, "No slices: `slices.csv`, which notebook 01 writes, is absent or damaged.")
    test, ood = (table[table["part"] == part].set_index("id").sort_index() for part in ("test", "ood"))
    slices: dict[str, tuple[str, np.ndarray]] = {}
    absent, first = [], str(runs.table.index[0])
    if _same(test, runs.arrays(first)):
        rows = {name: test[name].to_numpy() for name in SLICES}
        slices = {name: ("", members) for name, members in rows.items() if _divides(members)}
    else:
        absent.append("`slices.csv` does not match the test texts of the runs: run notebook 01 again.")
    if _on_same_other_texts(runs):
        other = runs.arrays(first, "ood_")
        if _same(ood, other):
            slices[OTHER] = "ood_", np.ones(len(other["ids"]), dtype=bool)
        else:
            absent.append("`slices.csv` does not match the out-of-domain texts of the runs.")
    return Sliced(runs, slices, " ".join(absent))


def _divides(members: np.ndarray) -> bool:
    """Whether a slice holds, and leaves out, at least `LEAST` of the test texts."""
    return min(int(members.sum()), int((~members).sum())) >= LEAST


def _same(rows: pd.DataFrame, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the file's texts are those of the runs: equal ids and labels."""
    return np.array_equal(rows.index, arrays["ids"]) and np.array_equal(rows["label"], arrays["labels"])


def _on_same_other_texts(runs: Runs) -> bool:
    """Whether all runs were tested on the same out-of-domain texts."""
    if not has_ood(runs):
        return False
    first, *others = (runs.arrays(str(run_id), "ood_") for run_id in runs.table.index)
    return all(np.array_equal(other[name], first[name]) for other in others for name in ("ids", "labels"))


def scores(sliced: Sliced) -> pd.DataFrame:
    """A row per slice on which the metric is defined, strategy, size (and further axis).

    Columns: `slice`, `reviews`, those of `varying`, the study's metric (mean over seeds), its interval `low`,
    `high`, `run_ids`.
    """
    axes, table, metric = varying(sliced.runs), groups(sliced.runs), sliced.runs.study.metric
    rows = []
    for name, (_, members) in sliced.slices.items():
        shared = sliced.seeds(name)
        for row in table.to_dict("records"):
            score = interval(sliced.scored(name, row["run_ids"]), shared)
            key = (row[axis] for axis in axes)
            rows.append((name, int(members.sum()), *key, score.estimate, score.low, score.high, row["run_ids"]))
    columns = ["slice", "reviews", *axes, metric, "low", "high", "run_ids"]
    return pd.DataFrame(rows, columns=columns).dropna(subset=metric)  # AUC on texts of one class


def differences(sliced: Sliced, on_slices: pd.DataFrame) -> pd.DataFrame:
    """Every strategy against the baseline strategy on every slice of at least `LEAST` texts, at the same size.

    `on_slices` is of `scores`. Columns: `slice`, `reviews`, those of `accuracy.against_baseline`; the correction is
    over all rows. Empty where there is nothing to compare.
    """
    base, columns = sliced.runs.study.baseline, ["slice", "reviews", *varying(sliced.runs)]
    rows, comparisons, overall = [], [], runs_seed_variance(sliced.runs)
    cells = groups(sliced.runs).query("strategy == @base")["run_ids"]
    poor = {tuple(ids): at_chance(sliced.runs, sliced.runs.scored(ids), overall) for ids in cells}
    for name, on_slice in on_slices[on_slices["reviews"] >= LEAST].groupby("slice", sort=False):
        shared = sliced.seeds(str(name))
        for row, other in pairs(on_slice, base):
            rows.append({column: row[column] for column in columns})
            ours, theirs = (sliced.scored(str(name), side["run_ids"]) for side in (row, other))
            comparisons.append(compare(ours, theirs, shared, poor[tuple(other["run_ids"])]))
    return family(rows, comparisons, sliced.runs.study.margin)


def selection(scores: pd.DataFrame, compared: pd.DataFrame, baseline: str) -> list[str]:
    """The titles of the variants at the largest budget that a figure has room for: those that differ most on one slice.

    The slice is the largest one; the strategy `baseline` is always among them.
    """
    rows = largest(compared if len(compared) else scores)
    if len(rows):
        rows = rows[rows["slice"] == rows.loc[rows["reviews"].idxmax(), "slice"]]
    rows = few(rows, "difference", baseline) if len(compared) else rows.head(FEW)
    base = largest(scores[scores["strategy"] == baseline])
    return list(dict.fromkeys(title(row) for row in [*base.to_dict("records"), *rows.to_dict("records")]))
