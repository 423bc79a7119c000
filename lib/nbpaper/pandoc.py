"""Joins the pieces of a paper into one document with a single call of pandoc.

The Lua reader in `assets/` parses every piece on its own, so that an unclosed fence in one cell cannot swallow the
next, numbers figures, tables and equations, resolves references and citations, and hands pandoc the whole document.
"""

from __future__ import annotations

import json
import logging
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pypandoc  # its wheel brings pandoc

from nbpaper.compose import Piece, absent_labels
from nbpaper.errors import PaperError
from nbpaper.paper import Paper

ASSETS = Path(__file__).parent / "assets"
PROBLEM = "nbpaper problem: "
"""How the Lua reader marks what the author of the notebook has to mend."""

WRITER = {
    "html": ["--to", "html5", "--template", str(ASSETS / "page.html"), "--mathml", "--toc", "--toc-depth=3"],
    "typst": ["--to", "typst-citations", "--template", str(ASSETS / "main.typ"), "--syntax-highlighting=none"],
}


def convert(paper: Paper, pieces: list[Piece], target: str, log: logging.Logger, *options: str) -> str:
    """The whole document in the language of the target (`html` or `typst`); `options` are pandoc's."""
    meta = asdict(paper.front)
    if paper.front.bibliography:
        meta["bibliography"] = str(paper.file(paper.front.bibliography, "bibliography"))
    job: dict[str, Any] = {"target": target, "meta": meta, "pieces": [asdict(piece) for piece in pieces]}
    job["absent"] = absent_labels(paper.cells, pieces)
    reader = ["--from", str(ASSETS / "reader.lua"), "--wrap=none"]
    command = [pypandoc.get_pandoc_path(), *reader, *WRITER[target], *options]
    # Run in the folder of the Lua modules: Lua's module path cannot hold a folder with ";" or "?" in its name.
    done = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True, check=False, cwd=ASSETS)
    messages = done.stderr.decode(errors="replace").splitlines()
    problems = [line.removeprefix(PROBLEM) for line in messages if line.startswith(PROBLEM)]
    if problems:
        raise PaperError("; ".join(dict.fromkeys(problems)))
    if done.returncode:
        raise PaperError(f"pandoc: {' '.join(line.strip() for line in messages if line.strip())}")
    for line in messages:
        if line.startswith("[WARNING]"):
            log.warning("pandoc: %s", line.removeprefix("[WARNING] "))
    return done.stdout.decode()
