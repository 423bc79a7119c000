"""An interrupted training: once ends it cleanly after its step, twice ends it at once."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from peft_study.data.reviews import load_reviews
from peft_study.data.tokenization import load_tokenizer, tokenize
from peft_study.study.variant import Variant
from peft_study.training.model import build
from peft_study.training.trainer import Training, fit
from peft_study.widgets.stopping import StopOnInterrupt


class Interrupt(TrainerCallback):  # type: ignore[misc]
    """Interrupts this process, as ■ does, so many times in the middle of a step."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def handler() -> Iterator[Any]:
    """The handler of the signal as it was, put back whatever a test did."""
    before = signal.getsignal(signal.SIGINT)
    yield before
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def trained(variant: Callable[..., Variant], tmp_path: Path) -> Callable[..., Training]:
    """Trains a variant of 24 steps with callbacks."""

    def train(*callbacks: TrainerCallback, **changes: Any) -> Training:
        tiny = variant(**changes)
        tokenizer, reviews = load_tokenizer(tiny), load_reviews(tiny)
        examples = tokenize(reviews, tokenizer, tiny)
        return fit(build(tiny.model, tiny, reviews.labels), tokenizer, examples, tiny, tmp_path, callbacks)

    return train


def steps(run: Training, kind: str) -> list[int]:
    return [entry["step"] for entry in run.log if kind in entry]


@pytest.mark.parametrize(("step", "evaluated"), [(3, [3]), (15, [12, 15])])
def test_an_interrupted_training_ends_after_its_step_with_the_best_checkpoint_so_far(
    step: int, evaluated: list[int], trained: Callable[..., Training], handler: Any, tmp_path: Path
) -> None:
    run = trained(StopOnInterrupt(), Interrupt(step))
    assert steps(run, "eval_loss") == evaluated
    losses = {entry["step"]: entry["eval_loss"] for entry in run.log if "eval_loss" in entry}
    assert run.figures["selected_step"] == min(losses, key=lambda at: losses[at])
    assert (run.figures["steps"], run.figures["planned_steps"], run.figures["interrupted"]) == (step, 24, True)
    assert len(run.step_seconds) == step
    assert signal.getsignal(signal.SIGINT) is handler and not (tmp_path / "checkpoints").exists()


def test_without_validation_the_state_at_that_step_is_kept(trained: Callable[..., Training]) -> None:
    run = trained(StopOnInterrupt(), Interrupt(3), validation_fraction=0.0, checkpoint="last")
    assert run.figures["interrupted"] and run.figures["selected_step"] == 3 and steps(run, "eval_loss") == []


def test_at_the_last_step_there_is_nothing_left_to_interrupt(trained: Callable[..., Training]) -> None:
    assert trained(StopOnInterrupt(), Interrupt(24)).figures["interrupted"] is False


@pytest.mark.parametrize("callbacks", [(StopOnInterrupt(), Interrupt(3, times=2)), (Interrupt(3),)])
def test_a_second_interrupt_and_any_interrupt_of_a_batch_ends_the_training_at_once(
    callbacks: tuple[TrainerCallback, ...], trained: Callable[..., Training], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(*callbacks)
    assert not (tmp_path / "checkpoints").exists()
