"""From runs and slices to tables: accuracy on each slice, and differences from the baseline strategy there."""

from dataclasses import dataclass

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
    title,
    varying,
)
from peft_study.analysis.slice_rules import OTHER, SLICES
from peft_study.records.read import Runs
from peft_study.statistics.intervals import SeedVariance, interval, seed_variance
from peft_study.statistics.paired_tests import compare

LEAST = 50  # texts: fewer allow no verdict


@dataclass(frozen=True)
class Sliced:
    """The slices of a study that belong to its runs.

    `parts` has, for "test" and "ood" where there are such slices, which texts are classified correctly (a row per
    text, a column per run); `slices` maps a slice's name to its part and its rows there. `absent` says what is
    missing.
    """

    runs: Runs
    parts: dict[str, pd.DataFrame]
    slices: dict[str, tuple[str, np.ndarray]]
    absent: str = ""

    def right(self, name: str, run_ids: list[str]) -> np.ndarray:
        """Which texts of a slice some runs classify correctly, shape (runs, texts)."""
        part, rows = self.slices[name]
        return self.parts[part].loc[rows, run_ids].to_numpy().T

    def seeds(self, name: str) -> SeedVariance:
        """The variance of the accuracy on a slice between seeds, which all variants share."""
        return seed_variance([self.right(name, ids) for ids in groups(self.runs)["run_ids"]])


def match(runs: Runs, table: pd.DataFrame | None) -> Sliced:
    """The slices of `table` (from `load_slices`), where ids and labels are those that the runs were tested on."""
    if table is None:
        return Sliced(runs, {}, {}, "No slices: `slices.csv`, which notebook 01 writes, is absent or damaged.")
    by_part = {str(part): rows.set_index("id").sort_index() for part, rows in table.groupby("part")}
    parts, slices, absent = {}, {}, []
    if "test" in by_part and _same(by_part["test"], runs.preds, runs.labels):
        parts["test"] = _right(runs.preds, runs.labels)
        rows = {name: by_part["test"][name].to_numpy() for name in SLICES}
        slices = {name: ("test", members) for name, members in rows.items() if _divides(members)}
    else:
        absent.append("`slices.csv` does not match the test texts of the runs: run notebook 01 again.")
    if (other := _out_of_domain(runs)) is not None:
        if "ood" in by_part and _same(by_part["ood"], *other):
            parts["ood"] = _right(*other)
            slices[OTHER] = "ood", np.ones(len(other[1]), dtype=bool)
        else:
            absent.append("`slices.csv` does not match the out-of-domain texts of the runs.")
    return Sliced(runs, parts, slices, " ".join(absent))


def _divides(members: np.ndarray) -> bool:
    """Whether a slice holds, and leaves out, at least `LEAST` of the test texts."""
    return min(int(members.sum()), int((~members).sum())) >= LEAST


def _same(rows: pd.DataFrame, preds: pd.DataFrame, labels: np.ndarray) -> bool:
    """Whether the file's texts are those of the runs: equal ids and labels."""
    return np.array_equal(rows.index, preds.index) and np.array_equal(rows["label"], labels)


def _right(preds: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """Which predictions are correct, by their place."""
    return preds.eq(labels, axis=0).reset_index(drop=True)


def _out_of_domain(runs: Runs) -> tuple[pd.DataFrame, np.ndarray] | None:
    """Predictions and labels of the out-of-domain texts; None where not all runs were tested on the same ones."""
    if not has_ood(runs):
        return None
    arrays = {run_id: runs.arrays(str(run_id), "ood_") for run_id in runs.table.index}
    first = next(iter(arrays.values()))
    if not all(np.array_equal(array[name], first[name]) for array in arrays.values() for name in ("ids", "labels")):
        return None
    return pd.DataFrame({run: array["preds"] for run, array in arrays.items()}, first["ids"]), first["labels"]


def accuracies(sliced: Sliced) -> pd.DataFrame:
    """A row per slice that has texts, strategy, size (and further axis).

    Columns: `slice`, `reviews`, those of `varying`, `accuracy` (mean over seeds), its interval `low`,
    `high`, `run_ids`.
    """
    axes, table = varying(sliced.runs), groups(sliced.runs)
    rows = []
    for name, (_, members) in sliced.slices.items():
        if members.any():
            shared = sliced.seeds(name)
            for row in table.to_dict("records"):
                score = interval(sliced.right(name, row["run_ids"]), shared)
                key = (row[axis] for axis in axes)
                rows.append((name, int(members.sum()), *key, score.estimate, score.low, score.high, row["run_ids"]))
    return pd.DataFrame(rows, columns=["slice", "reviews", *axes, "accuracy", "low", "high", "run_ids"])


def differences(sliced: Sliced, scores: pd.DataFrame) -> pd.DataFrame:
    """Every strategy against the baseline strategy on every slice of at least `LEAST` texts, at the same size.

    `scores` is of `accuracies`. Columns: `slice`, `reviews`, those of `accuracy.against_baseline`; the correction is
    over all rows. Empty where there is nothing to compare.
    """
    base, columns = sliced.runs.study.baseline, ["slice", "reviews", *varying(sliced.runs)]
    rows, comparisons, overall = [], [], runs_seed_variance(sliced.runs)
    cells = groups(sliced.runs).query("strategy == @base")["run_ids"]
    poor = {tuple(ids): at_chance(sliced.runs, sliced.runs.right(ids), overall) for ids in cells}
    for name, on_slice in scores[scores["reviews"] >= LEAST].groupby("slice", sort=False):
        shared = sliced.seeds(str(name))
        for row, other in pairs(on_slice, base):
            rows.append({column: row[column] for column in columns})
            ours, theirs = (sliced.right(str(name), side["run_ids"]) for side in (row, other))
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
