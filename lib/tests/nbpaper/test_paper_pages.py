"""The pages of the PDF as they look: nothing outside the text block, nothing over anything else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
import typst
from paper_everything import PROSE, chart, everything
from paper_notebooks import md, pdf, table
from PIL import Image

from nbpaper.fonts import folders

MARGINS = (18, 20, 18, 22)
"""Left, top, right and bottom margin in millimetres."""

DESCENDERS = 4
"""Points that letters like g and a rule under a table may reach beyond the text block."""


def ink(folder: Path) -> list[Any]:
    """The pages of a kept project, a pixel a point, True where there is ink."""
    options: Any = {"root": str(folder), "ignore_system_fonts": True, "font_paths": folders()}
    pages = typst.compile(str(folder / "main.typ"), format="png", ppi=72, **options)
    pages = pages if isinstance(pages, list) else [pages]
    return [np.array(Image.open(io.BytesIO(page)).convert("L")) < 160 for page in pages]


def outside(page: Any) -> int:
    """How many points of ink lie outside the text block and the page number."""
    height, width = page.shape
    left, top, right, bottom = (round(side * 72 / 25.4) for side in MARGINS)
    rest = page.copy()
    rest[top - DESCENDERS : height - bottom + DESCENDERS, left - 2 : width - right + 2] = False
    rest[height - bottom + DESCENDERS :, width // 2 - 12 : width // 2 + 12] = False
    return int(rest.sum())


def test_nothing_leaves_the_text_block(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    pdf(*everything(tmp_path), folder=tmp_path, keep_typst=str(kept))
    pages = ink(kept)
    assert all(page.any() for page in pages)
    assert [outside(page) for page in pages] == [0] * len(pages)


def crowded() -> list[Any]:
    """A tall figure that meets one of the full width: Typst alone sets its caption over the foot of the page."""
    prose = [md("# T"), *(md(PROSE * count) for count in (2, 2, 1))]
    return [*prose, chart("fig-wide", full=True, height=7), chart("fig-tall", height=6.5)]


def test_floats_never_run_over_the_foot_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pdf(*crowded(), keep_typst=str(tmp_path))
    assert json.loads((tmp_path / "placements.json").read_text()) == {"fig-tall": "page"}
    assert not any(outside(page) for page in ink(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("nbpaper.typeset.overprinting", lambda found: None)
        pdf(*crowded(), keep_typst=str(tmp_path))
    assert any(outside(page) for page in ink(tmp_path))  # else Typst has learnt it, and typeset.py can be shorter


def test_a_figure_taller_than_the_page_is_made_to_fit(tmp_path: Path) -> None:
    pdf(chart("fig-tower", height=14), chart("fig-hall", full=True, height=12), keep_typst=str(tmp_path))
    assert not any(outside(page) for page in ink(tmp_path))


def test_a_table_taller_than_the_page_breaks_and_loses_nothing(tmp_path: Path) -> None:
    text = "words that fill a cell " * 30
    rows = "".join(f"<tr><td>row {i}</td><td>{text}</td></tr>" for i in range(30))
    data = pdf(table("tbl-tall", f"<table>{rows}</table>"), keep_typst=str(tmp_path))
    shown = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages)
    assert all(f"row {i}" in shown for i in range(30))
    assert not any(outside(page) for page in ink(tmp_path))
