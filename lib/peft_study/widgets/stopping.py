"""Stop a training from JupyterLab's toolbar.

The click of a widget's button waits until the running cell has ended. The toolbar's ■ sends SIGINT to the kernel at
once, for which Python calls its handler between two lines of Python: after a step of several seconds, if that is spent
in PyTorch. The number of the signal is written to `signal.set_wakeup_fd` at once, so that a thread can answer.
"""

import signal
import socket
from collections.abc import Callable
from threading import Thread
from typing import Any

from transformers import TrainerCallback


class StopOnInterrupt(TrainerCallback):  # type: ignore[misc]
    """Ends a training after the current step at the first interrupt, and at once at the second.

    The last step is evaluated and saved like a regular one, so that `checkpoint = "best"` can select it. `answer` is
    called in another thread at an interrupt, within a second whatever the length of a step.
    """

    def __init__(self, answer: Callable[[], None] = lambda: None) -> None:
        self._answer = answer
        self._asked = False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Install the signal handler; IPython restores its own at the end of the cell."""
        if self._before is None:  # else the training begins anew, and the handler is ours
            self._asked = False
            self._before = signal.signal(signal.SIGINT, self._interrupted)
            self._waking, waked = socket.socketpair()
            self._waking.setblocking(False)
            self._woken_before = signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
            Thread(target=self._wait, args=(waked,), daemon=True).start()

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
            signal.set_wakeup_fd(self._woken_before)
            self._waking.close()
            self._before = None

    def _wait(self, waked: socket.socket) -> None:
        with waked:
            while woken := waked.recv(64):  # until the training has ended
                if signal.SIGINT in woken and signal.getsignal(signal.SIGINT) == self._interrupted:  # it has not failed
                    self._answer()

    def _interrupted(self, number: int, frame: Any) -> None:
        if self._asked:
            self.on_train_end(None, None, None)
            raise KeyboardInterrupt
        self._asked = True
