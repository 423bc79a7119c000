"""The protocol: when it was planned, how the analysis deviates from the plan, how tested checkpoints were selected."""

from datetime import UTC

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.git import last_change
from peft_study.records.read import Runs
from peft_study.statistics.calibration import losses
from peft_study.text import listed


def selected_on_test(runs: Runs) -> list[str]:
    """The runs of another program whose log evaluates the test set, not a validation set.

    At the selected step, or where none is on record at any, the log's accuracy is that of the test predictions, and so,
    where both are known, is its loss (to 1 %, since other software computed it).
    """
    return [run_id for run_id in runs.foreign if _evaluates_the_test_set(runs, run_id)]


def _evaluates_the_test_set(runs: Runs, run_id: str) -> bool:
    row, arrays = runs.table.loc[run_id], runs.arrays(run_id)
    log = runs.log(run_id).reindex(columns=["step", "eval_accuracy", "eval_loss"]).dropna(subset="eval_accuracy")
    if pd.notna(step := row.get("training.selected_step")):
        log = log[log["step"] == step]
    loss = losses(arrays["logits"], arrays["labels"]).mean()  # NaN where not on record
    same = np.isclose(log["eval_accuracy"].astype(float), row["test.accuracy"], rtol=0, atol=1e-4)
    known = log["eval_loss"].notna() & np.isfinite(loss)
    return bool((same & (~known | np.isclose(log["eval_loss"].astype(float), loss, rtol=0.01))).any())


def described(runs: Runs) -> str:
    """The protocol, as far as the records prove it: that of this program, or how another one has used the test set."""
    if not runs.foreign:
        facts = ["exact duplicates are removed from the training split", "the test set selects no checkpoint"]
        if (runs.table["validation_fraction"] > 0).any():
            facts.insert(1, "validation texts count towards the budget")
        if runs.table["train_size"].nunique() > 1 and runs.table["data_seed"].nunique() == 1:
            facts.insert(0, "label budgets are nested")
        said = listed(facts)
        return f"{said[0].upper()}{said[1:]}."
    if not (used := selected_on_test(runs)):
        return ""
    return (
        f"**Selection on the test set.** In {len(used)} of {len(runs.table)} records, the log's evaluation at the "
        "tested step equals the test scores: the test set served for validation, so these accuracies may be optimistic."
    )


def planned(runs: Runs) -> str:
    """When the plan, `study.yaml`, was last changed: before or after the first run; empty where git does not tell."""
    change = last_change(paths.study_folder(runs.study.name) / "study.yaml")
    table = runs.table.reindex(columns=["environment.date", "training.wall_seconds"])
    ends = pd.to_datetime(table["environment.date"], errors="coerce", utc=True)
    starts = ends - pd.to_timedelta(pd.to_numeric(table["training.wall_seconds"], errors="coerce").fillna(0), unit="s")
    if change is None or starts.isna().any():
        return ""
    commit, moment = change
    order = "before" if moment < starts.min() else "after"
    return (
        f"The plan, `study.yaml`, was last changed in commit `{commit[:10]}` of {moment.astimezone(UTC):%Y-%m-%d}, "
        f"{order} the first of these runs began."
    )


def deviations(runs: Runs) -> str:
    """How the analysis deviates from the plan, in the authors' words: `deviations.md` beside `study.yaml`, if any."""
    file = paths.study_folder(runs.study.name) / "deviations.md"
    return f"**Deviations from the plan.** {file.read_text(encoding='utf-8').strip()}" if file.exists() else ""
