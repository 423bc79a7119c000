"""What a run's record leaves out, or says in a way that cannot be used: the gaps that the report names.

A gap is a file, or what is lacking in it: `params.yaml: dropout`, `metrics.json: training.seconds (is not a number)`.
"""

from collections.abc import Hashable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from peft_study.study.variant import Variant

FIELDS = (  # of metrics.json, that the comparison shows where they are known
    *(f"data.{key}" for key in ("fingerprint", "held_out")),
    *(f"parameters.{key}" for key in ("total", "trainable")),
    *(f"parameters.trainable_{part}" for part in ("backbone", "adapter", "head")),
    *(f"training.{key}" for key in ("seconds", "steps", "epochs", "tokens_per_second", "peak_memory_bytes")),
    *(f"training.{key}" for key in ("flops_per_step", "trainer_flops")),
    *(f"validation.{key}" for key in ("loss", "accuracy")),
    *(f"cost.{key}" for key in ("model_bytes", "inference_seconds", "inference_merged_seconds")),
    *(f"environment.{key}" for key in ("device", "precision", "system", "python", "commit", "model", "packages")),
)
_FURTHER = (  # of metrics.json, that the report states where they are known, and whose absence is no gap
    *(f"data.{key}" for key in ("duplicates", "unique", "ood", "labels")),
    *(f"parameters.{key}" for key in ("backbone", "head")),
    "environment.date",
)
_KINDS: dict[str, tuple[type, str]] = {  # of the fields that are neither a number nor of the environment's text
    "data.fingerprint": (str, "text"),
    "data.held_out": (bool, "true or false"),
    "data.labels": (list, "a list"),
    "environment.packages": (dict, "a mapping"),
}


def unsaid(
    variant: Variant, params: Mapping[str, Any], run: Mapping[str, Any], metrics: Mapping[str, Any]
) -> list[str]:
    """The fields that `params.yaml` and `metrics.json` leave out; where one has none of a block, the block."""
    asked = [f"params.yaml: {name}" for name in variant.model_dump() if name not in {**params, **run}]
    blocks = {name.partition(".")[0] for name in metrics if name in FIELDS}
    absent = (name if name.partition(".")[0] in blocks else name.partition(".")[0] for name in FIELDS)
    measured = [f"metrics.json: {name}" for name in dict.fromkeys(absent) if name not in metrics]
    return [*(asked if params else ["params.yaml"]), *measured]


def unfit(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The fields of `metrics.json` whose value is of another kind than the field's, and how the gaps name them."""
    named = {}
    for name in (*FIELDS, *_FURTHER):
        kind = _KINDS.get(name, (str, "text") if name.startswith("environment.") else (Real, "a number"))
        value = metrics.get(name)
        fits = isinstance(value, kind[0]) and isinstance(value, bool) == (kind[0] is bool)
        fits = fits and value == value and value not in (np.inf, -np.inf)
        if value is not None and not fits:
            named[name] = f"metrics.json: {name} (is not {kind[1]})"
    return named


def undefined(tests: Mapping[Hashable, tuple[str, Mapping[str, np.ndarray]]]) -> list[str]:
    """The logits that the predictions files leave out (NaN in `arrays`), and how many where that is not all."""
    named = []
    for part, arrays in tests.values():
        undefined = int((~np.isfinite(arrays["logits"]).all(axis=1)).sum())
        if undefined:
            file = "preds_and_labels.npz" if part == "test" else "ood_preds_and_labels.npz"
            some = (
                f" ({undefined:,} of {len(arrays['ids']):,} are not numbers)" if undefined < len(arrays["ids"]) else ""
            )
            named.append(f"{file}: logits{some}")
    return named


def absent(folder: Path, blocks: Mapping[str, Any], variant: Variant) -> list[str]:
    """The files that the folder leaves out."""
    tested_elsewhere = (blocks.get("evaluation") or {}).get("ood", ...) is not None  # null: on no other reviews
    wanted = [
        "log_history.json",
        *["ood_preds_and_labels.npz"] * (variant.ood_dataset is not None and tested_elsewhere),
    ]
    return [name for name in wanted if not (folder / name).exists()]
