"""Operating-system locks, which end with their process.

A driver locks its study, a step its output, a training also its GPU. A step's kernel inherits its locks, so a kernel
that outlives a killed step keeps others from its folder.
"""

import errno
import fcntl
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

from peft_study.errors import StudyError, writing

_held: set[int] = set()  # descriptors of the locks that this process holds, for its kernels


def lock(path: Path) -> int | None:
    """Lock a file, created if necessary, and return its descriptor; None if another process holds it.

    The file then names this process, for `holder`. Raises `StudyError` where it cannot be written, or the file system
    has no locks.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(descriptor, 0)
            command = shlex.join(["python", "-m", "peft_study", *sys.argv[1:]])
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} ({command})".encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            raise StudyError(
                f"{path} cannot be locked ({error.strerror}), so two runs could write into one folder; have its file "
                "system mounted with locks (Lustre: -o flock), or set PEFT_STUDY_HOME to a folder on another one"
            ) from error
    return descriptor


def holder(path: Path) -> str | None:
    """The holder of the lock of this file: process, host and command; None without one."""
    if path.exists():
        if (descriptor := lock(path)) is None:
            return path.read_text(encoding="utf-8", errors="replace") or "another process"
        os.close(descriptor)
    return None


def lock_of(output: Path) -> Path:
    """The lock file of a step that writes the notebook `output`."""
    return output.with_name(".lock" if output.name == "train.ipynb" else f".{output.stem}.lock")


@contextmanager
def hold(*paths: Path) -> Iterator[Path]:
    """Hold the lock of the first of these files that is free; yields that file."""
    for path in cycle(paths):
        if (descriptor := lock(path)) is None:
            time.sleep(0.5 / len(paths))
            continue
        _held.add(descriptor)
        try:
            yield path
        finally:
            _held.discard(descriptor)
            os.close(descriptor)
        return


@contextmanager
def gpu() -> Iterator[None]:
    """With PEFT_STUDY_GPUS=0,1,..., hold a free one of these GPUs and hide the others.

    A GPU that is named twice takes two runs at a time.
    """
    names = [name for name in os.environ.get("PEFT_STUDY_GPUS", "").split(",") if name]
    places = [f"{name}.{names[:i].count(name)}" for i, name in enumerate(names)]
    files = [Path(tempfile.gettempdir(), f"peft-study-{os.getuid()}-gpu-{place}.lock") for place in places]
    with hold(*files) if files else nullcontext() as file:
        if file:
            os.environ["CUDA_VISIBLE_DEVICES"] = names[files.index(file)]
        yield


def kernels() -> Any:
    """The class of kernels that share the locks of this process (`kernel_manager_class` of nbclient).

    On Linux they use named sockets. The default, free TCP ports, are chosen before the kernel binds them, so two runs
    that start together may choose the same, and one kernel never answers.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Holding(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if sys.platform == "linux":
                self.transport, self.ip = "ipc", f"@peft-study-{uuid4().hex}"  # @: in no folder, gone with the process

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            await super()._async_launch_kernel(kernel_cmd, pass_fds=tuple(_held), **options)

    return Holding
