"""What a run leaves behind: write one, load all of a study as one table, say what is missing.

Every file is written under a temporary name and moved. A run is done when its `train.ipynb` is there, which the batch
moves into place last; README documents the files field by field, so that another program may write them.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from peft_study import paths
from peft_study.config import Study, Variant, read_study
from peft_study.errors import StudyError, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from peft_study.evaluation import Predictions
    from peft_study.training import Prepared, Training

PACKAGES = ("torch", "transformers", "peft", "datasets", "accelerate", "evaluate", "numpy", "scikit-learn")
ARRAYS = ("preds", "labels", "logits", "ids")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary name beside `file` to write to; it takes the name `file` when the block ends well."""
    partial = file.with_name(f".{file.stem}.partial-{os.getpid()}{file.suffix}")
    with writing(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def write_json(file: Path, content: Any) -> None:
    """Write `content` as indented JSON, in one step."""
    with replacing(file) as partial:
        partial.write_text(json.dumps(content, indent=1, sort_keys=False, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """What JSON cannot hold, as what it can: NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else str(value)


def write_params(folder: Path, variant: Variant) -> None:
    """`params.yaml`: every choice of the run, as it was asked for."""
    with replacing(folder / "params.yaml") as partial:
        partial.write_text(yaml.safe_dump(variant.model_dump(), sort_keys=False), encoding="utf-8")


def write_figure(file: Path, figure: "Figure") -> None:
    """Save a figure under its name, in one step."""
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150, bbox_inches="tight")


def write_run(folder: Path, prepared: "Prepared", training: "Training", test: "Predictions",
              ood: "Predictions | None") -> dict[str, Any]:
    """Write the record of a finished run, `metrics.json` last; returns what that file holds."""
    variant = prepared.variant
    write_params(folder, variant)
    write_json(folder / "log_history.json", training.log)
    write_json(folder / "training_args.json", training.arguments)
    _write_predictions(folder / "preds_and_labels.npz", test)
    if ood is not None:
        _write_predictions(folder / "ood_preds_and_labels.npz", ood)
    size = save_model(folder / "model", prepared) if variant.save_model else None
    metrics = {
        "run": {"id": folder.name, "strategy": variant.strategy, "train_size": variant.train_size, "seed": variant.seed},
        "data": _data_block(prepared),
        "parameters": prepared.parameters.as_dict(),
        "training": training.figures,
        "evaluation": {"test": test.metrics(), "test_seconds": test.seconds, "ood": ood.metrics() if ood else None},
        "cost": {"model_bytes": size, **{key: training.figures[key] for key in
                                         ("seconds", "tokens_per_second", "peak_memory_bytes", "peak_memory_of")}},
        "environment": environment() | {"precision": "bf16" if prepared.bf16 else "fp32", "model": prepared.model_hash},
    }
    write_json(folder / "metrics.json", metrics)
    return metrics


def _data_block(prepared: "Prepared") -> dict[str, Any]:
    """Which reviews the run saw, and how many."""
    corpus = prepared.corpus
    return {
        "dataset": prepared.variant.dataset,
        "ood_dataset": prepared.variant.ood_dataset,
        "fingerprint": corpus.fingerprint,
        "unique": corpus.unique,
        "duplicates": corpus.duplicates,
        "held_out": corpus.held_out,
        **{part: len(table) for part, table in prepared.tables.items()},
    }


def _write_predictions(file: Path, predictions: "Predictions") -> None:
    """`preds`, `labels`, `logits` and `ids`, one row per review, readable without pickle."""
    with replacing(file) as partial:
        np.savez_compressed(partial, **{name: getattr(predictions, name) for name in ARRAYS})  # type: ignore[arg-type]


def save_model(folder: Path, prepared: "Prepared") -> int:
    """Save what the strategy trained (the adapter, or the whole model) as safetensors; returns the weights' bytes."""
    import shutil

    partial = folder.with_name(".model.partial")
    with writing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        prepared.model.save_pretrained(str(partial))
        prepared.tokenizer.save_pretrained(str(partial))
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def environment() -> dict[str, Any]:
    """Where and with what a run was computed."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": gpu or f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        **commit(),
    }


def commit() -> dict[str, Any]:
    """The checkout's commit and whether files differ from it; both None outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(paths.CHECKOUT), *arguments], capture_output=True, text=True,
                              check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def is_done(study: str, run_id: str, variant: Variant) -> bool:
    """Whether the run is finished and was made with these values."""
    folder = paths.run_folder(study, run_id)
    if not (folder / "train.ipynb").exists():
        return False
    try:
        return yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")) == variant.model_dump()
    except (OSError, yaml.YAMLError):
        return False


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
    """A run's `log_history.json` as a table."""
    return pd.DataFrame(json.loads((folder / "log_history.json").read_text(encoding="utf-8")))


def load_runs(study_name: str) -> Runs:
    """Every run of a study. What is missing, broken or made with other values is named, and the rest is compared."""
    study = read_study(study_name)
    rows: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    ids: bytes | None = None
    for run_id, variant in study.variants.items():
        try:
            row, tested = _read_run(study_name, run_id, variant)
            if ids not in (None, tested):
                raise StudyError("it was tested on other reviews than the runs before it; delete its folder and run again")
            rows[run_id], ids = row, tested
        except StudyError as error:
            missing[run_id] = str(error)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "run_id"
    return Runs(study, table, missing)


def _read_run(study: str, run_id: str, variant: Variant) -> tuple[dict[str, Any], bytes]:
    """The row of a finished run and the bytes of its test ids. Raises `StudyError` with the reason why it has none."""
    folder = paths.run_folder(study, run_id)
    if not (folder / "train.ipynb").exists():
        raise StudyError("failed: see train.log" if (folder / "train.partial.ipynb").exists() else "not finished")
    if not is_done(study, run_id, variant):
        raise StudyError("made with other values than study.yaml now asks for (params.yaml); run the study again")
    metrics = _read_metrics(folder / "metrics.json")
    ids = _read_arrays(folder / "preds_and_labels.npz")["ids"]
    return variant.model_dump() | metrics, ids.tobytes()


def _read_metrics(file: Path) -> dict[str, Any]:
    """`metrics.json` as one flat dict of dotted names."""
    try:
        blocks = json.loads(file.read_text(encoding="utf-8"))
        flat = {f"{block}.{key}": value for block in ("data", "parameters", "training", "cost", "environment")
                for key, value in blocks[block].items()}
        for part in ("test", "ood"):
            scores = blocks["evaluation"].get(part) or {}
            flat |= {f"{part}.{key}": value for key, value in scores.items()}
        return flat | {"test.seconds": blocks["evaluation"].get("test_seconds"), "test.accuracy": float(flat["test.accuracy"])}
    except OSError as error:
        raise StudyError(f"{file.name} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{file.name} is corrupt ({type(error).__name__}: {error}); delete the run's folder and run the "
                         "study again") from error


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a predictions file, of one length. Pickle is never loaded."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ARRAYS}
    except FileNotFoundError as error:
        raise StudyError(f"{file.name} is missing; delete the run's folder and run the study again") from error
    except Exception as error:  # a damaged zip file raises whatever its bytes lead to
        raise StudyError(f"{file.name} is corrupt ({type(error).__name__}); delete the run's folder and run the study "
                         "again") from error
    if len({len(array) for array in arrays.values()}) != 1:
        raise StudyError(f"{file.name} has arrays of different lengths; delete the run's folder and run the study again")
    return arrays


def write_aggregate(runs: Runs) -> Path:
    """`aggregated_metrics.csv`: the table of all finished runs."""
    file = paths.study_folder(runs.study.name) / "aggregated_metrics.csv"
    with replacing(file) as partial:
        runs.table.to_csv(partial)
    return file
