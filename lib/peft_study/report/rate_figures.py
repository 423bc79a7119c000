"""Figures of learning rates: validation loss or a test score against the rate, a panel for each strategy."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from peft_study.analysis.accuracy import further, title
from peft_study.report.figures import FULL, GREY, LINES, MARKERS, colour, literal, marker, score_axis
from peft_study.strategies.table import label

CEILING = 1.5  # times the loss of guessing: losses above it only show that a rate does not work
ACROSS = 3  # panels in a row


def rate_curves(sweep: pd.DataFrame, column: str = "loss", classes: int = 2) -> Figure:
    """Validation `loss`, or a metric on the test set, against the rate on a log axis; all panels share their axes.

    `sweep` is of `learning_rates.sweep`. Each group is a line, its chosen rate has a ring. Guessing among `classes`
    equally likely ones is a dotted line; a loss above `CEILING` times as much, or one that is not finite, is a triangle
    at that height.
    """
    parts = [part for _, part in sweep.groupby("strategy", sort=False)]
    rows = -(-len(parts) // ACROSS)
    fig = Figure(figsize=(FULL, 2.4 * rows), layout="constrained")
    axes = fig.subplots(rows, min(len(parts), ACROSS), sharex=True, sharey=True, squeeze=False).ravel()
    for ax, part in zip(axes, parts, strict=False):
        _panel(ax, part, column, float(np.log(classes)))
    for spare in axes[len(parts) :]:
        spare.remove()
    return fig


def _panel(ax: Axes, table: pd.DataFrame, column: str, chance: float) -> None:
    """The curves of one strategy; `chance` is the loss of guessing (nats)."""
    ceiling = CEILING * chance
    drawn = table[table["measured"]] if column == "loss" else table
    sizes = table["train_size"].nunique() > 1
    for place, (_, line) in enumerate(drawn.sort_values("rate").groupby(["train_size", *further(table)], sort=False)):
        row = line.iloc[0].to_dict()
        own, high = colour(row["strategy"]), (column == "loss") & ~(line[column] <= ceiling)
        values = line[column].mask(high, ceiling) if column == "loss" else 100 * line[column]
        settings = title(row).removeprefix(label(row["strategy"])).removeprefix(", ")
        name = ", ".join(filter(None, [settings, f"{row['train_size']:,} labels" if sizes else ""]))
        style = {"linestyle": LINES[place % len(LINES)], "linewidth": 1.2}
        ax.plot(line["rate"], values, label=literal(name), color=own, **style)
        for rows, shape, area in ((~high, marker(row["strategy"]), 12), (high, MARKERS[3], 24)):
            ax.scatter(line["rate"][rows], values[rows], marker=shape, s=area, color=own, zorder=3)
        ring = {"s": 70, "facecolors": "none", "edgecolors": GREY, "zorder": 4}
        ax.scatter(line["rate"][line["chosen"]], values[line["chosen"]], **ring)
    if column == "loss":
        ax.axhline(chance, color=GREY, linestyle=":", linewidth=0.8)
    ax.set(title=label(table["strategy"].iloc[0]), xscale="log", xlabel="peak learning rate")
    words = "validation loss (nats)" if column == "loss" else score_axis(column)
    ax.set_ylabel(words if ax.get_subplotspec().is_first_col() else "")
    ax.tick_params(labelbottom=True)  # shared axes leave them to the last row, which may be shorter
    _legend(ax)


def _legend(ax: Axes) -> None:
    """What distinguishes the lines of a strategy, below its panel, where it covers no data."""
    names = [str(line.get_label()) for line in ax.lines if not str(line.get_label()).startswith("_")]
    if any(names):
        below = ax.transAxes + ScaledTranslation(0, -0.38, ax.get_figure(root=True).dpi_scale_trans)  # inches
        columns = 3 if max(map(len, names)) <= 9 else 1  # as many as fit the width of a panel
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below}
        ax.legend(ncols=columns, columnspacing=1.0, handlelength=2.0, **place)
