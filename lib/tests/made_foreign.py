"""Records that hold the least that another program must write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made_runs import make_preds, make_study

from peft_study import paths
from peft_study.records.read import Runs, load_runs

FULL, LORA = "full-n00250-s1", "lora-n00250-s1"


def write_bare(run_id: str, accuracy: float = 0.9, count: int = 400, seed: int = 1) -> Path:
    """Write predictions, and which run they are of; returns the folder."""
    strategy, size, *_ = run_id.split("-")
    folder = paths.run_folder("made", run_id)
    folder.mkdir(parents=True)
    run = {"strategy": strategy, "train_size": int(size[1:]), "seed": seed}
    (folder / "metrics.json").write_text(json.dumps({"run": run}))
    preds = make_preds(run_id, accuracy, count)
    np.savez(folder / "preds_and_labels.npz", preds=preds, labels=np.arange(count) % 2, ids=np.arange(count))
    return folder


def bare_runs(accuracy: dict[str, float] | None = None, count: int = 400, **content: Any) -> Runs:
    """A study of such records; `accuracy` is by strategy, `content` goes into `study.yaml`."""
    study = make_study(**content)
    for run_id, variant in study.variants.items():
        write_bare(run_id, (accuracy or {}).get(variant.strategy, 0.9), count, variant.seed)
    return load_runs("made")


def edit(run_id: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of a run's `metrics.json`."""
    file = paths.run_folder("made", run_id) / "metrics.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def replace_arrays(run_id: str, **changes: Any) -> None:
    """Replace arrays of a run's predictions; one that is None goes."""
    file = paths.run_folder("made", run_id) / "preds_and_labels.npz"
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
