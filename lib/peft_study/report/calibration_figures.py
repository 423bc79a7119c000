"""The figures of calibration: a table and an axis in, the same axis out."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from peft_study.analysis.accuracy import title
from peft_study.analysis.selection import few, largest
from peft_study.report.figures import FULL, GREY, LEGEND_COLUMNS, LINES, colour, figure, legend_below, marker


def both(
    diagram: Mapping[str, tuple[str, pd.DataFrame]], measured: pd.DataFrame, scaled: pd.DataFrame, baseline: str
) -> Figure:
    """The figure of calibration: the reliability diagram beside calibration error against accuracy, one legend."""
    fig, (left, right) = figure(FULL, 2.7, columns=2)
    reliability(diagram, left)
    accuracy_and_calibration(measured, scaled, right, baseline)
    return fig


def reliability(diagram: Mapping[str, tuple[str, pd.DataFrame]], ax: Axes) -> Axes:
    """Accuracy against confidence, a line per variant, beside the diagonal of perfect calibration.

    `diagram` is of `tables.diagram`. The points of a line are bins of equally many reviews.
    """
    lowest = min([50, *(100 * rows["confidence"].min() for _, rows in diagram.values())])  # below a half: many classes
    ax.plot([lowest, 100], [lowest, 100], color=GREY, linewidth=0.8, linestyle="--")
    for place, (name, (strategy, rows)) in enumerate(diagram.items()):
        values = 100 * rows[["confidence", "accuracy", "low", "high"]]
        ax.errorbar(
            values["confidence"],
            values["accuracy"],
            yerr=np.clip([values["accuracy"] - values["low"], values["high"] - values["accuracy"]], 0, None),
            **{"color": colour(strategy), "marker": marker(strategy), "linestyle": LINES[place % len(LINES)]},
            **{"markersize": 3, "linewidth": 1, "elinewidth": 0.5, "label": name},
        )
    ax.set(xlabel="confidence (%)", ylabel="test accuracy (%)", xlim=(lowest - 1, 101))
    return legend_below(ax, LEGEND_COLUMNS)


def accuracy_and_calibration(measured: pd.DataFrame, scaled: pd.DataFrame, ax: Axes, baseline: str) -> Axes:
    """Calibration error against accuracy at the largest budget, each with the interval of the former.

    Filled marks are the models as trained, hollow ones the same after scaling by a temperature, where there is one.
    """
    shown = few(largest(measured), "ece", baseline)
    for row in shown.to_dict("records"):
        style = {"color": colour(row["strategy"]), "marker": marker(row["strategy"]), "linestyle": "none"}
        error = np.clip([[row["ece"] - row["ece_low"]], [row["ece_high"] - row["ece"]]], 0, None)
        place = 100 * row["accuracy"]
        ax.errorbar(place, 100 * row["ece"], yerr=100 * error, capsize=2, elinewidth=0.6, label=title(row), **style)
        same = scaled[[ids == row["run_ids"] for ids in scaled["run_ids"]]] if len(scaled) else scaled
        for after in same["ece_after"] if len(same) else ():
            ax.plot(place, 100 * after, markerfacecolor="white", **style)
            ax.plot([place, place], [100 * row["ece"], 100 * after], color=GREY, linewidth=0.5, zorder=0)
    ax.set(xlabel="test accuracy (%)", ylabel="ECE (points)")
    ax.margins(0.15)
    ax.set_ylim(0, None)
    ax.locator_params(axis="x", nbins=6)
    return ax
