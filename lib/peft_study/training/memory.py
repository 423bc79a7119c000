"""Insufficient memory: smaller batches with the same optimizer steps, or one message.

The Trainer's `auto_find_batch_size` reduces the texts per step, which is another training. Here gradient accumulation
compensates for the smaller batch, so each step averages over the same texts.
"""

import gc
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from peft_study.errors import StudyError


def attempt(work: Callable[[], Any]) -> Any:
    """The result of `work`; None, after freeing its memory, where memory was insufficient."""
    try:
        return work()
    except RuntimeError as error:
        if not is_memory(error):
            raise
    gc.collect()  # here and not above: until the handler ends, the error holds the tensors of the step that failed
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def halved(size: int, accumulation: int) -> tuple[int, int]:
    """Half the batch and twice the accumulation.

    An odd batch is divided by its smallest factor, 9 by 3 and 7 by 7, so that a step keeps its texts.
    """
    factor = next(factor for factor in range(2, size + 1) if size % factor == 0)
    return size // factor, accumulation * factor


def too_little(size: int, accumulation: int) -> StudyError:
    """The error that names the fields to lower."""
    advice = "lower max_length, or use a smaller model"
    if size > 1:
        less, batches = halved(size, accumulation)
        same = f"batch_size = {less} with gradient_accumulation = {batches} makes the same steps"
        advice += f", or lower batch_size ({same}; auto_batch = True does that automatically)"
    return StudyError(f"insufficient memory to train with batch_size = {size}; {advice}")


def is_memory(error: RuntimeError) -> bool:
    """Whether memory was insufficient: a CPU's allocator and Apple's raise no error class of their own."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
