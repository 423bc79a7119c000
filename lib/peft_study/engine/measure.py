"""A few steps of a variant on random weights and random tokens, timed: `python -m peft_study.engine.measure`.

Reads `{"variant": ..., "config": ...}` and prints the fields of `Timing`, both as JSON. It runs the code that trains,
so that whatever makes training faster shows here. What other programs take of the processor meanwhile is left out.
"""

import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import torch

from peft_study.engine.timings import Timing
from peft_study.study.variant import Variant
from peft_study.training import model as models
from peft_study.training import trainer as training
from peft_study.training.prediction import predict

TOKENS = 1024  # of the part of a batch that is measured on a CPU, where time grows with the reviews in it
STEPS = 3  # the median leaves out the first, which is slower
_STATE = 12  # bytes that the gradient and AdamW's two moments of a trained parameter take


def measure(variant: Variant, config: dict[str, Any]) -> Timing:
    """Train and predict for a few steps, and scale to the variant's batch."""
    on_gpu = torch.cuda.is_available()
    whole = variant.batch_size
    part = whole if on_gpu else min(whole, max(1, TOKENS // variant.max_length))
    few = variant.model_copy(
        update={
            "batch_size": part,
            "gradient_accumulation": 1,
            "resume": False,
            "auto_batch": False,
            "max_steps": STEPS,
            "evaluations": 0,
            "checkpoint": "last",
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        _save_random(folder, config)
        weights = _bytes(folder)
        model = models.build(str(folder), few)
        tokens = np.random.default_rng(0).integers(5, model.config.vocab_size, (part, variant.max_length))
        examples = [{"input_ids": row.tolist(), "labels": place % 2} for place, row in enumerate(tokens)]
        counts = models.count_parameters(model)
        tokenizer, parts = SimpleNamespace(pad_token_id=0), {"train": examples, "validation": []}
        before, wall, busy = psutil.Process().memory_info().rss, perf_counter(), process_time()
        figures = training.fit(model, tokenizer, parts, few, Path(scratch)).figures
        predicted = predict(model, examples, range(part), 0, bf16=training.uses_bf16(few.precision))
        on_cpu = next(model.parameters()).device.type == "cpu"
        own = 1.0 if not on_cpu else min(1.0, (process_time() - busy) / (perf_counter() - wall))
        model.save_pretrained(Path(scratch, "saved"))
        saved = _bytes(Path(scratch, "saved"))
    memory = figures["peak_memory_bytes"]
    if not on_gpu:
        state = before + _STATE * counts.trainable
        memory = state + max(0, memory - state) * whole / part
    seconds = own * figures["seconds_per_step"] * variant.gradient_accumulation * whole / part
    return Timing(seconds, own * predicted.seconds / part, memory, 4 * counts.trainable, saved, weights)


def _save_random(folder: Path, config: dict[str, Any]) -> None:
    """Save an encoder of random weights in the shape of `config`."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    shape = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    AutoModel.from_config(AutoConfig.for_model(config["model_type"], **shape)).save_pretrained(folder)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


if __name__ == "__main__":
    told = json.load(sys.stdin)
    found = measure(Variant(**told["variant"]), told["config"])
    print(json.dumps(vars(found)))
