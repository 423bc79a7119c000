"""All runs of a study as one table: what they left behind, and why some cannot be compared.

Nothing but the layout that README documents is read, so that another program may have written it.
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.data.labels import unnamed
from peft_study.errors import StudyError
from peft_study.files import replacing
from peft_study.records.layout import is_foreign, misnamed_folders
from peft_study.records.reading import read_arrays, read_log, read_run
from peft_study.study.study import Study, read_study

REASONS = 5  # of runs that cannot be compared, that an error lists


@dataclass(frozen=True)
class Runs:
    """All runs of a study that can be compared, and why the others cannot.

    `table` has a row per finished run, indexed by `run_id`: the variant's fields, then the blocks of `metrics.json`
    with dotted names (`test.accuracy`, `training.seconds`, `parameters.trainable`, ...), None or NaN where a record
    does not say. `missing` maps the other run ids to the reason. All runs of `table` were tested on the same reviews.
    `unrecorded` maps the run ids of `table` whose records are incomplete to what they leave out, see `reading.RunRead`.
    """

    study: Study
    table: pd.DataFrame
    missing: dict[str, str]
    unrecorded: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def labels(self) -> np.ndarray:
        """The true labels of the test reviews, shape (n,), in the order of the rows of `preds`."""
        return self.arrays(self.table.index[0])["labels"]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes 0, 1, ...: those on record, else those that the study gives, else any."""
        count = self.arrays(self.table.index[0])["logits"].shape[1]
        known = [self.table[name] for name in ("data.labels", "label_names") if name in self.table]
        stated = [tuple(map(str, names)) for column in known for names in column if isinstance(names, list)]
        return next((names for names in stated if len(names) == count), unnamed(count))

    def arrays(self, run_id: str, part: str = "") -> dict[str, np.ndarray]:
        """`preds`, `labels`, `logits` (NaN where not on record) and `ids` of a run on the test set.

        With `part="ood_"` they are those on the other test set.
        """
        return read_arrays(paths.run_folder(self.study.name, run_id) / f"{part}preds_and_labels.npz")

    def stated(self, *fields: str) -> pd.DataFrame:
        """The rows of `table` whose records state all these fields of the variant; elsewhere `study.yaml` does."""
        unsaid = {"params.yaml", *(f"params.yaml: {name}" for name in fields)}
        return self.table[[unsaid.isdisjoint(self.unrecorded.get(run_id, ())) for run_id in self.table.index]]

    @cached_property
    def preds(self) -> pd.DataFrame:
        """The predicted classes: a row per test review (indexed by its id), a column per run."""
        columns = {run_id: self.arrays(run_id) for run_id in self.table.index}
        return pd.DataFrame({run_id: pd.Series(arrays["preds"], arrays["ids"]) for run_id, arrays in columns.items()})

    def log(self, run_id: str) -> pd.DataFrame:
        """The Trainer's log of a run: a row per entry, with `step`, `epoch`, `loss`, `eval_loss`, `eval_accuracy`."""
        return read_log(paths.run_folder(self.study.name, run_id))


def load_runs(study_name: str) -> Runs:
    """Every run of a study. What is missing, broken or made with other values is named, and the rest is compared."""
    study = read_study(study_name)
    rows: dict[str, dict[str, Any]] = {}
    tested: dict[Hashable, dict[str, Hashable]] = {}
    missing: dict[str, str] = {}
    gaps: dict[str, list[str]] = {}
    for run_id, variant in study.variants.items():
        try:
            rows[run_id], sets, gaps[run_id] = read_run(paths.run_folder(study_name, run_id), variant)
            for test_set, reviews in sets.items():
                tested.setdefault(test_set, {})[run_id] = reviews
        except StudyError as error:
            missing[run_id] = str(error)
    for test_set, of_runs in tested.items():
        for run_id, other in _odd_ones_out(of_runs).items():
            rows.pop(run_id, None)
            reason = _other_reviews(paths.run_folder(study_name, run_id), test_set, of_runs, other)
            missing.setdefault(run_id, reason)
    for name, run_id in misnamed_folders(study).items():
        if run_id in missing:
            missing[run_id] += f"; {name} is no run of this study; did you mean {run_id}?"
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "run_id"
    return Runs(
        study,
        table,
        {run_id: missing[run_id] for run_id in study.variants if run_id in missing},
        {run_id: gaps[run_id] for run_id in rows if gaps[run_id]},
    )


def _odd_ones_out(tested: Mapping[str, Hashable]) -> dict[str, str]:
    """The runs that were not tested on the reviews of most (of equally many: the first), and the first that was."""
    common = Counter(tested.values()).most_common(1)[0][0]
    typical = next(run_id for run_id, reviews in tested.items() if reviews == common)
    return {run_id: typical for run_id, reviews in tested.items() if reviews != common}


def _other_reviews(folder: Path, test_set: Hashable, tested: Mapping[str, Any], other: str) -> str:
    """Why the run in `folder` cannot be compared with the run `other`, whose reviews of a test set are not its own."""
    if test_set == "fingerprint":
        differs, mend = f"its data.fingerprint in metrics.json differs from that of {other}", "correct it"
    else:
        mine, its = tested[folder.name], tested[other]
        file = "" if test_set == "test" else " in ood_preds_and_labels.npz"
        differs = f"its {'ids' if mine[0] != its[0] else 'labels'}{file} differ from those of {other}"
        mend = "write them anew"
    mend = mend if is_foreign(folder) else "delete its folder and run the study again"
    return f"it was tested on other reviews: {differs}; {mend}"


def require_runs(runs: Runs) -> None:
    """Raise `StudyError` with the reasons, at most `REASONS` of them, where no run at all can be compared."""
    if runs.table.empty:
        told = [f"{run_id}: {reason}" for run_id, reason in runs.missing.items()]
        told.sort(key=lambda line: line.endswith(": not finished"))  # what can be mended first
        unknown = [name for name, run_id in misnamed_folders(runs.study).items() if not run_id]
        told = [*(f"{name} is no run of this study" for name in unknown[:1]), *told]
        more = [f"and {len(told) - REASONS} more"] if len(told) > REASONS else []
        reasons = "".join(f"\n  {line}" for line in [*told[:REASONS], *more])
        raise StudyError(
            f"no run of the study {runs.study.name!r} can be compared yet; ./run_all.sh {runs.study.name} makes "
            f"them{reasons}"
        )


def write_aggregate(runs: Runs) -> Path:
    """`aggregated_metrics.csv`: the table of all finished runs."""
    file = paths.study_folder(runs.study.name) / "aggregated_metrics.csv"
    with replacing(file) as partial:
        runs.table.to_csv(partial)
    return file


def write_answer(study: str, text: str) -> None:
    """`answer.md`: the study's answer in a paragraph, for whoever quotes it."""
    with replacing(paths.report_folder(study) / "answer.md") as partial:
        partial.write_text(text + "\n", encoding="utf-8")
