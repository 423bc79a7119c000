"""What somebody else reported of a study's variants, `runs/<study>/reference.csv`, beside what its own runs reached.

The file is optional. Its first lines are comments, `# source: ...` (who reported it, in Markdown, with a key of
notebooks/references.bib) and `# protocol: ...` (what was done otherwise); then come the columns of `Reported`, of which
those that have a default may be left out, or empty. Scores are fractions of 1.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peft_study import paths
from peft_study.errors import StudyError, unknown
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import describe

FILE = "reference.csv"
Share = Annotated[float, Field(ge=0, le=1)]


class Reported(BaseModel):
    """One row: a variant by its strategy and budget, and what was reported of it. `seconds` are those of training."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strategy: str
    train_size: Annotated[int, Field(ge=1)]
    accuracy: Share
    macro_f1: Share | None = None
    balanced_accuracy: Share | None = None
    auc: Share | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    trainable: Annotated[int, Field(ge=1)] | None = None


MEASURED = [name for name in Reported.model_fields if name not in ("strategy", "train_size")]


@dataclass(frozen=True)
class Reference:
    """The rows of a reference (the columns of `Reported`, NaN where nothing was reported), its source and protocol."""

    source: str
    protocol: str
    table: pd.DataFrame


def load_reference(study: str) -> Reference | None:
    """The reference of a study, if it has one. Raises `StudyError` with the line and the field that is at fault."""
    file = paths.study_folder(study) / FILE
    if not file.exists():
        return None
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    notes = dict(re.findall(r"^# *(\w+): *(.+)$", "\n".join(lines), re.MULTILINE))
    if absent := [name for name in ("source", "protocol") if name not in notes]:
        raise StudyError(f"{file} does not say its {absent[0]}; begin it with a line `# {absent[0]}: ...`")
    content = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() and line[0] != "#"]
    try:
        table = list(csv.DictReader((line for _, line in content), restkey="too many", strict=True))
    except csv.Error as error:
        raise StudyError(f"{file} is not readable as CSV: {error}") from error
    rows = [_row(file, number, row) for (number, _), row in zip(content[1:], table, strict=False)]
    names = [(row.strategy, row.train_size) for row in rows]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise StudyError(f"{file} has two rows for {twice[0][0]} with train_size {twice[0][1]}; remove one of them")
    shown = pd.DataFrame([row.model_dump() for row in rows], columns=list(Reported.model_fields))
    return Reference(notes["source"], notes["protocol"], shown)


def _row(file: Path, number: int, row: dict[str, str | None]) -> Reported:
    """One line of the file, checked."""
    try:
        reported = Reported.model_validate({name: value for name, value in row.items() if value not in ("", None)})
    except ValidationError as error:
        raise StudyError(f"{file}, line {number}: {'; '.join(describe(error, Reported))}") from error
    if reported.strategy not in STRATEGIES:
        raise StudyError(f"{file}, line {number}: {unknown('strategy', reported.strategy, STRATEGIES)}")
    return reported


def beside(reference: Reference | None, summary: pd.DataFrame, costs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each variant whose `metric` was reported and of which a run is finished; none without a reference.

    `summary` and `costs` are the comparison's tables. Columns: those that name a variant; the metric with `low` and
    `high`, `seconds` and `trainable` of the runs here; the scores of the reference, `seconds` and `trainable` under
    `reported_`; `difference` (here less reported, in points).
    """
    keys = list(summary.columns[: summary.columns.get_loc(metric)])
    costs = costs.rename(columns={"training.seconds": "seconds", "parameters.trainable": "trainable"})
    here = summary[[*keys, metric, "low", "high"]].merge(costs[[*keys, "seconds", "trainable"]], on=keys)
    there = reference.table if reference else pd.DataFrame(columns=list(Reported.model_fields))
    there = there.astype({"train_size": "int64"} | dict.fromkeys(MEASURED, float))
    both = here.merge(there.rename(columns={name: f"reported_{name}" for name in MEASURED}))
    both = both.dropna(subset=f"reported_{metric}")
    return both.assign(difference=100 * (both[metric] - both[f"reported_{metric}"]))
