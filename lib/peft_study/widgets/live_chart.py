"""What moves while a cell runs: a line that says how far a slow step is, and the chart of a training.

These are displays that are updated in place, no widgets: they stay as they are when the notebook is saved and reopened.
"""

from html import escape
from time import monotonic
from typing import Any

import pandas as pd
from IPython.display import HTML, display
from transformers import TrainerCallback

from peft_study.report import figures as plots
from peft_study.widgets import markup

PAUSE = 1.0  # seconds between two drawings, at least: more often, drawing would slow down what it shows


class Line:
    """A line that says what a slow step does and how far it is; a `progress.Tell`."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._begin = monotonic()
        self._shown = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it, at most twice a second, and always when all is done."""
        clock = monotonic()
        if self._handle is not None and done < total and clock - self._shown < PAUSE / 2:
            return
        self._shown = clock
        count = f"{done:,} of {total:,}"
        text = f"{what}: {count}" if done < total else f"{what}: {count}, in {clock - self._begin:.0f} s"
        self._handle = _shown(HTML(markup.line(text)), self._handle)


class LiveChart(TrainerCallback):  # type: ignore[misc]
    """Draws loss and validation accuracy while training runs, and says how long it will still take."""

    def __init__(self, strategy: str) -> None:
        self._own = plots.colour(strategy)
        self._status: Any = None
        self._chart: Any = None
        self._drawn = 0.0
        self._begin = monotonic()
        self._first = 0  # the step from which it goes on

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say that it has begun: the first step takes longer than those that follow."""
        self._begin, self._first = monotonic(), state.global_step
        self._tell(state, "The first steps are the slowest.")

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw what has been logged so far."""
        if monotonic() - self._drawn > PAUSE:
            self._draw(state, _time_left(state, monotonic() - self._begin, self._first))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw the whole run."""
        seconds = monotonic() - self._begin
        if state.global_step < state.max_steps:
            told = f"Interrupted after {seconds:.0f} s; the chart and the best checkpoint so far are kept."
        else:
            told = f"Done in {seconds:.0f} s, evaluations included."
        self._draw(state, told)

    def _tell(self, state: Any, told: str) -> None:
        """Say how far the training is, and show the evaluations so far as a table."""
        rows = [entry for entry in state.log_history if "eval_loss" in entry]
        html = markup.line(f"Step {state.global_step:,} of {state.max_steps:,}. {told}")
        self._status = _shown(HTML(html + (_evaluations(rows) if rows else "")), self._status)

    def _draw(self, state: Any, told: str) -> None:
        self._tell(state, told)
        log = pd.DataFrame(state.log_history)
        figure, (left, right) = plots.figure(plots.FULL, 2.4, columns=2)
        plots.loss_per_steps(log, left, self._own)
        plots.validation_accuracy(log, right, self._own)
        for axis in (left, right):
            axis.set(xlim=(0, 1.02 * state.max_steps))  # the whole training, and room for the last mark
        self._chart = _shown(figure, self._chart)
        self._drawn = monotonic()


def _shown(content: Any, handle: Any) -> Any:
    """Display `content`, in place of what the `handle` shows if there is one; returns the handle."""
    if handle is None:
        return display(content, display_id=True)
    handle.update(content)
    return handle


def _time_left(state: Any, seconds: float, first: int) -> str:
    """How long the training has taken since step `first` and, at this pace, will still take; and how to stop it."""
    done = state.global_step - first
    left = seconds / done * (state.max_steps - state.global_step) if done else 0.0
    return (
        f"{seconds:.0f} s so far, about {left:.0f} s left. ■ in the toolbar ends it after this step and keeps the best "
        "checkpoint so far; ■ again ends it at once."
    )


def _evaluations(rows: list[dict[str, Any]]) -> str:
    """The evaluations on the validation part so far, as HTML; the lowest loss is marked."""
    lowest = min(row["eval_loss"] for row in rows)
    head = "<tr><th>step</th><th>validation loss</th><th>validation accuracy</th><th></th></tr>"
    body = "".join(
        f"<tr><td>{row['step']:,}</td><td>{row['eval_loss']:.3f}</td><td>{row['eval_accuracy']:.1%}</td>"
        f"<td>{escape('lowest loss' if row['eval_loss'] == lowest else '')}</td></tr>"
        for row in rows
    )
    return f'<table class="evaluations">{head}{body}</table>'
