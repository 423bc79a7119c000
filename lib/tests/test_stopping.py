"""An interrupted training: once ends it cleanly after its step, twice ends it at once."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from peft_study.report import run_claims
from peft_study.study.variant import Variant
from peft_study.training import trainer as training
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
def stopped(variant: Callable[..., Variant], tmp_path: Path) -> Callable[..., training.Training]:
    """Trains a variant of 24 steps that is interrupted."""

    def train(step: int, times: int = 1, **changes: Any) -> training.Training:
        prepared = training.prepare(variant(**changes))
        return training.train(prepared, tmp_path, [StopOnInterrupt(), Interrupt(step, times)])

    return train


def steps(run: training.Training, kind: str) -> list[int]:
    return [entry["step"] for entry in run.log if kind in entry]


@pytest.mark.parametrize(("step", "evaluated"), [(3, [3]), (15, [12, 15])])
def test_an_interrupted_training_ends_after_its_step_with_the_best_checkpoint_so_far(
    step: int, evaluated: list[int], stopped: Callable[..., training.Training], handler: Any, tmp_path: Path
) -> None:
    run = stopped(step)
    assert steps(run, "eval_loss") == evaluated
    losses = {entry["step"]: entry["eval_loss"] for entry in run.log if "eval_loss" in entry}
    assert run.figures["selected_step"] == min(losses, key=lambda at: losses[at])
    assert (run.figures["steps"], run.figures["planned_steps"], run.figures["interrupted"]) == (step, 24, True)
    assert len(run.step_seconds) == step
    assert run_claims.curve(run).startswith(f"**Training was interrupted** after step {step} of 24.")
    assert signal.getsignal(signal.SIGINT) is handler and not (tmp_path / "checkpoints").exists()


def test_without_validation_the_state_at_that_step_is_kept(stopped: Callable[..., training.Training]) -> None:
    run = stopped(3, validation_fraction=0.0, checkpoint="last")
    assert run.figures["interrupted"] and run.figures["selected_step"] == 3 and steps(run, "eval_loss") == []


def test_at_the_last_step_there_is_nothing_left_to_interrupt(stopped: Callable[..., training.Training]) -> None:
    assert stopped(24).figures["interrupted"] is False


def test_a_second_interrupt_ends_the_training_at_once(
    stopped: Callable[..., training.Training], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped(3, times=2)
    assert not (tmp_path / "checkpoints").exists()


def test_a_batch_is_interrupted_as_any_program(variant: Callable[..., Variant], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        training.train(training.prepare(variant()), tmp_path, [Interrupt(3)])
