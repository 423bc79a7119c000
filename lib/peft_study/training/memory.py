"""When the memory is not enough: one clear message, or smaller batches that make the same optimizer steps.

The Trainer's `auto_find_batch_size` takes fewer reviews to a step, which is another training. Here as many batches
share a step as the batch has become smaller: each step averages over the reviews that it would have had.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from peft_study.errors import StudyError

if TYPE_CHECKING:
    from peft_study.study.variant import Variant

Result = TypeVar("Result")


def attempt(work: Callable[[], Result]) -> Result | None:
    """What `work` returns; None where its memory was not enough, once all that it held is free again."""
    try:
        return work()
    except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU's allocator and Apple's have none of their own
        if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
            raise
    gc.collect()  # here and not above: until the handler ends, the error holds the tensors of the step that failed
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def smaller(variant: Variant) -> Variant | None:
    """The variant with half the batch and twice as many to a step; None where a batch is one review already.

    An odd batch has no half: it is divided by its smallest factor, 9 by 3 and 7 by 7, so that a step keeps its reviews.
    """
    size = variant.batch_size
    if size == 1:
        return None
    factor = next(factor for factor in range(2, size + 1) if size % factor == 0)
    batches = variant.gradient_accumulation * factor
    return variant.model_copy(update={"batch_size": size // factor, "gradient_accumulation": batches})


def too_little(variant: Variant) -> StudyError:
    """The message that says what to lower."""
    less = smaller(variant)
    told = (
        f"the memory was not enough to train {variant.model!r} with batch_size = {variant.batch_size} and "
        f"max_length = {variant.max_length}; lower max_length, or take a smaller model"
    )
    if less is not None:
        told += (
            f", or lower batch_size (batch_size = {less.batch_size} with gradient_accumulation = "
            f"{less.gradient_accumulation} makes the same steps"
            f"{'' if variant.processes > 1 else '; auto_batch = True does that by itself'})"
        )
    return StudyError(told)
