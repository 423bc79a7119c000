"""An interrupted training: once ends it cleanly after its step, twice ends it at once."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_trainings import make_run, validation_losses
from transformers import TrainerCallback

from peft_study.study.variant import Variant
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


@pytest.mark.parametrize(
    ("step", "evaluated", "changes"),
    [
        (3, [3], {}),
        (15, [12, 15], {}),
        (3, [], {"validation_fraction": 0.0}),
        (24, [12, 24], {}),  # the last step: there is nothing left to interrupt
    ],
)
def test_an_interrupted_training_ends_after_its_step_with_the_best_checkpoint_so_far(
    step: int,
    evaluated: list[int],
    changes: dict[str, Any],
    variant: Callable[..., Variant],
    handler: Any,
    tmp_path: Path,
) -> None:
    run = make_run(variant(**changes or {"checkpoint": "best"})).train(tmp_path, StopOnInterrupt(), Interrupt(step))
    losses = validation_losses(run)
    assert list(losses) == evaluated
    assert run.figures["selected_step"] == min(losses, key=lambda at: losses[at], default=step)
    planned = 26 if changes else 24  # without validation there is more to train on
    assert [run.figures[name] for name in ("steps", "planned_steps", "interrupted")] == [step, planned, step < planned]
    assert len(run.step_seconds) == step
    assert signal.getsignal(signal.SIGINT) is handler and signal.set_wakeup_fd(-1) == -1
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("callbacks", [(StopOnInterrupt(), Interrupt(3, times=2)), (Interrupt(3),)])
def test_a_second_interrupt_and_any_interrupt_of_a_batch_ends_the_training_at_once(
    callbacks: tuple[TrainerCallback, ...], variant: Callable[..., Variant], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_run(variant()).train(tmp_path, *callbacks)
    assert not (tmp_path / "checkpoints").exists()
