"""Stop a training from JupyterLab's toolbar.

The click of a widget's button waits until the running cell has ended. The toolbar's ■ sends SIGINT to the kernel at
once, which Python raises as a `KeyboardInterrupt` at an arbitrary line.
"""

import signal
from typing import Any

from transformers import TrainerCallback


class StopOnInterrupt(TrainerCallback):  # type: ignore[misc]
    """Ends a training after the current step at the first interrupt, and at once at the second.

    The last step is evaluated and saved like a regular one, so that `checkpoint = "best"` can select it.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Install the signal handler; IPython restores its own at the end of the cell."""
        if self._before is None:  # else the training begins anew, and the handler is ours
            self._asked = False
            self._before = signal.signal(signal.SIGINT, self._interrupted)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End here if requested."""
        if self._asked:
            control.should_training_stop = True
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.save_strategy != "no"

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the signal handler."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _interrupted(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
