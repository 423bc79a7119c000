"""Costs of a model: floating-point operations of a training step, inference latency, memory."""

import copy
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from peft_study.training.model import merged


def flops(model: torch.nn.Module, batches: Iterable[Mapping[str, torch.Tensor]]) -> float:
    """Mean floating-point operations of a forward pass over each of `batches`, with `labels` also backward.

    They are counted at run time, in every matrix product (a multiplication and an addition are two). A frozen weight
    has no gradient of its own, but the gradient passes through it, which the Trainer's `total_flos` (6 x parameters x
    tokens) ignores. `model` is unchanged: a copy without values runs.
    """
    batches, copied = list(batches), copy.deepcopy(model).train()
    try:
        return _counted(copied.to("meta"), batches)
    except RuntimeError:  # without values there are no sparse tensors (SHiRA's), and no control flow by them (decoders)
        return _counted(copy.deepcopy(model).train(), batches)


def _counted(model: torch.nn.Module, batches: Sequence[Mapping[str, torch.Tensor]]) -> float:
    """Mean operations of the passes over `batches`, on the device of `model`.

    The mask is omitted: it multiplies nothing, and control flow depends on its values.
    """
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            inputs = {name: tensor.to(device) for name, tensor in batch.items() if name != "attention_mask"}
            output = model(**inputs)
            if "labels" in inputs:
                output.loss.backward()
    return counter.get_total_flops() / len(batches)


def inference(
    model: torch.nn.Module, batch: Mapping[str, torch.Tensor], merges: bool, repeats: int = 15
) -> dict[str, Any]:
    """Measure a trained `model` in float32 on `batch` (`input_ids` and `attention_mask`, a row per text).

    `seconds` is the median latency of the first text alone, `merged_seconds` that of the merged model; they alternate,
    so that other load slows both. `seconds_quartiles` and `merged_seconds_quartiles` are the first and third quartile
    of the repeats, `merge_difference` the largest difference between the logits. Values of the merged model are None
    where nothing merges.
    """
    device = next(model.parameters()).device
    rows = {name: tensor.to(device) for name, tensor in batch.items()}
    models = [model.eval(), *([merged(model).eval()] if merges else [])]
    first = {name: tensor[:1] for name, tensor in rows.items()}
    seconds: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        logits = [each(**rows).logits for each in models]
        for _ in range(repeats):
            for each, taken in zip(models, seconds, strict=True):
                start = now()
                each(**first)
                taken.append(now() - start)
    return {
        "seconds": median(seconds[0]),
        "seconds_quartiles": quantiles(seconds[0])[::2],
        "merged_seconds": median(seconds[1]) if merges else None,
        "merged_seconds_quartiles": quantiles(seconds[1])[::2] if merges else None,
        "merge_difference": float((logits[0] - logits[1]).abs().max()) if merges else None,
    }


def step_scatter(seconds: Sequence[float], tokens: np.ndarray) -> float:
    """How unevenly steps ran: the 90th over the 10th percentile of their durations, each over the one expected.

    That is a line through durations against tokens, by medians (Theil 1950; Sen 1968). The result is 1.1 to 1.3 on a
    quiet machine and above 1.5 beside other programs; a load that slows all steps alike does not show. Of more than
    1,000 steps, that many are taken, evenly spread.
    """
    from scipy.stats import theilslopes

    chosen = np.linspace(0, len(seconds) - 1, min(len(seconds), 1000)).astype(int)
    taken, lengths = np.asarray(seconds)[chosen], tokens[chosen]
    slope, intercept = theilslopes(taken, lengths)[:2] if np.ptp(lengths) else (0.0, np.median(taken))
    low, high = np.quantile(taken / np.maximum(intercept + slope * lengths, np.median(taken) / 10), [0.1, 0.9])
    return float(high / low)


def now() -> float:
    """The clock in seconds, after the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def mark() -> Any:
    """A moment in the work of the device, for `between`: on CUDA an event, for which nothing waits."""
    if not torch.cuda.is_available():
        return perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(begin: Any, end: Any) -> float:
    """The seconds between two moments of `mark`, once the device has reached the second."""
    if isinstance(end, float):
        return float(end - begin)
    end.synchronize()
    return float(begin.elapsed_time(end) / 1000)


def peak_memory() -> dict[str, Any]:
    """Peak memory of this process in bytes: allocated by torch on the GPU, else resident."""
    if torch.cuda.is_available():
        return {"peak_memory_bytes": torch.cuda.max_memory_allocated(), "peak_memory_of": "GPU, allocated"}
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_memory_bytes": resident, "peak_memory_of": "process, resident"}
