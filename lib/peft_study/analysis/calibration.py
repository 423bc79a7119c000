"""From finished runs to the tables of calibration. A run whose logits are not on record has no row here."""

from typing import Any

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.analysis.accuracy import grouped, title, varying
from peft_study.analysis.selection import few, largest
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.report.tables import named
from peft_study.statistics.calibration import brier, expected_error, losses, overconfidence, reliability, temperature
from peft_study.text import points


def measured(runs: Runs) -> pd.DataFrame:
    """A row per strategy, size (and further axis): how far the probabilities of the test reviews can be trusted.

    Columns: those of `varying`, `accuracy`, `log_loss` (nats), `brier` (means over seeds), `ece` and `overconfidence`
    (confidence minus accuracy) with their intervals `ece_low`, `ece_high`, `overconfidence_low`,
    `overconfidence_high`, and `run_ids`.
    """
    rows = []
    for key, run_ids, logits in _groups(runs):
        error, over = expected_error(logits, runs.labels), overconfidence(logits, runs.labels)
        rows.append(
            {
                **key,
                "accuracy": float(np.mean(logits.argmax(axis=-1) == runs.labels)),
                "log_loss": float(losses(logits, runs.labels).mean()),
                "brier": float(brier(logits, runs.labels)),
                **{"ece": error.estimate, "ece_low": error.low, "ece_high": error.high},
                **{
                    "overconfidence": over.estimate,
                    "overconfidence_low": over.low,
                    "overconfidence_high": over.high,
                },
                "run_ids": run_ids,
            }
        )
    return pd.DataFrame(rows)


def scaled(runs: Runs, fitted: "pd.Series[float]") -> pd.DataFrame:
    """A row per strategy, size (and further axis): what a temperature changes on the test reviews.

    `fitted` is of `temperatures`; runs that it lacks are left out. Columns: those of `varying`, `temperature`
    (geometric mean over seeds), `log_loss`, `log_loss_after`, `change` (of the log-loss, with its 95 % interval
    `change_low`, `change_high` over reviews), `ece`, `ece_after`, `run_ids`.
    """
    rows = []
    for key, run_ids, logits in _groups(runs, set(fitted.index)):
        after = logits / fitted[run_ids].to_numpy()[:, None, None]
        before_losses, after_losses = (losses(all_, runs.labels).mean(axis=0) for all_ in (logits, after))
        change = after_losses - before_losses
        half = 1.96 * change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else np.inf
        rows.append(
            {
                **key,
                "temperature": float(np.exp(np.log(fitted[run_ids]).mean())),
                **{"log_loss": before_losses.mean(), "log_loss_after": after_losses.mean()},
                **{"change": change.mean(), "change_low": change.mean() - half, "change_high": change.mean() + half},
                "ece": expected_error(logits, runs.labels).estimate,
                "ece_after": expected_error(after, runs.labels).estimate,
                "run_ids": run_ids,
            }
        )
    return pd.DataFrame(rows)


def temperatures(runs: Runs) -> tuple["pd.Series[float]", dict[str, str]]:
    """The temperature of each run, fitted on its own validation reviews; why the other runs have none."""
    found: dict[str, float] = {}
    reasons: dict[str, str] = {}
    bare = without_logits(runs)
    for run_id in map(str, runs.table.index):
        file = paths.run_folder(runs.study.name, run_id) / "validation_preds_and_labels.npz"
        if run_id in bare or not file.exists():
            reasons[run_id] = _NO_LOGITS if run_id in bare else "no validation predictions are on record"
            continue
        try:
            arrays = runs.arrays(run_id, "validation_")
            found[run_id] = temperature(arrays["logits"], arrays["labels"])
        except StudyError as error:
            reasons[run_id] = str(error)
    return pd.Series(found, dtype=float), reasons


_NO_LOGITS = "its logits are not on record, or not all of them are numbers"


def without_logits(runs: Runs) -> list[str]:
    """The runs whose record has no logits for the test reviews, or some that are no numbers."""
    return [run_id for run_id in map(str, runs.table.index) if not np.isfinite(_logits(runs, run_id)).all()]


def _logits(runs: Runs, run_id: str) -> np.ndarray:
    """The logits of a run on the test reviews, shape (n, classes)."""
    return runs.arrays(run_id)["logits"]


def _groups(runs: Runs, chosen: set[str] | None = None) -> list[tuple[dict[str, Any], list[str], np.ndarray]]:
    """For each group of runs that differ by seed only: what it is, the run ids that have logits, and these.

    `chosen` leaves other runs out. They have the shape (runs, n, classes).
    """
    found = []
    for key, group in grouped(runs):
        logits = {str(run): _logits(runs, str(run)) for run in group.index if chosen is None or str(run) in chosen}
        logits = {run: values for run, values in logits.items() if np.isfinite(values).all()}
        if logits:
            found.append((dict(zip(varying(runs), key, strict=True)), list(logits), np.stack(list(logits.values()))))
    return found


def diagram(runs: Runs, table: pd.DataFrame) -> dict[str, tuple[str, pd.DataFrame]]:
    """The reliability diagram at the largest budget: title -> strategy and `reliability`; of many, a few of `table`."""
    rows = few(largest(table), "ece", runs.study.baseline).to_dict("records")
    return {
        title(row): (
            row["strategy"],
            reliability(np.stack([_logits(runs, run) for run in row["run_ids"]]), runs.labels),
        )
        for row in rows
    }


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """`measured` as it is printed."""
    rows = table.to_dict("records")
    shown = table[[column for column in table if column not in _OWN]]
    return named(
        shown.assign(
            **{
                "log-loss (nats)": table["log_loss"].map("{:.3f}".format),
                "Brier score": table["brier"].map("{:.3f}".format),
                "ECE (points)": [_interval(row, "ece", "{:.1f}".format) for row in rows],
                "confidence − accuracy (points)": [_interval(row, "overconfidence", points) for row in rows],
            }
        )
    )


def scaling(table: pd.DataFrame) -> pd.DataFrame:
    """`scaled` as it is printed."""
    rows = table.to_dict("records")
    shown = table[[column for column in table if column not in _OWN]]
    return named(
        shown.assign(
            **{
                "temperature": table["temperature"].map("{:.2f}".format),
                "log-loss": [f"{row['log_loss']:.3f} → {row['log_loss_after']:.3f}" for row in rows],
                "ECE (points)": [f"{100 * row['ece']:.1f} → {100 * row['ece_after']:.1f}" for row in rows],
            }
        )
    )


_OWN = {
    *("accuracy", "log_loss", "brier", "ece", "ece_low", "ece_high", "run_ids", "temperature", "log_loss_after"),
    *("overconfidence", "overconfidence_low", "overconfidence_high", "change", "change_low", "change_high"),
    "ece_after",
}


def _interval(row: dict[Any, Any], name: str, form: Any) -> str:
    """A share with its interval, in points."""
    value, low, high = (form(100 * row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"
