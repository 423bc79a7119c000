"""From finished runs to the tables of calibration. A run whose logits are not on record has no row here."""

from collections.abc import Collection
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.analysis.accuracy import few, groups, largest, title
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.statistics.calibration import expected_error, reliability, temperature

DRAWN = 8  # bins of a reliability diagram: those of `expected_error` are too many to tell apart


def measured(runs: Runs) -> pd.DataFrame:
    """A row per strategy, size (and further axis): how far the probabilities of the test reviews can be trusted.

    Columns: those of `varying`, `accuracy` (mean over seeds), `ece` with its interval `ece_low`, `ece_high`, and
    `run_ids`.
    """
    rows = []
    for row in _with_logits(runs):
        logits = _logits(runs, row["run_ids"])
        error, right = expected_error(logits, runs.labels), logits.argmax(axis=-1) == runs.labels
        scores = {"accuracy": float(right.mean()), "ece": error.estimate, "ece_low": error.low, "ece_high": error.high}
        rows.append(row | scores)
    return _table(rows)


def temperatures(runs: Runs) -> "pd.Series[float]":
    """The temperature of each run with logits that has one, fitted on its own validation reviews."""
    fitted: dict[str, float] = {}
    without = without_logits(runs)
    for run_id in map(str, runs.table.index):
        file = paths.run_folder(runs.study.name, run_id) / "validation_preds_and_labels.npz"
        if run_id not in without and file.exists():
            with suppress(StudyError):  # a damaged file
                arrays = runs.arrays(run_id, "validation_")
                fitted[run_id] = temperature(arrays["logits"], arrays["labels"])
    return pd.Series(fitted, dtype=float).dropna()


def scaled(runs: Runs, fitted: "pd.Series[float]") -> pd.DataFrame:
    """A row per strategy, size (and further axis): what a temperature changes on the test reviews.

    `fitted` is of `temperatures`; runs that it lacks are left out. Columns: those of `varying`, `temperature`
    (geometric mean over seeds), `ece`, `ece_after`, `run_ids`.
    """
    rows = []
    for row in _with_logits(runs, set(fitted.index)):
        logits, divisors = _logits(runs, row["run_ids"]), fitted[row["run_ids"]].to_numpy()
        before, after = (expected_error(values, runs.labels) for values in (logits, logits / divisors[:, None, None]))
        common = float(np.exp(np.log(divisors).mean()))
        rows.append(row | {"temperature": common, "ece": before.estimate, "ece_after": after.estimate})
    return _table(rows)


def without_logits(runs: Runs) -> list[str]:
    """The runs whose record has no logits for the test reviews, or some that are no numbers."""
    return [run_id for run_id in map(str, runs.table.index) if not np.isfinite(_logits(runs, [run_id])).all()]


def _logits(runs: Runs, run_ids: list[str]) -> np.ndarray:
    """The logits of some runs on the test reviews, shape (runs, n, classes)."""
    return np.stack([runs.arrays(run_id)["logits"] for run_id in run_ids])


def _with_logits(runs: Runs, chosen: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The rows of `groups`, each with those of its runs that have logits and, if given, are among the `chosen` ones."""
    left_out = set(without_logits(runs)) | (set() if chosen is None else set(runs.table.index) - set(chosen))
    rows = groups(runs)
    rows["run_ids"] = [[run_id for run_id in run_ids if run_id not in left_out] for run_ids in rows["run_ids"]]
    return rows[rows["run_ids"].map(len) > 0].to_dict("records")


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table whose last column is `run_ids`."""
    table = pd.DataFrame(rows)
    return table.assign(run_ids=table.pop("run_ids")) if rows else table


def diagram(runs: Runs, table: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """The reliability diagram at the largest budget: title -> strategy and `reliability`.

    Of many rows of `table`, those of the baseline and of the lowest and highest accuracies: an order by ECE would rank
    errors whose intervals overlap.
    """
    rows = few(largest(table), "accuracy", runs.study.baseline).to_dict("records")
    return {
        title(row): (row["strategy"], reliability(_logits(runs, row["run_ids"]), runs.labels, DRAWN)) for row in rows
    }
