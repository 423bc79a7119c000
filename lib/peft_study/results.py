"""All runs of a study as one table: what they left behind, and why some cannot be compared.

Nothing but the layout that README documents is read, so that another program may have written it.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from peft_study import paths
from peft_study.config import Study, Variant, read_study
from peft_study.errors import StudyError
from peft_study.folders import changed, replacing
from peft_study.records import ARRAYS


@dataclass(frozen=True)
class Runs:
    """All runs of a study that can be compared, and why the others cannot.

    `table` has a row per finished run, indexed by `run_id`: the variant's fields, then the blocks of `metrics.json`
    with dotted names (`test.accuracy`, `training.seconds`, `parameters.trainable`, ...). `missing` maps the other run
    ids to the reason. All runs of `table` were tested on the same reviews.
    """

    study: Study
    table: pd.DataFrame
    missing: dict[str, str]

    @cached_property
    def labels(self) -> np.ndarray:
        """The true labels of the test reviews, shape (n,), in the order of the rows of `preds`."""
        return self.arrays(self.table.index[0])["labels"]

    def arrays(self, run_id: str, part: str = "") -> dict[str, np.ndarray]:
        """`preds`, `labels`, `logits` and `ids` of a run on the test set, or with `part="ood_"` on the other one."""
        return _read_arrays(paths.run_folder(self.study.name, run_id) / f"{part}preds_and_labels.npz")

    @cached_property
    def preds(self) -> pd.DataFrame:
        """The predicted classes: a row per test review (indexed by its id), a column per run."""
        columns = {run_id: self.arrays(run_id) for run_id in self.table.index}
        return pd.DataFrame({run_id: pd.Series(arrays["preds"], arrays["ids"]) for run_id, arrays in columns.items()})

    def log(self, run_id: str) -> pd.DataFrame:
        """The Trainer's log of a run: a row per entry, with `step`, `epoch`, `loss`, `eval_loss`, `eval_accuracy`."""
        return read_log(paths.run_folder(self.study.name, run_id))


def read_log(folder: Path) -> pd.DataFrame:
    """A run's `log_history.json` as a table: a row per entry, always with `step` and `epoch`."""
    file = folder / "log_history.json"
    with _reading(file):
        log = pd.DataFrame(list(map(dict, json.loads(file.read_text(encoding="utf-8")))))
        return log.reindex(columns=list(dict.fromkeys(["step", "epoch", *log.columns])))


def load_runs(study_name: str) -> Runs:
    """Every run of a study. What is missing, broken or made with other values is named, and the rest is compared."""
    study = read_study(study_name)
    rows: dict[str, dict[str, Any]] = {}
    tested: dict[Hashable, dict[str, Hashable]] = {}
    missing: dict[str, str] = {}
    for run_id, variant in study.variants.items():
        try:
            rows[run_id], sets = _read_run(study_name, run_id, variant)
            for test_set, reviews in sets.items():
                tested.setdefault(test_set, {})[run_id] = reviews
        except StudyError as error:
            missing[run_id] = str(error)
    for run_id in {run_id for runs in tested.values() for run_id in _odd_ones_out(runs)}:
        del rows[run_id]
        missing[run_id] = "it was tested on other reviews than most runs; delete its folder and run the study again"
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "run_id"
    return Runs(study, table, {run_id: missing[run_id] for run_id in study.variants if run_id in missing})


def _odd_ones_out(tested: Mapping[str, Hashable]) -> list[str]:
    """The runs that were not tested on the reviews on which most (of equally many: the first) were."""
    common = Counter(tested.values()).most_common(1)
    return [run_id for run_id, reviews in tested.items() if reviews != common[0][0]]


def require_runs(runs: Runs) -> None:
    """Raise `StudyError` with every reason where no run at all can be compared."""
    if runs.table.empty:
        reasons = "".join(f"\n  {run_id}: {reason}" for run_id, reason in runs.missing.items())
        raise StudyError(
            f"no run of the study {runs.study.name!r} can be compared yet; ./run_all.sh {runs.study.name} makes "
            f"them{reasons}"
        )


def _read_run(study: str, run_id: str, variant: Variant) -> tuple[dict[str, Any], dict[Hashable, Hashable]]:
    """The row of a finished run; for each of its test sets, what tells the reviews in it from others.

    Raises `StudyError` with the reason where the run cannot be compared: all that the comparison reads is read here.
    """
    folder = paths.run_folder(study, run_id)
    if not (folder / "train.ipynb").exists():
        raise StudyError(
            "failed or was stopped: see train.log" if (folder / "train.partial.ipynb").exists() else "not finished"
        )
    with _reading(folder / "params.yaml"):
        values = dict(yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")))
    if other := changed(values, variant):
        raise StudyError(
            f"made with other values than study.yaml now asks for (params.yaml: {', '.join(other)}); run the study "
            "again"
        )
    metrics = _read_metrics(folder / "metrics.json")
    read_log(folder)
    tests: dict[Hashable, str] = {"": ""}
    if "ood.accuracy" in metrics:
        tests[variant.ood_dataset, variant.ood_size, variant.data_seed] = "ood_"
    arrays = {test: _read_arrays(folder / f"{part}preds_and_labels.npz") for test, part in tests.items()}
    seen = {test: (array["ids"].tobytes(), array["labels"].tobytes()) for test, array in arrays.items()}
    return variant.model_dump() | metrics, {**seen, "fingerprint": metrics.get("data.fingerprint")}


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn whatever a missing or damaged `file` leads to into one `StudyError` that names it."""
    again = "delete the run's folder and run the study again"
    try:
        yield
    except FileNotFoundError as error:
        raise StudyError(f"{file.name} is missing; {again}") from error
    except OSError as error:
        raise StudyError(f"{file.name} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes raise whatever they lead to
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise StudyError(f"{file.name} is corrupt ({told}); {again}") from error


def _read_metrics(file: Path) -> dict[str, Any]:
    """`metrics.json` as one flat dict of dotted names."""
    with _reading(file):
        blocks = json.loads(file.read_text(encoding="utf-8"))
        flat = {
            f"{block}.{key}": value
            for block in ("data", "parameters", "training", "cost", "environment")
            for key, value in blocks[block].items()
        }
        for part in ("validation", "test", "ood"):
            scores = blocks["evaluation"].get(part) or {}
            flat |= {f"{part}.{key}": value for key, value in scores.items()}
        return flat | {
            "test.seconds": blocks["evaluation"].get("test_seconds"),
            "test.accuracy": float(flat["test.accuracy"]),
        }


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a predictions file, in the order of the reviews' ids. Pickle is never loaded."""
    with _reading(file):
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ARRAYS}
        shapes = {name: array.shape for name, array in arrays.items()}
        count = len(arrays["ids"])
        if shapes != {"preds": (count,), "labels": (count,), "logits": (count, 2), "ids": (count,)} or not count:
            raise ValueError(f"the shapes of its arrays do not fit: {shapes}")
        if not all(np.isin(arrays[name], (0, 1)).all() for name in ("preds", "labels")):
            raise ValueError("its classes are not all 0 or 1")
        if len(np.unique(arrays["ids"])) < count:
            raise ValueError("it names a review twice")
        order = np.argsort(arrays["ids"])
        return {name: array[order] if name == "logits" else array[order].astype(int) for name, array in arrays.items()}


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
