"""Too little memory: a message that says what to lower, or smaller batches with the same steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_trainings import Run, make_run, training_losses

from peft_study.errors import StudyError
from peft_study.study.variant import Variant
from peft_study.training import memory
from peft_study.training.trainer import largest_batch

Make = Callable[..., Variant]


@contextmanager
def limited(run: Run, reviews: int, error: type[RuntimeError] = torch.OutOfMemoryError) -> Iterator[list[int]]:
    """Let the run's model run out of memory, as CUDA does, in training on more than so many reviews.

    Gives a list that collects the sizes of the batches that it trained on.
    """
    seen: list[int] = []

    def check(model: torch.nn.Module, inputs: Any, values: dict[str, Any]) -> None:
        if model.training:
            seen.append(len(values["input_ids"]))
            if seen[-1] > reviews:
                raise error("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = run.model.register_forward_pre_hook(check, with_kwargs=True)
    yield seen
    hook.remove()


def test_the_message_names_what_to_lower_and_to_what(variant: Make, tmp_path: Path) -> None:
    run = make_run(variant(batch_size=8))
    with limited(run, 4), pytest.raises(StudyError) as raised:
        run.train(tmp_path)
    said = str(raised.value)
    assert "batch_size = 8" in said and "lower max_length" in said and "\n" not in said
    assert "batch_size = 4 with gradient_accumulation = 2" in said and "auto_batch" in said
    assert not (tmp_path / "checkpoints").exists()


def test_a_real_allocation_that_is_too_large_counts_as_too_little_memory_and_no_other_failure() -> None:
    assert memory.attempt(lambda: torch.empty(2**58, dtype=torch.uint8)) is None
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        memory.attempt(lambda: torch.ones(2, 3) @ torch.ones(2, 3))


def test_smaller_batches_give_what_asking_for_them_gives(variant: Make, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"strategy": "lora", "lora_dropout": 0.1, "dropout": 0.1, "epochs": 1.0}
    asked = make_run(variant(batch_size=4, gradient_accumulation=2, **fields))
    result = asked.train(tmp_path / "asked")
    run = make_run(variant(batch_size=8, auto_batch=True, **fields))
    with limited(run, 4) as seen:
        automatic = run.train(tmp_path / "found")
    assert seen[0] == 8 and max(seen[1:]) == 4
    assert np.array_equal(run.predict().logits, asked.predict().logits)
    assert training_losses(automatic) == training_losses(result)
    used = {name: automatic.figures[name] for name in ("asked_batch_size", "batch_size", "gradient_accumulation")}
    assert used == {"asked_batch_size": 8, "batch_size": 4, "gradient_accumulation": 2}
    assert automatic.figures["steps"] == len(automatic.step_seconds) == result.figures["steps"]


def test_trying_a_batch_leaves_no_trace(variant: Make) -> None:
    run = make_run(variant(strategy="full", dropout=0.5))
    weights, state = [p.clone() for p in run.model.parameters()], torch.get_rng_state()
    with limited(run, 8) as seen:
        assert largest_batch(run.model, run.examples["train"], run.variant, pad=0) == (8, 1)
    assert seen == [8] and torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and torch.equal(p, w) for p, w in zip(run.model.parameters(), weights, strict=True))


def test_one_review_that_does_not_fit_is_the_end(variant: Make, tmp_path: Path) -> None:
    run = make_run(variant(batch_size=18, auto_batch=True))
    with limited(run, 0) as seen, pytest.raises(StudyError, match="batch_size = 1; lower max_length") as raised:
        run.train(tmp_path)
    assert seen == [18, 9, 3, 1] and "auto_batch" not in str(raised.value)
