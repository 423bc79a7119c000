"""From runs and slices to tables: accuracy on each slice, and differences from the baseline strategy there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import counterpart, family, grouped, title, varying
from peft_study.analysis.selection import FEW, few, largest
from peft_study.data.slices import OTHER, SLICES
from peft_study.records.read import Runs
from peft_study.report.tables import has_ood
from peft_study.statistics.intervals import interval
from peft_study.statistics.paired_tests import compare
from peft_study.text import UNKNOWN, p_text, points

LEAST = 50  # reviews: a smaller slice is listed, but no verdict is given on it


@dataclass(frozen=True)
class Sliced:
    """The slices of a study that belong to its runs.

    `parts` has, for "test" and "ood" where there are such slices, the predicted classes (a row per review, a column per
    run) and the labels; `slices` maps a slice's name to its part and its rows there. `absent` says what is missing.
    """

    runs: Runs
    parts: dict[str, tuple[pd.DataFrame, np.ndarray]]
    slices: dict[str, tuple[str, np.ndarray]]
    absent: str = ""

    def preds(self, name: str, run_ids: list[str]) -> np.ndarray:
        """The predicted classes of some runs on a slice, shape (runs, reviews)."""
        part, rows = self.slices[name]
        return self.parts[part][0].loc[rows, run_ids].to_numpy().T

    def labels(self, name: str) -> np.ndarray:
        """The true classes of a slice, shape (reviews,)."""
        part, rows = self.slices[name]
        return self.parts[part][1][rows]


def match(runs: Runs, table: pd.DataFrame | None) -> Sliced:
    """The slices of `table` (from `load_slices`), where ids and labels are those that the runs were tested on."""
    if table is None:
        told = "The slices are not there, or damaged: `01_explore_data.ipynb` makes them (`slices.csv`)."
        return Sliced(runs, {}, {}, told)
    known = {str(part): rows.set_index("id").sort_index() for part, rows in table.groupby("part")}
    parts, slices, absent = {}, {}, []
    if "test" in known and _same(known["test"], runs.preds, runs.labels):
        parts["test"] = runs.preds.set_axis(range(len(runs.preds))), runs.labels
        rows = {name: known["test"][name].to_numpy() for name in SLICES}
        slices = {name: ("test", members) for name, members in rows.items() if not members.all()}  # all: no slice
    else:
        absent.append("The slices in `slices.csv` are of other test reviews than the runs': run 01 again.")
    if (other := _other(runs)) is not None:
        if "ood" in known and _same(known["ood"], *other):
            parts["ood"] = other[0].set_axis(range(len(other[0]))), other[1]
            slices[OTHER] = "ood", np.ones(len(other[1]), dtype=bool)
        else:
            absent.append("The reviews of another kind in `slices.csv` are not those that the runs were tested on.")
    return Sliced(runs, parts, slices, " ".join(absent))


def _same(rows: pd.DataFrame, preds: pd.DataFrame, labels: np.ndarray) -> bool:
    """Whether the file's reviews are those of the runs: equal ids and labels."""
    return np.array_equal(rows.index, preds.index) and np.array_equal(rows["label"], labels)


def _other(runs: Runs) -> tuple[pd.DataFrame, np.ndarray] | None:
    """Predictions and labels of the other reviews; None where not all runs were tested on the same ones."""
    if not has_ood(runs):
        return None
    arrays = {run_id: runs.arrays(str(run_id), "ood_") for run_id in runs.table.index}
    first = next(iter(arrays.values()))
    if not all(np.array_equal(array[name], first[name]) for array in arrays.values() for name in ("ids", "labels")):
        return None
    return pd.DataFrame({run: array["preds"] for run, array in arrays.items()}, first["ids"]), first["labels"]


def accuracies(sliced: Sliced) -> pd.DataFrame:
    """A row per slice that has reviews, strategy, size (and further axis).

    Columns: `slice`, `reviews`, those of `varying`, `accuracy` (mean over seeds), its interval `low`,
    `high`, `run_ids`.
    """
    axes = varying(sliced.runs)
    rows = []
    for name in sliced.slices:
        if len(labels := sliced.labels(name)):
            for key, group in grouped(sliced.runs):
                found = interval(sliced.preds(name, list(group.index)), labels)
                rows.append((name, len(labels), *key, found.estimate, found.low, found.high, list(group.index)))
    return pd.DataFrame(rows, columns=["slice", "reviews", *axes, "accuracy", "low", "high", "run_ids"])


def differences(sliced: Sliced, scores: pd.DataFrame) -> pd.DataFrame:
    """Every strategy against the baseline strategy on every slice of at least `LEAST` reviews, at the same size.

    `scores` is of `accuracies`. Columns: `slice`, `reviews`, those of `comparison_tables.against_baseline`; the
    correction is over all rows. Empty where there is nothing to compare.
    """
    rows, found = [], []
    for name, row, other in _pairs(sliced, scores):
        rows.append({column: row[column] for column in ("slice", "reviews", *varying(sliced.runs))})
        ours, theirs = (sliced.preds(name, ids) for ids in (row["run_ids"], other["run_ids"]))
        found.append(compare(ours, theirs, sliced.labels(name)))
    return family(rows, found, sliced.runs.study.margin)


def _pairs(sliced: Sliced, scores: pd.DataFrame) -> Iterator[tuple[str, dict[Any, Any], Any]]:
    """The slice, the row of a strategy and that of the baseline strategy, for each comparison."""
    base = sliced.runs.study.baseline
    for name, rows in scores[scores["reviews"] >= LEAST].groupby("slice", sort=False):
        for row in rows[rows["strategy"] != base].to_dict("records"):
            if (other := counterpart(row, rows, base)) is not None:
                yield str(name), row, other


def shown(scores: pd.DataFrame, compared: pd.DataFrame, baseline: str) -> list[str]:
    """The titles of the variants at the largest budget to be shown: of many, those that differ most on one slice.

    The slice is the largest one; the strategy `baseline` is always among them.
    """
    rows = largest(compared)
    if len(rows):
        rows = rows[rows["slice"] == rows.loc[rows["reviews"].idxmax(), "slice"]]
    else:
        rows = largest(scores).drop_duplicates([c for c in scores if c not in _OWN]).head(FEW)
    base = largest(scores[scores["strategy"] == baseline]).to_dict("records")
    return list(dict.fromkeys(title(row) for row in [*base, *few(rows, "difference", baseline).to_dict("records")]))


_OWN = ("slice", "reviews", "accuracy", "low", "high", "run_ids")


def printed(scores: pd.DataFrame, compared: pd.DataFrame, titles: list[str]) -> pd.DataFrame:
    """Accuracies and differences at the largest budget, slice by slice, of the variants with these `titles`."""
    axes = [axis for axis in scores if axis == "slice" or axis not in _OWN]
    cells = {}
    for row in largest(scores).to_dict("records"):
        if title(row) not in titles:
            continue
        same = compared[(compared[axes] == pd.Series(row)[axes]).all(axis=1)] if len(compared) else compared
        cells[SLICES.get(row["slice"], row["slice"]), f"{row['reviews']:,}", title(row)] = {
            "accuracy (%)": f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]",
            "difference": UNKNOWN,
            "test (corrected)": UNKNOWN,
            "verdict": UNKNOWN,
        } | next((_difference(found) for found in same.to_dict("records")), {})
    table = pd.DataFrame.from_dict(cells, orient="index")
    return table.rename_axis(["slice", "test reviews", "strategy"]) if cells else table


def _difference(row: dict[Any, Any]) -> dict[str, str]:
    """A comparison as it is printed."""
    return {
        "difference": f"{points(row['difference'])} [{points(row['low'])}, {points(row['high'])}]",
        "test (corrected)": p_text(row["corrected_p"]),
        "verdict": row["verdict"],
    }
