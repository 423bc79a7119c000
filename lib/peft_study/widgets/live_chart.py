"""Displays that change while a cell runs: a progress line, and the chart of a training.

They are displays that are updated in place, not widgets, so they persist when the notebook is saved and reopened.
"""

from time import monotonic
from typing import Any

import pandas as pd
from IPython.display import HTML, display
from transformers import TrainerCallback

from peft_study.report import figures
from peft_study.widgets import markup

PAUSE = 1.0  # seconds between two drawings, at least: more often, drawing would slow down what it shows
HINT = "■ in the toolbar ends the training after this step and keeps the selected checkpoint."


def put(handle: Any, content: Any) -> Any:
    """Display `content` in place of a handle's (None at first); returns the handle."""
    if handle is None:
        return display(content, display_id=True)
    handle.update(content)
    return handle


class Line:
    """A progress line for a slow step; a `prediction.Tell`."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._begin, self._latest = monotonic(), -PAUSE

    def __call__(self, what: str, done: int, total: int) -> None:
        """Update it at most once in a `PAUSE`, and always at the end."""
        clock = monotonic()
        if done == total or clock - self._latest >= PAUSE:
            self._latest = clock
            took = f", in {clock - self._begin:.0f} s" if done == total else ""
            self._handle = put(self._handle, markup.line(f"{what}: {done:,} of {total:,}{took}"))


class LiveChart(TrainerCallback):  # type: ignore[misc]
    """Draws loss and validation accuracy while training runs, below the table of `NotebookProgressCallback`.

    The chart goes at the end: the notebook's next figure is the same, of the whole log.
    """

    def __init__(self, strategy: str) -> None:
        self._colour = figures.colour(strategy)
        self._line = self._chart = None
        self._begin = self._drawn = monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show how to stop it."""
        self.say(f"The first steps are the slowest. {HINT}")

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw the log so far."""
        if monotonic() - self._drawn <= PAUSE:
            return
        log = pd.DataFrame(state.log_history)
        figure, axes = figures.figure(figures.FULL, 2.4, columns=2)
        figures.loss_per_steps(log, axes[0], self._colour)
        figures.validation_accuracy(log, axes[1], self._colour)
        for axis in axes:
            axis.set(xlim=(0, 1.02 * state.max_steps))  # the whole training, and room for the last mark
        self._chart = put(self._chart, figure)
        self._drawn = monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Replace the chart by one line."""
        step, last = state.global_step, state.max_steps
        ended = f"{'Done in' if step == last else 'Interrupted after'} {monotonic() - self._begin:.0f} s"
        self.say(f"Step {step:,} of {last:,}. {ended}; evaluations included.")
        if self._chart is not None:
            put(self._chart, HTML(""))

    def say(self, text: str) -> None:
        """Replace the line above the chart."""
        self._line = put(self._line, markup.line(text))
