"""Run folders in the documented layout, written by another program than ours: this one. Nothing is trained."""

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from peft_study import paths
from peft_study.analysis.tfidf import Baseline
from peft_study.records.read import Runs, load_runs
from peft_study.strategies.table import STRATEGIES
from peft_study.study.study import Study, read_study

REAL_RUNS = ("full-n00060-s1", "lora-n00060-s1", "full-n00100-s1")  # of the one study that is really run
PLANTED = '<script>alert("hi")</script> & *stars* $5 [@nobody]'  # in its test reviews
SIZES = {"full": 22_000_000, "lora": 300_000, "lora-all": 900_000, "head": 770, "bitfit": 50_000}


def make_study(name: str = "made", **content: Any) -> Study:
    """Write `runs/<name>/study.yaml`, by default of two strategies and two sizes, anew, and read it."""
    matrix = {"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1]}
    file = paths.study_folder(name) / "study.yaml"
    shutil.rmtree(file.parent, ignore_errors=True)
    file.parent.mkdir(parents=True)
    text = yaml.safe_dump({"title": "Made", "question": "Which is it?", "matrix": matrix} | content, sort_keys=False)
    file.write_text(text, encoding="utf-8")
    return read_study(name)


def make_preds(run_id: str, accuracy: float, count: int) -> np.ndarray:
    """Predicted classes of `count` reviews (labelled 0, 1, 0, ...), of which just that share is right."""
    wrong = np.random.default_rng(zlib.crc32(run_id.encode())).permutation(count)[: round(count * (1 - accuracy))]
    preds = np.arange(count) % 2
    preds[wrong] = 1 - preds[wrong]
    return preds


def write_arrays(file: Path, preds: np.ndarray, /, **changes: Any) -> None:
    """A predictions file of the classes `preds`; `changes` replaces arrays."""
    sure = np.random.default_rng(len(preds)).uniform(0.1, 3, len(preds))
    logits = np.stack([-sure, sure], axis=1) * np.where(preds == 1, 1, -1)[:, None]
    arrays = {"preds": preds, "labels": np.arange(len(preds)) % 2, "logits": logits, "ids": np.arange(len(preds))}
    np.savez(file, **(arrays | changes))


def scores(preds: np.ndarray) -> dict[str, float]:
    """What `metrics.json` says of predictions."""
    share = float((preds == np.arange(len(preds)) % 2).mean())
    return {"accuracy": share, "macro_f1": share, "log_loss": 0.4, "n": len(preds)}


def metrics(
    study: Study, run_id: str, preds: np.ndarray, ood: np.ndarray | None, loss: float | None = None
) -> dict[str, Any]:
    """The content of a `metrics.json`; without a validation `loss` it says nothing of validation."""
    variant = study.variants[run_id]
    trainable, own = SIZES.get(variant.strategy, 60_000), variant.strategy == "full"
    kinds = {"backbone": trainable * own, "adapter": trainable * (not own), "head": 770}
    return {
        "run": {"id": run_id, "strategy": variant.strategy, "train_size": variant.train_size, "seed": variant.seed},
        "data": {"dataset": variant.dataset, "fingerprint": "same", "held_out": True, "duplicates": 3},
        "parameters": {"total": 23_000_000, "trainable": trainable + 770}
        | {f"trainable_{kind}": count for kind, count in kinds.items()},
        "training": {
            "steps": 100,
            "seconds": variant.train_size / (10 if own else 15),
            "tokens_per_second": 900.0,
            "peak_memory_bytes": 2**30,
            "learning_rate": variant.rate,
            "flops_per_step": 3e9 if own else 2e9,
            "trainer_flops": 1e12,
        },
        "evaluation": {
            "validation": None if loss is None else {"loss": loss, "accuracy": 0.8},
            "test": scores(preds),
            "test_seconds": 2.0,
            "ood": None if ood is None else scores(ood),
        },
        "cost": {
            "model_bytes": 4 * trainable,
            "inference_seconds": 0.02,
            "inference_merged_seconds": None if own else 0.015,
        },
        "environment": {"device": "CPU", "python": "3.11", "packages": {"torch": "2.13.0"}, "commit": None},
    }


def make_run(
    study: Study,
    run_id: str,
    accuracy: float = 0.9,
    count: int = 400,
    ood: float | None = 0.7,
    loss: float | None = None,
    validation: float | None = None,
) -> Path:
    """Write one finished run; returns its folder. `validation` is its accuracy on 50 validation reviews, if any."""
    folder = paths.run_folder(study.name, run_id)
    folder.mkdir(parents=True, exist_ok=True)
    preds = make_preds(run_id, accuracy, count)
    other = None if ood is None else make_preds(f"ood {run_id}", ood, 100)
    write_arrays(folder / "preds_and_labels.npz", preds)
    if other is not None:
        write_arrays(folder / "ood_preds_and_labels.npz", other)
    if validation is not None:
        write_arrays(folder / "validation_preds_and_labels.npz", make_preds(f"val {run_id}", validation, 50))
    (folder / "params.yaml").write_text(yaml.safe_dump(study.variants[run_id].model_dump()))
    (folder / "metrics.json").write_text(json.dumps(metrics(study, run_id, preds, other, loss)))
    log = [{"step": step, "epoch": step / 50, "loss": 0.7 - step / 200} for step in (10, 50, 100)]
    log += [{"step": 100, "epoch": 2.0, "eval_loss": 0.3, "eval_accuracy": 0.9}]
    (folder / "log_history.json").write_text(json.dumps(log))
    (folder / "train.ipynb").write_text("{}")
    return folder


def make_scratch(name: str, accuracy: float = 0.8, interrupted: bool = False, **values: Any) -> Path:
    """A run that 02 left in `runs/scratch/`, on the texts of the study `made`, with these parameters; its folder."""
    folder = paths.run_folder(paths.SCRATCH, name)
    shutil.copytree(paths.run_folder("made", "lora-n00250-s1"), folder)
    (folder / "train.ipynb").unlink()
    write_arrays(folder / "preds_and_labels.npz", make_preds(name, accuracy, 400))
    params = yaml.safe_load((folder / "params.yaml").read_text()) | values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    content = json.loads((folder / "metrics.json").read_text())
    content["run"] = {name: params[name] for name in ("strategy", "train_size", "seed")}
    content["training"]["interrupted"] = interrupted
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def make_runs(
    accuracy: dict[str, float] | None = None,
    count: int = 400,
    ood: float | None = 0.7,
    without: str = "",
    loss: dict[str, float | None] | None = None,
    validation: float | None = None,
    **content: Any,
) -> Runs:
    """A study whose runs are all there, but those whose name contains `without`.

    `accuracy` maps a part of a run's name to its accuracy (0.9 where none fits, the last that fits where several do),
    `loss` to its validation loss (none on record where none fits). `validation` is of `make_run`.
    """
    study = make_study(**content)
    for run_id in study.variants:
        if not without or without not in run_id:
            make_run(study, run_id, _last(accuracy, run_id, 0.9), count, ood, _last(loss, run_id, None), validation)
    return load_runs(study.name)


def _last(values: Mapping[str, Any] | None, run_id: str, otherwise: Any) -> Any:
    """The last of `values` whose key is part of the run's name."""
    return next((value for part, value in reversed((values or {}).items()) if part in run_id), otherwise)


def make_words(sizes: tuple[int, ...] = (250, 1000), accuracy: float = 0.7, count: int = 400) -> Baseline:
    """A TF-IDF baseline of the test reviews of made runs."""
    ids = np.arange(count)
    return Baseline(ids, ids % 2, {size: make_preds(f"words {size}", accuracy, count) for size in sizes})


MATRIX: dict[str, Any] = {"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1]}
EDGES: dict[str, Callable[[], Runs]] = {
    "one seed": lambda: make_runs({"lora": 0.85}),
    "several seeds": lambda: make_runs({"lora": 0.85, "s3": 0.8}, matrix=MATRIX | {"seed": [1, 2, 3]}),
    "some seeds missing": lambda: make_runs(matrix=MATRIX | {"seed": [1, 2]}, without="lora-n01000-s2"),
    "no run of the baseline": lambda: make_runs(without="full"),
    "only runs of the baseline": lambda: make_runs(without="lora"),
    "a single run": lambda: make_runs(matrix=MATRIX | {"strategy": ["full"], "train_size": [250]}),
    "a missing run": lambda: make_runs(without="lora-n01000"),
    "no common size": lambda: make_runs(
        matrix=[
            MATRIX | {"strategy": ["lora"], "train_size": [250]},
            MATRIX | {"strategy": ["full"], "train_size": [1000]},
        ]
    ),
    "ties": lambda: make_runs({"": 1.0}),
    "some seeds at chance": lambda: make_runs(
        {"lora-n01000-s2": 0.5, "lora-n01000-s3": 0.5}, matrix=MATRIX | {"seed": [1, 2, 3]}
    ),
    "the baseline unstable": lambda: make_runs(
        {"full-n00250-s2": 0.5}, matrix=MATRIX | {"seed": [1, 2, 3], "train_size": [250]}
    ),
    "everything undetermined": lambda: make_runs({"lora": 0.88}, count=60),
    "a single size": lambda: make_runs(matrix=MATRIX | {"train_size": [250]}),
    "a single strategy": lambda: make_runs(matrix=MATRIX | {"strategy": ["full"]}),
    "many strategies": lambda: make_runs(
        {"head": 0.7}, matrix=MATRIX | {"strategy": list(STRATEGIES)[:27], "train_size": [250]}
    ),
    "no other reviews": lambda: make_runs(ood=None),
    "a further axis": lambda: make_runs(
        {"full-n01000-s1-epochs4": 0.85, "lora-n01000-s1-epochs4": 0.8, "lora-n01000-s1-epochs16": 0.95},
        matrix=MATRIX | {"epochs": [4, 16]},
    ),
    "an axis of one strategy": lambda: make_runs(
        {"lora_r4": 0.8, "lora_r16": 0.95},
        matrix=[MATRIX | {"strategy": ["full"]}, MATRIX | {"strategy": ["lora"], "lora_r": [4, 16]}],
    ),
    "a further axis with a default": lambda: make_runs({"None": 0.8}, matrix=MATRIX | {"learning_rate": [None, 1e-3]}),
    "a further axis of lists": lambda: make_runs(
        {"query": 0.8},
        matrix=[MATRIX | {"strategy": ["full"]}, MATRIX | {"strategy": ["lora"], "target_modules": [["query"], None]}],
    ),
    "another baseline": lambda: make_runs({"full": 0.95}, baseline="lora"),
    "one test review": lambda: make_runs({"": 1.0}, count=1),
}
