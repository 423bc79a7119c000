"""Compiles a Typst project to PDF, and sees to it that no two things land in one place.

Typst moves figures and tables ("floats") to the top or bottom of a page. Where floats of one column and floats of the
full width meet, it may set one over the other or over the foot of the page (https://github.com/typst/typst/issues/6297).
So the places of all floats are asked for first, and one that is in trouble tries the next of `PLACEMENTS`.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typst

from nbpaper.errors import PaperError
from nbpaper.fonts import folders
from nbpaper.pandoc import ASSETS

PLACEMENTS = {"": "page", "page": "text", "text": "broken", "broken": "broken"}
"""What a float of each place turns to: the full width of a page, the text itself, and that even broken across pages."""

TRIES = 12
TOLERANCE = 1.0
"""Points that two boxes may share: lines of text are measured at their baselines."""


@dataclass(frozen=True)
class Box:
    """What one float covers of one page, in points from the upper left; `foot` is where the page's text ends."""

    label: str
    page: int
    left: float
    top: float
    bottom: float
    foot: float
    full: bool

    @property
    def leaves_the_text(self) -> bool:
        """Whether the float runs over the foot of the page."""
        return self.bottom > self.foot + TOLERANCE

    def meets(self, other: Box) -> bool:
        """Whether two floats cover each other."""
        beside = self.page != other.page or not (self.full or other.full or self.left == other.left)
        return not beside and self.top < other.bottom - TOLERANCE and other.top < self.bottom - TOLERANCE


def system_fonts() -> list[Path]:
    """The files of this machine's fonts."""
    return [Path(font.path) for font in typst.Fonts(include_embedded_fonts=False).fonts() if font.path]


def typeset(files: dict[str, bytes], folder: Path, system_fonts: bool, log: logging.Logger) -> bytes:
    """The PDF of a Typst project, whose files are written to `folder`, with no float over another."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ASSETS / "paper.typ", folder)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    shared: dict[str, Any] = {
        "root": str(folder),
        "ignore_system_fonts": not system_fonts,
        "font_paths": typst.Fonts(include_system_fonts=system_fonts, font_paths=folders()),
    }
    main = str(folder / "main.typ")
    placements: dict[str, str] = {}
    try:
        for _ in range(TRIES):
            (folder / "placements.json").write_text(json.dumps(placements), encoding="utf-8")
            marks = json.loads(typst.query(main, "<paper-mark>", field="value", **shared))
            blamed = overprinting(boxes(marks))
            if blamed is None:
                break
            placements[blamed] = PLACEMENTS[placements.get(blamed, "")]
        # the time is part of the file, which is to have the same bytes for the same notebook
        pdf, warnings = typst.compile_with_warnings(main, format="pdf", timestamp=0, **shared)
    except typst.TypstError as error:
        raise PaperError(f"Typst cannot set this paper: {' '.join([error.message, *error.hints])}") from error
    for warning in warnings:
        log.warning("typst: %s", warning.message)
    return bytes(pdf)


def boxes(marks: list[dict[str, Any]]) -> list[Box]:
    """What every float covers, from the marks that `paper-float` sets before and after its parts."""
    by_label: dict[str, list[dict[str, Any]]] = {}
    for mark in marks:
        by_label.setdefault(mark["label"], []).append(mark)
    return [_box(label, found) for label, found in by_label.items()]


def _box(label: str, marks: list[dict[str, Any]]) -> Box:
    heights = [mark["y"] for mark in marks]
    first = marks[0]
    left = min(mark["x"] for mark in marks)
    return Box(label, first["page"], left, min(heights), max(heights), first["foot"], first["full"])


def overprinting(found: list[Box]) -> str | None:
    """The label of the float that should give way first, or None if all stand well.

    Floats of one column give way to those of the full width, later ones to earlier ones.
    """
    troubled = [box for box in found if box.leaves_the_text or any(box.meets(other) for other in found if other != box)]
    if not troubled:
        return None
    page = min(box.page for box in troubled)
    return min((box for box in troubled if box.page == page), key=lambda box: (box.full, -found.index(box))).label
