"""A notebook that uses every feature of nbpaper, with figures that matplotlib drew and tables that pandas wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from paper_notebooks import BIBLIOGRAPHY, HU, Front, code, fails, md, prints, shows, table

from nbpaper import COLUMN, FULL, use_paper_style
from nbpaper.style import svg

FRONT = Front(
    title="Every *feature* of a paper",
    subtitle="And every one that goes wrong",
    authors=["Ada Lovelace", "Grace Hopper"],
    abstract=f"We show $x^2$ and more ({HU}).",
    bibliography="refs.bib",
)

PROSE = "A paper is read by someone who was not there, so that every word has to say what it means. " * 6
LABELS = ("fig-line", "fig-wide", "tbl-grouped", "tbl-wide")
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
        return svg(figure)


def chart(label: str, *, full: bool = False, height: float = 2.2) -> Any:
    picture = shows(svg=drawn(FULL if full else COLUMN, height), plain="<Figure>")
    asked = {"alt": "A line that rises and falls.", "span": "full" if full else "column"}
    return [code("plot()", picture, label=label, **asked), md(f"What *{label}* shows.", "caption")]


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
        FRONT,
        md(f"# Every feature\n\n## Introduction\n\n{PROSE}[^a]\n\n[^a]: A footnote, with $x$."),
        code("seeds = 3", tags=("parameters",)),
        md("".join(f"See [it](#cell-id={x}). " for x in LABELS) + f"\\eqref{{eq:update}}\n\n{PROSE}"),
        code("print('short')", prints("short\n")),
        code("print('long')", prints("a long line of output " * 12 + "\n" + "line\n" * 2000)),
        chart("fig-line"),
        chart("fig-wide", full=True),
        md("> [!NOTE]\n> A remark with a [link](https://example.org).\n\n> [!WARNING]\n> Take *care*."),
        md("$$ h = W x + \\frac{\\alpha}{r} B A x \\label{eq:update} $$\n\n> A quotation.\n\n- one\n- two\n\n1. first"),
        table("tbl-grouped", grouped(), "Rows in groups."),
        table("tbl-wide", wide(), "Fourteen columns."),
        md("| a | b |\n|---|--:|\n| x | 1 |\n\n```python\ndef f(x):\n    return x  # a comment\n```"),
        code("total = " + " + ".join(f"value_{i}" for i in range(60))),
        code("review", shows(html=f"<details><summary>A review</summary>{MULTILINGUAL}</details>", plain="x")),
        code("review", shows(markdown=MULTILINGUAL)),
        code("review", shows(html=f"<table><tr><td>{MULTILINGUAL.replace('<', '&lt;')}</td></tr></table>")),
        code("1 / 0", fails()),
        md("## Details\n\n### Inner\n\n" + PROSE, "appendix"),
    ]
