"""Records of four made-up studies, for the comparison of their statistics with numbers kept in a file.

Written in the documented layout with plain NumPy, YAML and JSON, as another program would: they stay the same whatever
becomes of the library. Every number follows from fixed seeds.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

TESTED, OTHER, VALIDATED = 300, 120, 60  # reviews
ORDER = {"full": 0.9, "lora-all": 0.89, "lora": 0.86, "head": 0.74, "bitfit": 0.8}  # accuracies at 1,000 reviews
SLICES = ("clean", "rating", "no_rating", "short", "long", "whole", "cut", "negation", "no_negation")

STUDIES: dict[str, dict[str, Any]] = {
    "several": {
        "margin": 2.0,
        "matrix": {"strategy": ["full", "lora", "lora-all", "head"], "train_size": [250, 500, 1000, 2000]}
        | {"seed": [1, 2, 3]},
    },
    "single": {
        "matrix": [
            {"strategy": ["full"], "train_size": [250, 1000], "seed": [1]},
            {"strategy": ["lora"], "train_size": [250, 1000], "seed": [1], "lora_r": [2, 8]},
        ]
    },
    "classes": {
        "baseline": "lora",
        "matrix": {"strategy": ["lora", "full", "bitfit"], "train_size": [250, 1000], "seed": [1, 2, 3]},
    },
    "sweep": {
        "matrix": {"strategy": ["full", "lora", "lora-all"], "train_size": [500], "seed": [1, 2]}
        | {"learning_rate": [1e-5, 1e-4, 1e-3, 1e-2]},
    },
}
LABELS = {"classes": ["negative", "neutral", "positive"]}
UNFINISHED = {"several-head-n02000-s3"}


def write_study(home: Path, name: str) -> None:
    """Write `runs/<name>` below `home`: `study.yaml`, the records, slices and the predictions of TF-IDF."""
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    content = {"title": "Made up", "question": "Which?"} | STUDIES[name]
    (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    classes = len(LABELS.get(name, ["negative", "positive"]))
    grids = content["matrix"] if isinstance(content["matrix"], list) else [content["matrix"]]
    for grid in grids:
        for values in np.ndindex(*map(len, grid.values())):
            point = {axis: choices[place] for (axis, choices), place in zip(grid.items(), values, strict=True)}
            if f"{name}-{run_name(point)}" not in UNFINISHED:
                _write_record(folder / run_name(point), name, point, classes)
    _write_slices(folder / "slices.csv", classes)
    sizes = sorted({size for grid in grids for size in grid["train_size"]})
    predicted = {str(size): draw_logits(f"{name} words {size}", 0.8, TESTED, classes).argmax(axis=1) for size in sizes}
    np.savez(folder / "tfidf.npz", ids=np.arange(TESTED), labels=np.arange(TESTED) % classes, **predicted)


def run_name(point: Mapping[str, Any]) -> str:
    """The name of a run, as README documents it."""
    further = [
        f"{axis}{value}".replace("-", "_")
        for axis, value in point.items()
        if axis not in ("strategy", "train_size", "seed")
    ]
    return "-".join([point["strategy"], f"n{point['train_size']:05}", f"s{point['seed']}", *further])


def draw_logits(name: str, accuracy: float, count: int, classes: int, sure: float = 1.5) -> np.ndarray:
    """Logits of `count` reviews (labelled 0, 1, ..., 0, 1, ...), about that share of them right."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    hard = np.random.default_rng(count).standard_normal(count)  # the same reviews are hard for all
    right = 0.7 * hard + 0.7 * rng.standard_normal(count) < 1.4 * (accuracy - 0.5) / 0.5
    labels = np.arange(count) % classes
    preds = np.where(right, labels, (labels + rng.integers(1, classes, count)) % classes)
    logits = rng.normal(0, 0.3, (count, classes))
    logits[np.arange(count), preds] = logits.max(axis=1) + sure * rng.exponential(1, count)
    return logits.astype(np.float32)


def _write_record(folder: Path, study: str, point: Mapping[str, Any], classes: int) -> None:
    folder.mkdir()
    name, size, strategy = f"{study} {folder.name}", point["train_size"], point["strategy"]
    rate = point.get("learning_rate", 2e-4)
    best = 1e-4 if strategy == "full" else 1e-3
    accuracy = ORDER[strategy] - 15 / size - 0.03 * abs(np.log10(rate / best)) * ("learning_rate" in point)
    sure = 1.0 + size / 1000
    scores = {}
    for file, part, count, drop in (
        ("preds_and_labels", "test", TESTED, 0.0),
        ("ood_preds_and_labels", "ood", OTHER, 0.1),
        ("validation_preds_and_labels", "validation", VALIDATED, 0.0),
    ):
        logits, labels = (
            draw_logits(f"{name} {part}", accuracy - drop, count, classes, sure),
            np.arange(count) % classes,
        )
        preds = logits.argmax(axis=1)
        np.savez(folder / f"{file}.npz", preds=preds, labels=labels, logits=logits, ids=np.arange(count))
        exact = logits.astype(float)
        loss = np.log(np.exp(exact).sum(axis=1)) - exact[np.arange(count), labels]
        scores[part] = {"accuracy": float((preds == labels).mean()), "loss": float(loss.mean())}
    diverged = strategy == "full" and rate == 1e-2 and point["seed"] == 2
    if diverged:
        scores["validation"]["loss"] = None
    luck = 1 + (zlib.crc32(name.encode()) % 100) / 1000
    own = strategy == "full"
    trainable = 22_000_000 if own else 770 if strategy == "head" else 300_000 + 1000 * point.get("lora_r", 8)
    metrics = {
        "run": {key: point[key] for key in ("strategy", "train_size", "seed")},
        "data": {"dataset": "made", "fingerprint": study, "held_out": True, "duplicates": 3}
        | ({"labels": LABELS[study]} if study in LABELS else {}),
        "parameters": {"total": 22_700_000, "trainable": trainable, "trainable_backbone": trainable * own}
        | {"trainable_adapter": 0 if own else trainable - 770, "trainable_head": 770},
        "training": {"seconds": size / (10 if own else 15) * luck, "steps": size // 8, "epochs": 2.0}
        | {"tokens_per_second": 900.0 * luck, "peak_memory_bytes": 2**30 * luck, "learning_rate": rate}
        | {"flops_per_step": 3e9 if own else 2e9, "trainer_flops": 1e12, "peak_memory_of": "process, resident"},
        "evaluation": {part: scores[part] for part in ("validation", "test", "ood")} | {"test_seconds": 2.0},
        "cost": {"model_bytes": 4 * trainable, "inference_seconds": 0.02 * luck}
        | {"inference_merged_seconds": None if own else 0.015 * luck},
        "environment": {"device": "CPU", "python": "3.11", "packages": {"torch": "2.13.0"}},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "params.yaml").write_text(yaml.safe_dump(dict(point)), encoding="utf-8")
    log = [{"step": step, "epoch": step / 50, "loss": 0.7 - step / 200} for step in (10, 50, 100)]
    (folder / "log_history.json").write_text(json.dumps(log), encoding="utf-8")


def _write_slices(file: Path, classes: int) -> None:
    """Slices by rules of no meaning; `whole` holds every review of the other kind, so that it is no slice there."""
    tables = []
    for part, count in {"test": TESTED, "ood": OTHER}.items():
        rng, ids = np.random.default_rng(count), np.arange(count)
        rating, negation, cut = rng.random(count) < 0.15, rng.random(count) < 0.4, rng.random(count) < 0.5
        columns = {"clean": rng.random(count) < 0.9, "rating": rating, "no_rating": ~rating}
        columns |= {"short": ids % 3 == 0, "long": ids % 3 == 1, "whole": ~cut, "cut": cut}
        columns |= {"negation": negation, "no_negation": ~negation}
        tables.append(pd.DataFrame({"part": part, "id": ids, "label": ids % classes, **columns}))
    pd.concat(tables)[["part", "id", "label", *SLICES]].to_csv(file, index=False)
