"""From finished runs to the tables of calibration. A run whose logits are not on record has no row here."""

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import few, groups, largest, title
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.statistics.calibration import expected_error, reliability, temperature


def measured(runs: Runs) -> pd.DataFrame:
    """A row per strategy, size (and further axis): how far the probabilities of the test texts can be trusted.

    Columns: those of `varying`, `accuracy` (mean over seeds), `ece` with its interval `ece_low`, `ece_high`,
    `temperature` (geometric mean over seeds) and `ece_after` scaling by it, both NaN unless every run has one, and
    `run_ids`.
    """
    rows = []
    for row in groups(runs).to_dict("records"):
        if run_ids := [run_id for run_id in row["run_ids"] if np.isfinite(_logits(runs, [run_id])).all()]:
            logits, divisors = _logits(runs, run_ids), np.array([_temperature(runs, run_id) for run_id in run_ids])
            error, right = expected_error(logits, runs.labels), logits.argmax(axis=-1) == runs.labels
            after = np.nan
            if np.isfinite(divisors).all():
                after = expected_error(logits / divisors[:, None, None], runs.labels).estimate
            scores = {"accuracy": right.mean(), "ece": error.estimate, "ece_low": error.low, "ece_high": error.high}
            scores |= {"temperature": np.exp(np.log(divisors).mean()), "ece_after": after}
            rows.append(row | scores | {"run_ids": run_ids})
    table = pd.DataFrame(rows)
    return table.assign(run_ids=table.pop("run_ids")) if rows else table


def _temperature(runs: Runs, run_id: str) -> float:
    """The temperature of a run by its own validation texts; NaN where these are not on record, or none is best."""
    try:
        arrays = runs.arrays(run_id, "validation_")
    except StudyError:
        return float("nan")
    return temperature(arrays["logits"], arrays["labels"])


def _logits(runs: Runs, run_ids: list[str]) -> np.ndarray:
    """The logits of some runs on the test texts, shape (runs, n, classes)."""
    return np.stack([runs.arrays(run_id)["logits"] for run_id in run_ids])


def diagram(runs: Runs, table: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """The reliability diagram at the largest budget: title -> strategy and `reliability`.

    Of many rows of `table`, those of the baseline and of the lowest and highest accuracies: an order by ECE would rank
    errors whose intervals overlap.
    """
    rows = few(largest(table), "accuracy", runs.study.baseline).to_dict("records")
    return {title(row): (row["strategy"], reliability(_logits(runs, row["run_ids"]), runs.labels)) for row in rows}
