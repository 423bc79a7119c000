"""The interactive pieces: what a live notebook shows beside its static figures. Nothing else imports ipywidgets."""

import os
from time import monotonic
from typing import Any

import pandas as pd
from IPython.display import display
from transformers import TrainerCallback

from peft_study import plots
from peft_study.training import PlainProgress


def live() -> bool:
    """Whether somebody is watching: a kernel that a Jupyter server started, rather than papermill."""
    return "JPY_SESSION_NAME" in os.environ


def progress(strategy: str) -> TrainerCallback:
    """How training shows where it is: a chart in JupyterLab, lines in a log."""
    return LiveChart(strategy) if live() else PlainProgress()


class LiveChart(TrainerCallback):  # type: ignore[misc]
    """Draws loss and validation accuracy while training runs, at most once a second."""

    def __init__(self, strategy: str) -> None:
        self._own = plots.colour(strategy)
        self._handle: Any = None
        self._drawn = 0.0

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw what has been logged so far."""
        if monotonic() - self._drawn > 1:
            self._draw(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Draw the whole run."""
        self._draw(state)

    def _draw(self, state: Any) -> None:
        log = pd.DataFrame(state.log_history)
        figure, (left, right) = plots.figure(plots.FULL, 2.4, columns=2)
        plots.loss_per_steps(log, left, self._own)
        plots.validation_accuracy(log, right, self._own)
        left.set(xlim=(0, state.max_steps))
        right.set(xlim=(0, state.max_steps))
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        self._drawn = monotonic()
