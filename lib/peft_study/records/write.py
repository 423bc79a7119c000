"""The record of a run, as it is written.

Every file is written under a temporary name and moved, `metrics.json` last; the engine then moves the executed notebook
beside it, and `layout.is_done` holds. runs/README.md documents the files, so that another program may write them.
"""

import errno
import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peft_study.data.datasets import commit_of, model_folder, origin, weights_hash
from peft_study.data.reviews import Reviews
from peft_study.files import make_readable, remove, remove_partial, replacing, write_json
from peft_study.git import commit
from peft_study.paths import CHECKPOINTS
from peft_study.records.layout import PROGRAM, write_params
from peft_study.study.variant import Variant
from peft_study.training.model import count_parameters, write_classes

if TYPE_CHECKING:
    from peft_study.training.prediction import Predictions
    from peft_study.training.trainer import Training

PACKAGES = (PROGRAM, "torch", "transformers", "peft", "datasets", "accelerate", "evaluate", "numpy", "scikit-learn")
ARRAYS = ("preds", "labels", "logits", "ids")


def write_record(
    folder: Path,
    variant: Variant,
    reviews: Reviews,
    model: Any,
    tokenizer: Any,
    training: "Training",
    predictions: Mapping[str, "Predictions"],
    inference: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the record of a finished run, `metrics.json` last; returns what that file holds.

    `predictions` are those of the selected checkpoint by part: `test` and, where the run has such texts,
    `validation` and `ood`. `other_checkpoint` are those of the test texts by the checkpoint that the other rule
    selects, where that is another one.
    """
    remove_partial(folder)
    remove(folder / "metrics.json")  # of an earlier run: it says that what lies beside it is whole
    write_params(folder, variant)
    write_json(folder / "log_history.json", training.log)
    write_json(folder / "training_args.json", training.arguments)
    remove(folder / "model")  # of an earlier run with other values, as any predictions that are not written anew
    for part in ("test", "ood", "validation", "other_checkpoint"):
        prefix = "" if part == "test" else f"{part}_"
        _write_predictions(folder / f"{prefix}preds_and_labels.npz", predictions.get(part))
    size = save_model(folder / "model", model, tokenizer, variant) if variant.save_model else None
    figures, source = training.figures, model_folder(variant.model)
    shared = ("seconds", "tokens_per_second", "flops_per_step", "peak_memory_bytes", "peak_memory_of")
    metrics = {
        "run": {"id": folder.name, **{name: getattr(variant, name) for name in ("strategy", "train_size", "seed")}},
        "data": _data_block(variant, reviews),
        "parameters": count_parameters(model),
        "training": figures,
        "evaluation": {
            "validation": _validation(training),
            "test": predictions["test"].metrics(),
            "test_seconds": predictions["test"].seconds,
            "ood": predictions["ood"].metrics() if "ood" in predictions else None,
        },
        "cost": {
            "model_bytes": size,
            **{key: figures[key] for key in shared},
            **{f"inference_{key}": value for key, value in inference.items()},
        },
        "environment": environment()
        | {"precision": next((kind for kind in ("bf16", "fp16") if training.arguments[kind]), "fp32")}
        | {"model": weights_hash(source), "model_revision": commit_of(variant.model, source)},
    }
    write_json(folder / "metrics.json", metrics)
    remove(folder / CHECKPOINTS)
    return metrics


def _validation(training: "Training") -> dict[str, float] | None:
    """Loss and accuracy of the selected checkpoint on the validation part; None where there was no evaluation."""
    chosen = training.figures["selected_step"]
    entries = [entry for entry in training.log if "eval_loss" in entry and entry["step"] == chosen]
    return {"loss": entries[-1]["eval_loss"], "accuracy": entries[-1]["eval_accuracy"]} if entries else None


def _data_block(variant: Variant, reviews: Reviews) -> dict[str, Any]:
    """Which texts the run saw, and how many."""
    corpus = reviews.corpus
    return {
        "dataset": variant.dataset,
        "ood_dataset": variant.ood_dataset,
        "revision": corpus.revision,
        "labels": list(corpus.labels),
        "fingerprint": corpus.fingerprint,
        "unique": corpus.unique,
        "duplicates": corpus.duplicates,
        "conflicts": corpus.conflicts,
        "notes": list(corpus.notes),
        "held_out": corpus.held_out,
        **{part: len(table) for part, table in reviews.parts.items()},
    }


def _write_predictions(file: Path, predictions: "Predictions | None") -> None:
    """`preds`, `labels`, `logits` and `ids`, one row per text, readable without pickle; no file for None."""
    if predictions is None:
        return remove(file)
    with replacing(file) as partial:
        np.savez_compressed(partial, **{name: getattr(predictions, name) for name in ARRAYS})  # type: ignore[arg-type]


def save_model(folder: Path, model: Any, tokenizer: Any, variant: Variant) -> int:
    """Save what the strategy trained (the adapter, or the whole model) as safetensors; returns the weights' bytes."""
    from safetensors import SafetensorError

    with replacing(folder) as partial:
        adapter = getattr(model, "peft_config", {}).get("default")
        if adapter:
            base = origin(variant.model, model_folder(variant.model))
            adapter.base_model_name_or_path, adapter.revision = base
        try:
            model.save_pretrained(str(partial))
        except SafetensorError as error:  # its way of saying what the file system said
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, str(error)) from error
        if adapter:
            write_classes(partial, model)
        tokenizer.save_pretrained(str(partial))
        make_readable(partial)
        remove(folder)
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
