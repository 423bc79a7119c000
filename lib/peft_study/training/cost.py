"""What a model costs: floating-point operations of a training step, seconds of inference, memory."""

import copy
import re
import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from peft_study.training.model import merged


def flops(model: torch.nn.Module, batches: Iterable[Mapping[str, torch.Tensor]]) -> float:
    """Mean floating-point operations of one pass over each of `batches`: forward, and with `labels` backward too.

    Counted as the passes run, in every matrix product (a multiplication and an addition are two); a frozen weight costs
    no gradient of its own, but the gradient still passes through it. The Trainer's `total_flos` (6 x parameters x
    tokens) knows nothing of that. `model` stays as it is: a copy without values runs, which takes no time.
    """
    batches, copied = list(batches), copy.deepcopy(model).train()
    try:
        return _counted(copied.to("meta"), batches)
    except NotImplementedError:  # sparse tensors (SHiRA's) have no form without values
        return _counted(copy.deepcopy(model).train(), batches)


def _counted(model: torch.nn.Module, batches: Sequence[Mapping[str, torch.Tensor]]) -> float:
    """Mean operations of the passes over `batches`, on the device of `model`.

    The mask is left out: it multiplies nothing, and its values decide what is computed, which needs values.
    """
    device = next(model.parameters()).device
    counted = []
    for batch in batches:
        with FlopCounterMode(display=False) as counter:
            inputs = {name: tensor.to(device) for name, tensor in batch.items() if name != "attention_mask"}
            output = model(**inputs)
            if "labels" in inputs:
                output.loss.backward()
        counted.append(counter.get_total_flops())
    return sum(counted) / len(counted)


@dataclass(frozen=True)
class Inference:
    """What a trained model costs to use: median seconds for one review, with the adapter and with it merged.

    `merge_difference` is the largest difference between the two models' logits. Both are None where nothing merges.
    """

    seconds: float
    merged_seconds: float | None
    merge_difference: float | None


def inference(model: torch.nn.Module, batch: Mapping[str, torch.Tensor], merges: bool, repeats: int = 15) -> Inference:
    """Measure a trained `model` in float32 on `batch` (`input_ids` and `attention_mask`, a row per review).

    The time is that of the first review alone, as a service would meet it. The two models take turns, so that another
    program on the machine slows both.
    """
    device = next(model.parameters()).device
    rows = {name: tensor.to(device) for name, tensor in batch.items()}
    models = [model.eval(), *([merged(model).eval()] if merges else [])]
    with torch.inference_mode():
        logits = [one(**rows).logits for one in models]
        first = {name: tensor[:1] for name, tensor in rows.items()}
        seconds: list[list[float]] = [[] for _ in models]
        for _ in range(repeats):
            for one, taken in zip(models, seconds, strict=True):
                taken.append(_timed(lambda one=one: one(**first)))  # type: ignore[misc]
    medians = [median(taken) for taken in seconds]
    return Inference(
        medians[0],
        medians[1] if merges else None,
        float((logits[0] - logits[1]).abs().max()) if merges else None,
    )


def _timed(work: Callable[[], object]) -> float:
    """How long `work` takes, the device included, which works behind our back."""
    start = now()
    work()
    return now() - start


def now() -> float:
    """The clock in seconds, once the device has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def peak_memory() -> dict[str, Any]:
    """Peak memory so far: what torch allocated on the GPU, or else what this process had resident, in bytes."""
    if torch.cuda.is_available():
        return {"peak_memory_bytes": torch.cuda.max_memory_allocated(), "peak_memory_of": "GPU, allocated"}
    return {"peak_memory_bytes": _peak_resident(), "peak_memory_of": "process, resident"}


def _peak_resident() -> int:
    """The most bytes that this process has had resident."""
    status = Path("/proc/self/status")  # of Linux; getrusage counts what the parent had before it started this process
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
