"""What a run leaves behind, and how it is written.

Every file is written under a temporary name and moved. A run is done when its `train.ipynb` is there, which the batch
moves into place last; README documents the files field by field, so that another program may write them.
"""

import errno
import os
import platform
import re
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peft_study import paths
from peft_study.data import datasets as assets
from peft_study.errors import writing
from peft_study.files import remove, replacing, write_json
from peft_study.records.layout import CHECKPOINTS, write_params

if TYPE_CHECKING:
    from peft_study.training.cost import Inference
    from peft_study.training.prediction import Predictions
    from peft_study.training.trainer import Prepared, Training

PACKAGES = ("torch", "transformers", "peft", "datasets", "accelerate", "evaluate", "numpy", "scikit-learn")
ARRAYS = ("preds", "labels", "logits", "ids")


def write_run(
    folder: Path,
    prepared: "Prepared",
    training: "Training",
    test: "Predictions",
    ood: "Predictions | None",
    validation: "Predictions | None",
    use: "Inference",
) -> dict[str, Any]:
    """Write the record of a finished run, `metrics.json` last; returns what that file holds.

    `test`, `ood` and `validation` are predictions of the selected checkpoint; None where there are no such reviews.
    """
    variant = prepared.variant
    remove(folder / "metrics.json")  # of an earlier run: it says that what lies beside it is whole
    write_params(folder, variant)
    write_json(folder / "log_history.json", training.log)
    write_json(folder / "training_args.json", training.arguments)
    remove(folder / "model")  # of an earlier run with other values, as any predictions that are not written anew
    for prefix, predictions in {"": test, "ood_": ood, "validation_": validation}.items():
        _write_predictions(folder / f"{prefix}preds_and_labels.npz", predictions)
    size = save_model(folder / "model", prepared) if variant.save_model else None
    metrics = {
        "run": {
            "id": folder.name,
            "strategy": variant.strategy,
            "train_size": variant.train_size,
            "seed": variant.seed,
        },
        "data": _data_block(prepared),
        "parameters": prepared.parameters.as_dict(),
        "training": training.figures,
        "evaluation": {
            "validation": _validation(training),
            "test": test.metrics(),
            "test_seconds": test.seconds,
            "ood": ood.metrics() if ood else None,
        },
        "cost": {
            "model_bytes": size,
            **{
                key: training.figures[key]
                for key in ("seconds", "tokens_per_second", "flops_per_step", "peak_memory_bytes", "peak_memory_of")
            },
            **{f"inference_{key}": value for key, value in asdict(use).items()},
        },
        "environment": environment()
        | {"precision": prepared.precision, "model": prepared.model_hash}
        | {"model_revision": assets.commit_of(variant.model, prepared.folder)},
    }
    write_json(folder / "metrics.json", metrics)
    remove(folder / CHECKPOINTS)
    return metrics


def _validation(training: "Training") -> dict[str, float] | None:
    """Loss and accuracy of the selected checkpoint on the validation part; None where there was no evaluation."""
    chosen = training.figures["selected_step"]
    found = [entry for entry in training.log if "eval_loss" in entry and entry["step"] == chosen]
    return {"loss": found[-1]["eval_loss"], "accuracy": found[-1]["eval_accuracy"]} if found else None


def _data_block(prepared: "Prepared") -> dict[str, Any]:
    """Which reviews the run saw, and how many."""
    corpus = prepared.corpus
    return {
        "dataset": prepared.variant.dataset,
        "ood_dataset": prepared.variant.ood_dataset,
        "revision": corpus.revision,
        "labels": list(corpus.labels),
        "fingerprint": corpus.fingerprint,
        "unique": corpus.unique,
        "duplicates": corpus.duplicates,
        "held_out": corpus.held_out,
        **{part: len(table) for part, table in prepared.tables.items()},
    }


def _write_predictions(file: Path, predictions: "Predictions | None") -> None:
    """`preds`, `labels`, `logits` and `ids`, one row per review, readable without pickle; no file for None."""
    if predictions is None:
        return remove(file)
    with replacing(file) as partial:
        np.savez_compressed(partial, **{name: getattr(predictions, name) for name in ARRAYS})  # type: ignore[arg-type]


def save_model(folder: Path, prepared: "Prepared") -> int:
    """Save what the strategy trained (the adapter, or the whole model) as safetensors; returns the weights' bytes."""
    from safetensors import SafetensorError

    partial = folder.with_name(".model.partial")
    with writing(folder):
        try:
            remove(partial)
            if adapter := getattr(prepared.model, "peft_config", {}).get("default"):
                adapter.base_model_name_or_path, adapter.revision = assets.origin(
                    prepared.variant.model, prepared.folder
                )
            prepared.model.save_pretrained(str(partial))
            prepared.tokenizer.save_pretrained(str(partial))
            remove(folder)
            partial.replace(folder)
        except SafetensorError as error:  # its way of saying what the file system said
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, str(error)) from error
        finally:
            remove(partial)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def environment() -> dict[str, Any]:
    """Where and with what a run was computed."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": gpu or f"CPU ({platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores)",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        **commit(),
    }


def commit() -> dict[str, Any]:
    """The checkout's commit and whether the code that made a run differs from it; both None outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(paths.CHECKOUT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", "lib", "notebooks")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
