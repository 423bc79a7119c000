"""The pages of the PDF as they look: nothing outside the text block, nothing over anything else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paper_everything import PROSE, chart, everything, grouped, wide
from paper_notebooks import md, pdf, table
from PIL import Image

from nbpaper.typeset import Box, boxes, font_folders, overprinting

typst = pytest.importorskip("typst")

MARGINS = {2: (18, 20, 18, 22), 1: (34, 20, 34, 22)}
"""Left, top, right and bottom margin in millimetres, by the number of columns."""

DESCENDERS = 4
"""Points that letters like g and a rule under a table may reach beyond the text block."""


def ink(folder: Path) -> list[Any]:
    """The pages of a kept project, a pixel a point, True where there is ink."""
    options: Any = {"root": str(folder), "ignore_system_fonts": True, "font_paths": font_folders()}
    pages = typst.compile(str(folder / "main.typ"), format="png", ppi=72, **options)
    return [np.array(Image.open(io.BytesIO(page)).convert("L")) < 160 for page in _as_list(pages)]


def _as_list(pages: Any) -> list[bytes]:
    return pages if isinstance(pages, list) else [pages]


def outside(page: Any, columns: int) -> int:
    """How many points of ink lie outside the text block and the page number."""
    height, width = page.shape
    left, top, right, bottom = (round(side * 72 / 25.4) for side in MARGINS[columns])
    rest = page.copy()
    rest[top - DESCENDERS : height - bottom + DESCENDERS, left - 2 : width - right + 2] = False
    rest[height - bottom + DESCENDERS :, width // 2 - 12 : width // 2 + 12] = False
    return int(rest.sum())


@pytest.mark.parametrize(("columns", "paper_size"), [(2, "a4"), (1, "us-letter")])
def test_nothing_leaves_the_text_block(columns: int, paper_size: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    pdf(*everything(tmp_path), folder=tmp_path, columns=columns, paper_size=paper_size, keep_typst=str(kept))
    pages = ink(kept)
    assert all(page.any() for page in pages)
    assert [outside(page, columns) for page in pages] == [0] * len(pages)


def crowded() -> list[Any]:
    """Floats of both widths in an order that makes Typst set one over another."""
    return [md("# T"), md(PROSE * 4), chart("fig-a", full=True, height=3), table("tbl-b", wide()), chart("fig-c", height=5)]


def test_floats_neither_cover_each_other_nor_the_foot_of_the_page(tmp_path: Path) -> None:
    pdf(*crowded(), keep_typst=str(tmp_path))
    pages = ink(tmp_path)
    assert [outside(page, 2) for page in pages] == [0] * len(pages)
