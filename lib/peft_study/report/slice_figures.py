"""The figure of slices: differences from the baseline strategy, a row for each slice."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from peft_study.analysis.accuracy import title
from peft_study.analysis.selection import largest
from peft_study.data.slices import SLICES
from peft_study.report.figures import COLUMN, GREY, colour, figure, height_of, legend_below, marker


def dots(compared: pd.DataFrame, titles: Sequence[str], margin: float) -> Figure:
    """The figure of `differences`, as high as its rows need."""
    fig, ax = figure(COLUMN, height_of(compared["slice"].nunique()) + 0.1 * len(titles))
    differences(compared, titles, margin, ax)
    return fig


def differences(compared: pd.DataFrame, titles: Sequence[str], margin: float, ax: Axes) -> Axes:
    """Differences at the largest budget with their intervals, slice by slice, beside the margin of equivalence.

    `compared` is of `tables.differences`; only the variants with these `titles` are drawn.
    """
    rows = [row for row in largest(compared).to_dict("records") if title(row) in titles]
    names = list(dict.fromkeys(row["slice"] for row in rows))
    drawn = list(dict.fromkeys(title(row) for row in rows))
    ax.axvspan(-margin, margin, color=GREY, alpha=0.15, linewidth=0)
    ax.axvline(0, color=GREY, linewidth=0.8)
    shift = dict(zip(drawn, np.linspace(-0.3, 0.3, len(drawn) + 2)[1:-1], strict=True))
    for row in rows:
        middle, place = row["difference"], names.index(row["slice"]) + shift[title(row)]
        ax.errorbar(
            middle,
            place,
            xerr=[[middle - row["low"]], [row["high"] - middle]],
            **{"color": colour(row["strategy"]), "marker": marker(row["strategy"]), "linestyle": "none"},
            **{"markersize": 3.5, "elinewidth": 0.8, "capsize": 2},
            label=title(row) if row["slice"] == names[0] else None,
        )
    sizes = {row["slice"]: row["reviews"] for row in rows}
    ax.set_yticks(range(len(names)), [f"{SLICES.get(name, name)} ({sizes[name]:,})" for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set(xlabel=f"difference in accuracy (points); grey: ± {margin:g}")
    return legend_below(ax)
