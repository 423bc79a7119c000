"""When the memory is not enough: smaller batches that make the same optimizer steps, or one clear message.

The Trainer's `auto_find_batch_size` takes fewer reviews to a step, which is another training. Here as many batches
share a step as the batch has become smaller: each step averages over the reviews that it would have had.
"""

import gc
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from peft_study.errors import StudyError


def attempt(work: Callable[[], Any]) -> Any:
    """What `work` returns; None where its memory was not enough, once all that it held is free again."""
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
    """Half the batch and twice as many to a step.

    An odd batch has no half: it is divided by its smallest factor, 9 by 3 and 7 by 7, so that a step keeps its reviews.
    """
    factor = next(factor for factor in range(2, size + 1) if size % factor == 0)
    return size // factor, accumulation * factor


def too_little(size: int, accumulation: int) -> StudyError:
    """The message that says what to lower."""
    advice = "lower max_length, or take a smaller model"
    if size > 1:
        less, batches = halved(size, accumulation)
        same = f"batch_size = {less} with gradient_accumulation = {batches} makes the same steps"
        advice += f", or lower batch_size ({same}; auto_batch = True does that by itself)"
    return StudyError(f"the memory was not enough to train with batch_size = {size}; {advice}")


def is_memory(error: RuntimeError) -> bool:
    """Whether memory was lacking: a CPU's allocator and Apple's have no error of their own, as CUDA's does."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
