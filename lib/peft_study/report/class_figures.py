"""The figures of classes: how many texts each has, how long they are, which words speak for it, what it is taken for.

Every class has one colour in every figure and page. `names` are those of the classes 0, 1, ...; of two classes figures
show both, of many what there is room for.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from peft_study.data.labels import LABELS
from peft_study.report.figures import COLUMN, FULL, GREY, figure, legend_below, literal
from peft_study.text import shortened

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's, as in plots
NAMED = 8  # of more classes a figure cannot show each
MANY = 12  # of more classes a figure or table shows a selection


def colour(label: int) -> str:
    """The colour of a class, everywhere; with more than seven classes they begin again."""
    return COLOURS[label % len(COLOURS)]


def class_balance(table: pd.DataFrame, ax: Axes, names: Sequence[str] = LABELS) -> Axes:
    """How many texts of each class there are; `table` has the column `label`, `names` are those of the classes.

    Of more than `MANY` classes, the counts are in descending order, and the ends of the axis are named.
    """
    counts = table["label"].value_counts().reindex(range(len(names)), fill_value=0)
    ax.set(ylabel="texts")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.margins(y=0.15)
    if len(names) > MANY:
        counts = counts.sort_values(ascending=False, kind="stable")
        ax.bar(range(len(names)), counts, color=COLOURS[1], width=1)
        ends = ax.set_xticks([0, len(names) - 1], [short(names[counts.index[place]], 30) for place in (0, -1)])
        for tick, side in zip(ends, ("left", "right"), strict=True):
            tick.label1.set_horizontalalignment(side)
        ax.set(xlabel=f"{len(names):,} classes, the most common first", ylim=(0, None))
        return ax
    bars = ax.bar(range(len(names)), counts, color=[colour(i) for i in counts.index], width=0.6)
    _class_ticks(ax, names)
    if len(names) <= NAMED:
        ax.bar_label(bars, fmt="{:,.0f}", padding=2)
    return ax


def _class_ticks(ax: Axes, names: Sequence[str]) -> None:
    """The names of the classes below an axis, aslant where they would not fit beside one another."""
    ax.set_xticks(range(len(names)), [short(name) for name in names])
    if len(names) > 2:
        ax.tick_params(axis="x", rotation=40)
        for tick in ax.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")


def short(name: str, most: int = 18) -> str:
    """The name of a class where there is little room."""
    return literal(shortened(name, most))


def class_width(least: float, names: Sequence[str]) -> float:
    """The width in inches of a figure with a place for each class, which is `least` where there are two."""
    return min(FULL, least + 0.35 * (len(names) - 2))


def text_lengths(tokens: pd.DataFrame, max_length: int, ax: Axes, names: Sequence[str] = LABELS) -> Axes:
    """The lengths of texts by class, and where truncation cuts; `tokens` has the columns `tokens` and `label`.

    Of more classes than can be told apart, all texts are one outline.
    """
    limit = float(tokens["tokens"].quantile(0.99))
    span = int(limit - tokens["tokens"].min())  # a bin narrower than a token would be a gap
    parts = {name: (tokens["label"] == i, colour(i)) for i, name in enumerate(names)}
    if len(names) > NAMED:
        parts = {"all classes": (tokens["label"] >= 0, COLOURS[1])}
    bins = np.histogram_bin_edges(tokens["tokens"].clip(upper=limit), min(60, max(1, span)))
    for name, (rows, own) in parts.items():
        ax.hist(tokens.loc[rows, "tokens"].clip(upper=limit), bins, histtype="step", color=own, label=short(name))
    ax.axvline(max_length, color=GREY, linestyle="--", linewidth=1, label=f"cut at {max_length}")
    ax.set(xlabel="tokens in the text (99th percentile and above in the last bin)", ylabel="texts")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    return legend_below(ax, 3 if len(parts) < 3 else 4)


def word_weights(weights: pd.DataFrame) -> Figure:
    """The words of the largest coefficients in a linear model: a column for each class, of many the first `NAMED`.

    The columns are in the order of the classes.
    """
    shown = list(enumerate(weights))[:NAMED]
    rows = -(-len(shown) // 2)
    fig = Figure(figsize=(1.3 * COLUMN, 1.6 * rows + 0.2), layout="constrained")
    axes = fig.subplots(rows, 2).ravel()
    for ax, (place, name) in zip(axes, shown, strict=False):
        most = weights.iloc[:, place].sort_values().tail(8)
        ax.barh(range(len(most)), most, color=colour(place))
        ax.set_yticks(range(len(most)), [short(word) for word in most.index])
        ax.set_title(short(str(name), 24))
    for ax in axes:
        ax.set_visible(ax.has_data())
        ax.tick_params(axis="y", labelsize="small")
    fig.supxlabel("coefficient (towards the class →)", fontsize="medium")
    return fig


def confusions(labels: np.ndarray, preds: np.ndarray, names: Sequence[str] = LABELS) -> Figure:
    """The confusion matrix in texts; of more than `MANY` classes, the most frequent confusions.

    `labels` and `preds` (n,) are true and predicted classes, `names` those of the classes.
    """
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    if len(names) > MANY:
        return _confused_pairs(labels, preds, names)
    fig, ax = figure(class_width(2.6, names), class_width(2.4, names))
    counts = confusion_matrix(labels, preds, labels=range(len(names)))
    display = ConfusionMatrixDisplay(counts, display_labels=[short(name) for name in names])
    display.plot(ax=ax, cmap="Blues", colorbar=False, values_format=",d")
    _class_ticks(ax, names)
    ax.set(xlabel="predicted", ylabel="true")
    return fig


def _confused_pairs(labels: np.ndarray, preds: np.ndarray, names: Sequence[str], most: int = 15) -> Figure:
    """The most frequent confusions, in texts, with the share of the true class."""
    wrong = pd.DataFrame({"true": labels, "predicted": preds})[labels != preds]
    pairs = wrong.value_counts().sort_index().sort_values(ascending=False, kind="stable").head(most)
    fig, ax = figure(FULL, 0.7 + 0.18 * max(1, len(pairs)))
    bars = ax.barh(range(len(pairs)), pairs, color=COLOURS[1])
    shares = [f"{count:,} ({count / (labels == true).sum():.0%})" for (true, _), count in pairs.items()]
    ax.bar_label(bars, shares, padding=3, fontsize="small")
    ax.set_yticks(range(len(pairs)), [f"{short(names[a], 32)} → {short(names[b], 32)}" for a, b in pairs.index])
    ax.set(xlabel="texts (share of the true class)" if len(pairs) else "no text is misclassified")
    ax.set_ylim(max(1, len(pairs)) - 0.4, -0.6)
    ax.set_xlim(0, 1.2 * pairs.max() if len(pairs) else 1)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return fig
