"""Stopping a training from JupyterLab's toolbar.

A button of a widget would not do: its click waits until the running cell has ended. The toolbar's ■ reaches the kernel
at once, as the signal SIGINT, which Python turns into a `KeyboardInterrupt` at whatever line it is.
"""

import signal
from typing import Any

from transformers import TrainerCallback


class StopOnInterrupt(TrainerCallback):  # type: ignore[misc]
    """Ends a training after the current step when it is interrupted, and at once when it is interrupted again.

    The step at which it ends is evaluated and saved as a regular one would be, so that a variant that asks for the best
    checkpoint gets the best so far, this one included.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take over the signal; IPython takes it back at the end of the cell, however that ends."""
        if self._before is None:  # else the training begins anew, and the handler is ours
            self._asked = False
            self._before = signal.signal(signal.SIGINT, self._interrupted)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End here if that was asked for."""
        if self._asked:
            control.should_training_stop = True
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.save_strategy != "no"

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _interrupted(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
