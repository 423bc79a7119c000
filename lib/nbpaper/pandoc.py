"""Joins the pieces of a paper into one document with a single call of pandoc.

The Lua reader in `assets/` parses every piece on its own, so that an unclosed fence in one cell cannot swallow the
next, numbers figures, tables and equations, resolves references and citations, and hands pandoc the whole document.
"""

from __future__ import annotations

import json
import logging
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from nbpaper.compose import Piece
from nbpaper.errors import PaperError
from nbpaper.frontmatter import FrontMatter
from nbpaper.preprocessor import Paper

ASSETS = Path(__file__).parent / "assets"
PROBLEM = "nbpaper problem: "
"""How the Lua reader marks what the author of the notebook has to mend."""

WRITER = {
    "html": ["--to", "html5", "--template", str(ASSETS / "page.html"), "--mathml", "--toc", "--toc-depth=3"],
    "typst": ["--to", "typst-citations", "--template", str(ASSETS / "main.typ"), "--syntax-highlighting=none"],
}


@cache
def pandoc_executable() -> str:
    """The pandoc that ships inside the pypandoc-binary wheel."""
    import pypandoc

    return str(pypandoc.get_pandoc_path())


def find_file(name: str, folders: list[Path], what: str) -> Path:
    """The first of the folders that has the file; absolute names stand for themselves."""
    for folder in folders:
        path = folder / name
        if path.is_file():
            return path
    raise PaperError(f"{what} {name!r} not found in {', '.join(str(folder) for folder in folders)}")


def convert(
    paper: Paper, pieces: list[Piece], target: str, log: logging.Logger, variables: dict[str, str] | None = None
) -> str:
    """The whole document in the language of the target (`html` or `typst`)."""
    job = {"target": target, "meta": _meta(paper), "pieces": [piece.as_dict() for piece in pieces]}
    extra = [f"--variable={name}:{value}" for name, value in (variables or {}).items()]
    command = [pandoc_executable(), "--from", str(ASSETS / "reader.lua"), "--wrap=none", *WRITER[target], *extra]
    done = subprocess.run(command, input=json.dumps(job).encode(), capture_output=True, check=False)
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


def _meta(paper: Paper) -> dict[str, Any]:
    front: FrontMatter = paper.front
    meta: dict[str, Any] = {
        "title": front.title,
        "subtitle": front.subtitle,
        "abstract": front.abstract,
        "authors": front.authors,
        "keywords": front.keywords,
        "date": front.date,
        "lang": front.lang,
    }
    if front.bibliography:
        meta["bibliography"] = str(find_file(front.bibliography, paper.folders, "bibliography"))
    if front.csl:
        meta["csl"] = str(find_file(front.csl, paper.folders, "citation style"))
    return meta
