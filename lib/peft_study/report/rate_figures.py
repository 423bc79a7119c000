"""The figures of 04: U-curves over the learning rate, a panel for each strategy."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from peft_study.analysis.accuracy import further, title
from peft_study.report.figures import FULL, GREY, LINES, MARKERS, colour, marker
from peft_study.strategies.table import STRATEGIES, label

COIN = float(np.log(2))  # the loss of a coin (nats)
CEILING = 1.5 * COIN  # losses above it say no more than that a rate does not work


def panels(count: int, height: float = 2.4, across: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure as wide as the page of `count` axes with common scales, `across` in a row of that many inches."""
    rows, columns = -(-count // across), min(count, across)
    fig = Figure(figsize=(FULL, height * rows), layout="constrained")
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.remove()
    for ax in axes[:count]:
        ax.tick_params(labelbottom=True)  # shared axes leave them to the last row, which may be shorter
    return fig, list(axes[:count])


def rate_curves(table: pd.DataFrame, ax: Axes, column: str = "loss") -> Axes:
    """One strategy's U-curves: validation `loss`, or `accuracy` on the test set, against the rate on a log axis.

    `table` has a row per rate with `strategy`, `train_size`, `rate`, the `column`, `measured`, `chosen` (ringed) and
    further axes; what differs in these is a line of its own. A loss above `CEILING`, or one that is not finite, is a
    triangle at that height.
    """
    axes = ["train_size", *further(table)]
    drawn = table[table["measured"]] if column == "loss" else table
    for place, (_, line) in enumerate(drawn.sort_values("rate").groupby(axes, sort=False)):
        row = line.iloc[0].to_dict()
        style = {"color": colour(row["strategy"]), "linestyle": LINES[place % len(LINES)], "linewidth": 1.2}
        values = line[column].fillna(np.inf).clip(upper=CEILING) if column == "loss" else 100 * line[column]
        lost = (column == "loss") & ~(line[column] <= CEILING)
        ax.plot(line["rate"], values, label=_settings(row, table["train_size"].nunique() > 1), **style)
        dots = {"color": style["color"], "zorder": 3}
        ax.scatter(line["rate"][~lost], values[~lost], marker=marker(row["strategy"]), s=12, **dots)
        ax.scatter(line["rate"][lost], values[lost], marker=MARKERS[3], s=24, **dots)
        ringed = line["chosen"]
        ax.scatter(line["rate"][ringed], values[ringed], s=70, facecolors="none", edgecolors=GREY, zorder=4)
    ax.set_title(label(table["strategy"].iloc[0]))
    return _rate_axis(ax, column)


def _settings(row: dict[str, Any], sizes: bool) -> str:
    """What tells a line from the others of its strategy; empty where there are no others."""
    told = title(row).removeprefix(STRATEGIES[row["strategy"]].label).removeprefix(", ")
    return ", ".join(filter(None, [told, f"{row['train_size']:,} reviews" if sizes else ""]))


def _rate_axis(ax: Axes, column: str) -> Axes:
    """The axes of `rate_curves`, and its legend below them, where it covers no data."""
    if column == "loss":
        ax.axhline(COIN, color=GREY, linestyle=":", linewidth=0.8)
    name = "validation loss (nats)" if column == "loss" else "test accuracy (%)"
    ax.set(xscale="log", xlabel="peak learning rate", ylabel=name if ax.get_subplotspec().is_first_col() else "")
    names = [name for line in ax.lines if (name := line.get_label()) and not name.startswith("_")]
    if names:
        below = ax.transAxes + ScaledTranslation(0, -0.38, ax.get_figure(root=True).dpi_scale_trans)  # inches
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below}
        columns = 3 if max(map(len, names)) <= 9 else 1  # as many as fit the width of a panel
        ax.legend(ncols=columns, columnspacing=1.0, handlelength=2.0, **place)
    return ax
