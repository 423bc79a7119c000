"""Trainer callbacks: timing, the schedule of evaluations and checkpoints, progress for a log."""

from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from peft_study.errors import StudyError
from peft_study.files import write_json
from peft_study.paths import PROGRESS
from peft_study.study.variant import Variant
from peft_study.training.cost import between, mark, now

RESUMABLE = 10  # checkpoints of a training that can resume, evenly spread, beside those of its evaluations


class Timer(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Measures the optimizer steps, and counts their tokens, without waiting for the device after each.

    `steps` holds the seconds of every step, `tokens` those read by its end, `resumed` the steps after which training
    was resumed, `wall` the seconds of the whole training. Checkpoints store them, so those of a resumed training cover
    all its steps, each once: steps that were lost after the last checkpoint are excluded.
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.tokens: list[int] = []
        self.resumed: list[int] = []
        self.wall = 0.0
        self._start = 0.0
        self._hook: Any = None
        self._begin: Any = None
        self._read: Any = 0  # tokens; on a GPU a tensor, whose value is fetched by `state` only
        self._marks: list[tuple[Any, Any, Any]] = []  # begin, end and tokens read of the steps since

    def state(self) -> dict[str, Any]:
        """The measurements so far, for a checkpoint."""
        self.steps += [between(begin, end) for begin, end, _ in self._marks]
        self.tokens += [int(read) for *_, read in self._marks]
        self._marks.clear()
        self.wall, self._start = self.wall + now() - self._start, now()
        return {"steps": self.steps, "tokens": self.tokens, "resumed": self.resumed, "wall": self.wall}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Count the tokens of the model from now on; restore the measurements of the checkpoint, if resumed."""
        self._hook = model.register_forward_pre_hook(self._count, with_kwargs=True)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.wall = 0.0
        if state.global_step:
            for name, value in state.stateful_callbacks[type(self).__name__].items():
                setattr(self, name, value)
            self._read = self.tokens[-1]
            if state.global_step < state.max_steps:  # else nothing was left to train
                self.resumed = [*self.resumed, state.global_step]
        self._start = now()

    def _count(self, model: torch.nn.Module, _: Any, inputs: dict[str, Any]) -> None:
        if model.training:
            self._read = self._read + inputs["attention_mask"].sum()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Mark the start of a step."""
        self._begin = mark()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Mark the end of a step, and the tokens so far."""
        self._marks.append((self._begin, mark(), self._read))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Collect the measurements."""
        self._hook.remove()
        self.state()


class Schedule(TrainerCallback):  # type: ignore[misc]
    """Spaces the variant's evaluations evenly over the training, the last at its end.

    The Trainer's `eval_steps` gives one too few or too many if it does not divide the number of steps.
    """

    def __init__(self, variant: Variant) -> None:
        self._variant = variant

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Request the evaluation and the checkpoint that are due at this step."""
        variant = self._variant
        if variant.validation_fraction and _due(state, variant.evaluations):
            control.should_evaluate = control.should_save = True
        if variant.resume and _due(state, RESUMABLE):
            control.should_save = True
        if variant.resume and control.should_save:
            control.should_log = True  # no checkpoint holds the losses since the last log


def _due(state: Any, times: int) -> bool:
    """Whether one of `times` evenly spaced moments of the training, the last at its end, is at this step."""
    return state.global_step * times // state.max_steps > (state.global_step - 1) * times // state.max_steps


class PlainProgress(TrainerCallback):  # type: ignore[misc]
    """Prints a line for every tenth of the training and every evaluation.

    Once a second it writes `step`, `steps` and `loss` to `paths.PROGRESS` in the run's folder, for the terminal.
    """

    _written = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the position, at most once a second and at the end."""
        if state.global_step < state.max_steps and monotonic() - self._written < 1:
            return
        self._written = monotonic()
        loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
        position = {"step": state.global_step, "steps": state.max_steps, "loss": loss}
        with suppress(StudyError, OSError):  # no reason to end a training
            write_json(Path(args.output_dir).with_name(PROGRESS), position)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Print the latest measurements."""
        tenth = max(1, state.max_steps // 10)
        where = f"step {state.global_step:>5} of {state.max_steps}"
        if logs and "eval_loss" in logs:
            losses = f"validation loss {logs['eval_loss']:.3f}, accuracy {logs['eval_accuracy']:.1%}"
            print(f"{where}   {losses}", flush=True)
        elif logs and "loss" in logs and state.global_step % tenth < args.logging_steps:
            print(f"{where}   training loss {logs['loss']:.3f}", flush=True)
