"""A notebook that uses every feature of nbpaper, with figures that matplotlib drew and tables that pandas wrote."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from paper_notebooks import BIBLIOGRAPHY, code, fails, md, prints, raw, shows, table

from nbpaper import COLUMN, FULL, use_paper_style

FRONT = """---
title: Every *feature* of a paper
subtitle: And every one that goes wrong
authors:
- Ada Lovelace
- Grace Hopper
date: 2026-11-12
abstract: We show $x^2$ and more, as @hu2022 does.
bibliography: refs.bib
---"""

PROSE = "A paper is read by someone who was not there, so that every word has to say what it means. " * 6
MULTILINGUAL = "naïve 雨が降った 🌧️ مرحبا שלום <script>alert(1)</script>"


def drawn(width: float = COLUMN, height: float = 2.2, label: str = "labelled reviews") -> str:
    """A small chart as SVG, in the style of the paper."""
    with matplotlib.rc_context():
        use_paper_style()
        figure = Figure(figsize=(width, height))
        axes = figure.subplots()
        axes.plot([1, 2, 3], [1, 4, 2], marker="o", label="full")
        axes.set(xlabel=label, ylabel="accuracy (%)")
        axes.legend()
        stream = io.StringIO()
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return stream.getvalue()


def chart(label: str, *, full: bool = False, height: float = 2.2) -> Any:
    span = "#| fig-span: full\n" if full else ""
    source = (
        f"#| label: {label}\n#| fig-cap: What *{label}* shows.\n#| fig-alt: A line that rises and falls.\n{span}plot()"
    )
    return code(source, shows(svg=drawn(FULL if full else COLUMN, height), plain="<Figure>"))


def grouped() -> str:
    columns = ["strategy", "reviews", "accuracy (%)"]
    rows = [["full", 5000, 91.0], ["full", 10000, 91.5], ["lora", 5000, 90.0], ["lora", 10000, 90.5]]
    return str(pd.DataFrame(rows, columns=columns).set_index(columns[:2]).to_html())


def wide() -> str:
    return str(pd.DataFrame({f"a heading {i}": [i + 0.25] for i in range(14)}).to_html())


def everything(folder: Path) -> list[Any]:
    """The cells; `folder` gets the bibliography and is where the paper is to be made."""
    (folder / "refs.bib").write_text(BIBLIOGRAPHY, "utf-8")
    return [
        raw(FRONT),
        md(f"# Every feature\n\n## Introduction {{#sec-start}}\n\n{PROSE}[^a]\n\n[^a]: A footnote, with $x$."),
        code("seeds = 3", tags=("parameters",)),
        md(f"See @fig-line, @fig-wide, @tbl-grouped, @tbl-wide, @eq-update and @sec-details.\n\n{PROSE}"),
        code("print('short')", prints("short\n")),
        code("print('long')", prints("a long line of output " * 12 + "\n" + "line\n" * 2000)),
        chart("fig-line"),
        chart("fig-wide", full=True),
        md("> [!NOTE]\n> A remark with a [link](https://example.org).\n\n> [!WARNING]\n> Take *care*."),
        md("$$ h = W x + \\frac{\\alpha}{r} B A x $$ {#eq-update}\n\n> A quotation.\n\n- one\n- two\n\n1. first"),
        table("tbl-grouped", grouped(), "Rows in groups."),
        table("tbl-wide", wide(), "Fourteen columns."),
        md("| a | b |\n|---|--:|\n| x | 1 |\n\n```python\ndef f(x):\n    return x  # a comment\n```"),
        code("total = " + " + ".join(f"value_{i}" for i in range(60))),
        code("review", shows(html=f"<details><summary>A review</summary>{MULTILINGUAL}</details>", plain="x")),
        code("review", shows(markdown=MULTILINGUAL)),
        code("review", shows(html=f"<table><tr><td>{MULTILINGUAL.replace('<', '&lt;')}</td></tr></table>")),
        code("1 / 0", fails()),
        md("## References\n\n## Details {.appendix #sec-details}\n\n### Inner\n\n" + PROSE),
    ]
