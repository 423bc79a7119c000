"""Who is at work where: no two processes in one folder or on one GPU, whatever was killed before."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from made_checkouts import wait_for
from made_studies import RUN, make_done

from peft_study import paths
from peft_study.engine import locks, steps
from peft_study.errors import StudyError


def test_one_run_is_never_trained_by_two_processes_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "execute", lambda *_: pytest.fail("a finished run is trained again"))
    monkeypatch.setattr(steps, "code", lambda notebook: "the same")
    make_done(folder := paths.run_folder("tiny", RUN))
    (folder / "metrics.json").unlink()
    held = locks.lock(folder / ".lock")
    assert held is not None

    def finish(_: float) -> None:
        (folder / "metrics.json").write_text("{}")
        os.close(held)

    monkeypatch.setattr(time, "sleep", finish)  # the wait for the lock: meanwhile the other process ends
    steps.train("tiny", RUN)


def test_a_kernel_that_outlives_its_killed_step_keeps_the_step_locked(
    home: Path, notebook: Callable[..., Path]
) -> None:
    sleep = f"import os, time; open({str(home / 'kernel')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    notebook("study: str = ''", sleep)
    program = f"""
from pathlib import Path
from peft_study import paths
from peft_study.engine import steps
paths.NOTEBOOKS, steps.EXPLORE = Path({str(home)!r}), "source.ipynb"
steps.explore("tiny")
"""
    step = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    wait_for(lambda: (home / "kernel").exists() and bool((home / "kernel").read_text()))
    kernel = psutil.Process(int((home / "kernel").read_text()))
    kernel.suspend()  # no sooner does it notice that its parent is gone than it ends
    step.kill()
    step.wait()
    lock = locks.lock_of(paths.study_folder("tiny") / "explore.ipynb")
    assert f"process {step.pid} on" in (locks.holder(lock) or "")
    kernel.kill()
    psutil.wait_procs([kernel], timeout=10)
    assert locks.holder(lock) is None


def test_a_file_system_without_locks_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    with pytest.raises(StudyError, match=r"cannot be locked \(No locks available\).*PEFT_STUDY_HOME"):
        locks.lock(tmp_path / "lock")
