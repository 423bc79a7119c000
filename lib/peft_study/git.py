"""What git knows of the checkout: the commit of its code, and when a file was last changed."""

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from peft_study import paths


def _git(folder: Path, *words: str) -> str | None:
    """The output of a git command in `folder`; None where it fails, as outside git."""
    try:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def commit() -> dict[str, Any]:
    """The checkout's commit and whether the code that made a run differs from it; both None outside git."""
    state = _git(paths.CHECKOUT, "status", "--porcelain=v2", "--branch", "--", "lib", "notebooks")
    if state is None:
        return {"commit": None, "dirty": None}
    head, *lines = state.removeprefix("# branch.oid ").splitlines()
    return {"commit": head, "dirty": any(not line.startswith("#") for line in lines)}


def last_change(file: Path) -> tuple[str, datetime] | None:
    """The last commit that changed `file`, and its time.

    None where that is unknown: outside git, in a clone without history, and where the file differs from the commit.
    """
    if _git(file.parent, "rev-parse", "--is-shallow-repository") != "false\n":
        return None
    changed = _git(file.parent, "status", "--porcelain", "--", file.name)
    found = _git(file.parent, "log", "-1", "--format=%H %cI", "--", file.name)
    if changed or not found:
        return None
    head, moment = found.split()
    return head, datetime.fromisoformat(moment)
