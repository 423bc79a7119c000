"""Importing nbpaper, and its use through nbconvert's command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
from paper_notebooks import figure, md, notebook


def test_importing_the_package_is_light() -> None:
    heavy = "('nbconvert', 'bs4', 'matplotlib', 'typst')"
    check = f"import sys, nbpaper; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_nbconvert_runs_both_exporters_by_name(tmp_path: Path) -> None:
    nbformat.write(notebook(md("# T\n\nSee [it](#cell-id=fig-a)."), figure("fig-a")), tmp_path / "paper.ipynb")
    for suffix, start in (("html", b"<!DOCTYPE html>"), ("pdf", b"%PDF")):
        command = [sys.executable, "-m", "nbconvert", "--to", f"paper-{suffix}", str(tmp_path / "paper.ipynb")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"paper.{suffix}").read_bytes().startswith(start)
