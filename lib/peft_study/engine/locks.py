"""Who is at work where: locks of the system, which end with their process, however it ends.

A driver holds its study, a step what it writes, a training also its GPU. A step's kernel holds the locks of the step
with it: one that outlives a killed step for a moment still keeps others from the folder that it writes to.
"""

import errno
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from peft_study.errors import StudyError, writing

NO_KERNEL = (
    "the Jupyter kernel python3 does not start ({}); run the same command again and, if that does not help, install "
    "ipykernel in this environment again"
)
_held: set[int] = set()  # the descriptors of the locks that this process holds, for its kernels


def lock(path: Path) -> int | None:
    """Lock a file, made if need be, and give its descriptor; None if another process holds it.

    Raises `StudyError` where the file cannot be made, or lies on a file system without locks.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP):
            raise
        raise StudyError(
            f"{path} cannot be locked ({error.strerror}), so two runs could write into one folder; have its file "
            "system mounted with locks (Lustre: -o flock), or set PEFT_STUDY_HOME to a folder on another one"
        ) from error
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of this file; a file that is not there is not made."""
    if not path.exists():
        return False
    if (descriptor := lock(path)) is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold the lock of a file, once it is free; yields whether it had to be waited for."""
    waited = False
    while (descriptor := lock(path)) is None:
        waited = True
        time.sleep(0.5)
    with _for_kernels([descriptor]):
        yield waited


@contextmanager
def _for_kernels(descriptors: Collection[int]) -> Iterator[None]:
    """Let the kernels of this process hold these locks as well; release them at the end."""
    _held.update(descriptors)
    try:
        yield
    finally:
        _held.difference_update(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def gpus(count: int = 1) -> Iterator[None]:
    """Where PEFT_STUDY_GPUS=0,1,... names this machine's GPUs, hold `count` that are free, and show no others."""
    names = [gpu for gpu in os.environ.get("PEFT_STUDY_GPUS", "").split(",") if gpu]
    if not names:
        yield
        return
    if count > len(names):
        raise StudyError(f"processes = {count}, and this machine has {len(names)} GPU(s) to give; lower it")
    folder = Path(tempfile.gettempdir())
    while not (held := _all_or_none(folder, names, count)):
        time.sleep(0.5)
    with _for_kernels(held):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held.values())
        yield


def _all_or_none(folder: Path, names: list[str], count: int) -> dict[int, str]:
    """Lock `count` GPUs, or none: two runs that each wait for the other's would wait for ever. Descriptor -> GPU."""
    held: dict[int, str] = {}
    for gpu in names:
        descriptor = lock(folder / f"peft-study-{os.getuid()}-gpu-{gpu}.lock")
        if descriptor is not None:
            held[descriptor] = gpu
        if len(held) == count:
            return held
    for descriptor in held:
        os.close(descriptor)
    return {}


def kernels() -> Any:
    """The class that starts kernels which share the locks of this process (`kernel_manager_class` of nbclient).

    On Linux they talk over sockets that have a name of their own. Free ports of TCP, which is the default, are drawn
    before the kernel takes them: of runs that start side by side two may draw the same, and one kernel never answers.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Holding(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if sys.platform == "linux":
                self.transport, self.ip = "ipc", f"@peft-study-{uuid4().hex}"  # @: in no folder, gone with the process

        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            try:
                await super()._async_launch_kernel(kernel_cmd, pass_fds=tuple(_held), **options)
            except OSError as error:
                raise StudyError(NO_KERNEL.format(error)) from error

    return Holding
