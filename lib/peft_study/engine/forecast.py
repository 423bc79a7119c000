"""Forecast the cost of a study on this machine from a few measured training steps.

`python -m peft_study.engine.forecast STUDY SIDE_BY_SIDE RUN...` measures them in a process with the threads and the GPU
of a run. The model has random weights, so only its configuration is fetched.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from types import SimpleNamespace

from peft_study import paths
from peft_study.data import datasets, hub
from peft_study.files import read_yaml
from peft_study.study.study import Study, read_study
from peft_study.study.variant import Variant
from peft_study.text import duration, size

LONG = 10_000_000  # tokens to train on, from which it is worth a minute to measure beforehand
DAY = 86_400  # seconds
WHOLE = 25_000  # texts of a test set that is taken whole: its size is not known before it is fetched
TOKENS = 1024  # of the part of a batch that is measured on a CPU, where time grows with the texts in it
FEWEST = 50  # optimizer steps below which most strategies stay at chance, with the bundled encoder (NOTES.md)
_KIND = ("model", "strategy", "max_length", "batch_size", "gradient_accumulation", "precision")
_OTHER = 300e6  # bytes on the disk: texts of the hub, their tokens, notebooks and reports


def forecast(study: Study, runs: Sequence[str], cores: int | None, gpus: Sequence[str]) -> str | None:
    """Time, memory and disk space of `runs` with `cores` (None: all); None for short studies."""
    variants = (study.variants[run] for run in runs)
    if sum(reviews(variant) * variant.max_length for variant in variants) < LONG:
        return None
    threads = int(read_yaml(paths.LIB / "profiles" / "default" / "config.yaml")["set-threads"]["train"])
    together = max(1, min(len(runs), (cores or os.cpu_count() or 1) // threads, len(gpus) or len(runs)))
    print("measuring a few training steps on this machine ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "peft_study.engine.forecast", study.name, str(together), *runs]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "".join(gpus[:1])}
    measured = subprocess.run(command, env=environment, capture_output=True, text=True)
    if measured.returncode:
        faults = re.findall(r"^[\w.]*Error: .+", measured.stderr, re.MULTILINE) or [f"exit code {measured.returncode}"]
        return f"The cost of study {study.name} could not be measured: {faults[-1]}"
    return measured.stdout.splitlines()[-1]


def too_few_steps(study: Study, runs: Sequence[str]) -> str | None:
    """A note on those of `runs` that take too few steps to learn anything; None without such a run.

    Those that start from a trained head are not among them.
    """
    variants = [variant for variant in map(study.variants.__getitem__, runs) if not variant.keep_head]
    steps = [ceil(reviews(variant) / variant.batch_size / variant.gradient_accumulation) for variant in variants]
    few = sorted(count for count in steps if count < FEWEST)
    if not few:
        return None
    span = f"{few[0]}" if few[0] == few[-1] else f"{few[0]} to {few[-1]}"
    return (
        f"note: {len(few)} of {len(runs)} runs take {span} optimizer steps, and most strategies stay at chance below "
        f"about {FEWEST} (measured with the bundled encoder); raise epochs or train_size, or lower batch_size"
    )


def reviews(variant: Variant) -> float:
    """The number of training texts of a run, each counted once per epoch."""
    if variant.max_steps is not None:
        return variant.max_steps * variant.batch_size * variant.gradient_accumulation
    return variant.epochs * variant.train_size * (1 - variant.validation_fraction)


def describe(study: Study, runs: Sequence[str], together: int) -> str:
    """The forecast of `runs`, with so many side by side; each kind of training step is measured once."""
    costs: dict[str, dict[str, float]] = {}
    times, memory, disk = [], 0.0, _OTHER
    for variant in map(study.variants.__getitem__, runs):
        kind = variant.model_dump_json(include={*_KIND})
        cost = costs[kind] = costs.get(kind) or measure(variant)
        predicted = variant.evaluations * variant.train_size * variant.validation_fraction
        predicted += (variant.test_size or WHOLE) + bool(variant.ood_dataset) * (variant.ood_size or WHOLE)
        times.append(reviews(variant) * cost["training"] + predicted * cost["prediction"])
        memory = max(memory, together * cost["memory"])
        disk += cost["trained"] * variant.save_model
    disk += max(cost["weights"] + together * 6 * cost["trained"] for cost in costs.values())  # checkpoints, moments
    time = max(*times, sum(times) / together, 0)
    line = (
        f"Study {study.name}, {together} run(s) at a time on this machine, takes about {duration(time)}, "
        f"{size(memory)} of memory and {size(disk)} of disk, estimated from a few measured steps."
    )
    if time > DAY and not os.environ.get("CUDA_VISIBLE_DEVICES"):
        line += " That is over a day on a CPU: take a machine with a GPU, or ./run_all.sh quick, which takes minutes."
    return line


def measure(variant: Variant) -> dict[str, float]:
    """Seconds of training and prediction per text; bytes of memory, trainable parameters and weights."""
    import numpy as np
    import torch
    from transformers import AutoConfig, AutoModel

    from peft_study.training.model import build, count_parameters
    from peft_study.training.prediction import predict
    from peft_study.training.trainer import fit

    fraction = 1.0 if torch.cuda.is_available() else min(1.0, TOKENS / variant.max_length / variant.batch_size)
    part = max(1, int(fraction * variant.batch_size))
    few = {"batch_size": part, "gradient_accumulation": 1, "max_steps": 3, "evaluations": 0, "checkpoint": "last"}
    variant = variant.model_copy(update=few | {"resume": False, "auto_batch": False, "keep_head": False})
    on_hub = datasets.is_on_hub(variant.model)
    source, revision = hub.split(variant.model) if on_hub else (str(datasets.model_folder(variant.model)), None)
    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    with tempfile.TemporaryDirectory() as folder:
        AutoModel.from_config(config).save_pretrained(folder)
        model = build(Path(folder), variant, ("no", "yes"))
        tokens = np.random.default_rng(0).integers(5, config.vocab_size, (part, variant.max_length)).tolist()
        examples = [{"input_ids": row, "labels": place % 2} for place, row in enumerate(tokens)]
        parts, tokenizer = {"train": examples, "validation": []}, SimpleNamespace(pad_token_id=0)
        figures = fit(model, tokenizer, parts, variant, Path(folder)).figures
    counts = count_parameters(model)
    fixed = 4 * (counts["total"] + 3 * counts["trainable"])  # weights, gradients, AdamW's moments; activations grow
    return {
        "training": figures["seconds_per_step"] / part,
        "prediction": predict(model, examples, range(part), 0).seconds / part,
        "memory": fixed + max(0, figures["peak_memory_bytes"] - fixed) / fraction,
        "trained": 4 * counts["trainable"],
        "weights": 4 * counts["total"],
    }


if __name__ == "__main__":
    name, side_by_side, *left = sys.argv[1:]
    print(describe(read_study(name), left, int(side_by_side)))
