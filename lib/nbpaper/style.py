"""Matplotlib settings for figures that sit well in the paper: small type, thin lines, vectors whose text is text.

Text stays text so that it can be selected, searched and read out; only in JupyterLab, which shows a figure as an image
without fonts of its own, it is outlines. It is set in the typeface of the paper, STIX, which matplotlib ships; a page
embeds it. Other scripts are placed by the metrics of `fonts.fallbacks`.
"""

from __future__ import annotations

import os
from io import StringIO
from typing import TYPE_CHECKING, Any

from nbpaper.fonts import FAMILY, TYPEFACE, fallbacks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = 3.3
"""Width in inches of one column of the PDF (A4)."""

FULL = 6.85
"""Width in inches of both columns of the PDF (A4), for figures whose cell has the span `full`."""

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), readable with any colour vision, darkest first.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

GREY = "#6b6b6b"
"""For what is no series: margins, references, headings; on a page it follows the theme, as black and white do."""

RC: dict[str, Any] = {
    "figure.figsize": (COLUMN, 2.2),
    "figure.facecolor": "white",
    "font.family": "serif",
    "font.serif": [TYPEFACE, FAMILY],
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7.5,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "patch.linewidth": 0.4,
    "svg.fonttype": "none",  # text, not outlines
    "pdf.fonttype": 42,  # whole glyphs rather than drawings of them
    "svg.hashsalt": "nbpaper",  # the same figure gives the same bytes
}


def use_paper_style() -> None:
    """Set the paper's matplotlib style and, inside IPython, show figures as SVG.

    SVG alone serves JupyterLab, the HTML page and the PDF, which keeps notebooks small.
    """
    import matplotlib
    import pandas as pd
    from cycler import cycler
    from IPython.core.getipython import get_ipython
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    settings: Any = matplotlib.rcParams
    settings.update(RC)
    if "JPY_SESSION_NAME" in os.environ:  # live in JupyterLab, whose images have the reader's fonts alone
        settings["svg.fonttype"] = "path"
    settings["axes.prop_cycle"] = cycler(color=PALETTE)
    for file in fallbacks():
        fontManager.addfont(file)
        if (family := fontManager.ttflist[-1].name) != TYPEFACE:
            settings["font.family"].append(family)
    for option in ("max_colwidth", "max_rows", "max_columns"):  # pandas cuts tables: a paper shows what it is asked for
        pd.set_option(f"display.{option}", None)
    if shell := get_ipython():
        set_matplotlib_formats("svg")
        shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, svg)


def svg(figure: Figure) -> str:
    """A figure as SVG, without the names of the fallback fonts: repeated in each text, they would double the file."""
    import matplotlib

    stream = StringIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", pad_inches=0.02, metadata={"Date": None})
    families = matplotlib.rcParams["font.family"][1:]
    return stream.getvalue().replace("".join(f", {family!r}" for family in families), "")
