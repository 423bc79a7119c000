"""One function per figure: a table and an axis in, the same axis out.

Every strategy has one colour and one marker, in every figure of every study. The colours are Okabe and Ito's, which
colour-blind readers can tell apart. `figure()` makes an axis on a `matplotlib.figure.Figure`, never through pyplot: a
figure is then shown once, where the notebook says so, and freed with its last reference.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from nbpaper.style import COLUMN as COLUMN
from nbpaper.style import FULL as FULL
from peft_study import paths
from peft_study.analysis import costs as ledger_tables
from peft_study.analysis.accuracy import further, title
from peft_study.files import replacing
from peft_study.strategies.table import STRATEGIES, label

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
GREY = "#6b6b6b"
LEGEND_COLUMNS = 5
CURVES = (
    ("loss", "training loss (nats)", 1.0),
    ("eval_loss", "validation loss (nats)", 1.0),
    ("eval_accuracy", "validation accuracy (%)", 100.0),
)
UNITS = {"training.flops": " (FLOP)", "training.peak_memory_bytes": " (bytes)", "cost.model_bytes": " (bytes)"}


def colour(strategy: str) -> str:
    """The colour of a strategy, everywhere."""
    return COLOURS[_place(strategy) % len(COLOURS)]


def marker(strategy: str) -> str:
    """The marker of a strategy, everywhere; it shifts with every turn of the colours."""
    place = _place(strategy)
    return MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]


def _place(strategy: str) -> int:
    first = ("full", "lora", "lora-all")  # those that are compared most have colours of their own
    order = [*first, *(name for name in STRATEGIES if name not in first)]
    return order.index(strategy) if strategy in order else len(order)


def figure(width: float = COLUMN, height: float = 2.4, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of that many inches and its axis, or its row of `columns` axes."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(1, columns, **options)


def save_figure(fig: Figure | None, study: str, name: str) -> Figure | None:
    """Keep a figure of the report as `report/<study>/figures/<name>.pdf` and `.svg`; returns it.

    Where there is none, none is kept: that of an earlier report goes.
    """
    for kind in ("pdf", "svg"):
        file = paths.report_folder(study) / "figures" / f"{name}.{kind}"
        if fig is None:
            file.unlink(missing_ok=True)
            continue
        with replacing(file) as partial:
            fig.savefig(partial, metadata={"CreationDate": None} if kind == "pdf" else {"Date": None})
    return fig


def baseline_curve(scores: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy of the word-count baseline against the size; `scores` has `train_size`, `accuracy`, `low`, `high`."""
    ax.fill_between(scores["train_size"], 100 * scores["low"], 100 * scores["high"], color=GREY, alpha=0.2, linewidth=0)
    ax.plot(scores["train_size"], 100 * scores["accuracy"], color=GREY, marker="o")
    _sizes(ax, scores["train_size"])
    ax.set(ylabel="accuracy (%)")
    return ax


def accuracy(
    summary: pd.DataFrame,
    runs: pd.DataFrame,
    baseline: pd.DataFrame | None = None,
    reported: pd.DataFrame | None = None,
) -> tuple[Figure, Axes]:
    """The figure of test accuracy: against the budget, or by strategy where all runs have one.

    `reported` (optional) are the figures of others, drawn hollow: `strategy`, `train_size` and `reported_accuracy`.
    """
    if summary["train_size"].nunique() > 1:
        lines = summary.groupby(["strategy", *further(summary)]).ngroups + 1  # and the bag of words
        fig, ax = figure(COLUMN, 2.2 + 0.17 * -(-lines // 2))
        return fig, accuracy_vs_size(summary, runs, ax, baseline, reported)
    fig, ax = figure(COLUMN, height_of(len(summary)))
    return fig, accuracy_by_strategy(summary, ax, baseline, reported)


def accuracy_vs_size(
    summary: pd.DataFrame,
    runs: pd.DataFrame,
    ax: Axes,
    baseline: pd.DataFrame | None = None,
    reported: pd.DataFrame | None = None,
) -> Axes:
    """Test accuracy against the labelled budget: every run a dot, the mean over seeds a line, its interval a band.

    `summary` has `strategy`, `train_size`, `accuracy`, `low`, `high`; a further axis is a line of another style in the
    strategy's colour. `runs` has one row per run with `test.accuracy`;
    `baseline` (optional) is drawn in grey, with the columns of `baseline_curve`; `reported` is that of `accuracy`.
    """
    drawn: Counter[str] = Counter()
    for (strategy, *_), part in summary.groupby(["strategy", *further(summary)], sort=False):
        part, own = part.sort_values("train_size"), colour(strategy)
        turn = drawn[strategy] + _place(strategy) // len(COLOURS)
        line = {"color": own, "label": title(part.iloc[0].to_dict()), "linestyle": LINES[turn % len(LINES)]}
        ax.fill_between(part["train_size"], 100 * part["low"], 100 * part["high"], color=own, alpha=0.15, linewidth=0)
        ax.plot(part["train_size"], 100 * part["accuracy"], linewidth=1.4, marker=marker(strategy), **line)
        drawn[strategy] += 1
    for strategy, dots in runs.groupby("strategy", sort=False):
        style = {"color": colour(str(strategy)), "marker": marker(str(strategy))}
        ax.scatter(dots["train_size"], 100 * dots["test.accuracy"], s=16, zorder=3, alpha=0.7, linewidth=0, **style)
    if baseline is not None:
        baseline_curve(baseline, ax)
        ax.lines[-1].set(label="bag of words", linestyle="--", marker="", linewidth=1.1)
    for row in _records(reported):
        _hollow(ax, row["train_size"], 100 * row["reported_accuracy"], row["strategy"])
    _sizes(ax, summary["train_size"])
    ax.set(ylabel="test accuracy (%)")
    return legend_below(ax)


def legend_below(ax: Axes, columns: int = 2) -> Axes:
    """A legend of what has a label in the figure of `ax`, below its axes, where it covers no data."""
    ax.get_figure(root=True).legend(loc="outside lower center", ncols=columns)
    return ax


def _records(table: pd.DataFrame | None) -> list[dict[Any, Any]]:
    """The rows of a table that need not be there."""
    return [] if table is None else table.to_dict("records")


def _hollow(ax: Axes, x: float, y: float, strategy: str) -> None:
    """A hollow mark in the strategy's colour: what others reported. The first of an axis is named in its legend."""
    name = None if any(line.get_label() == "reported" for line in ax.lines) else "reported"
    style = {"marker": marker(strategy), "markerfacecolor": "none", "markersize": 7, "linestyle": "none", "zorder": 4}
    ax.plot(x, y, color=colour(strategy), label=name, **style)


def accuracy_by_strategy(
    summary: pd.DataFrame, ax: Axes, baseline: pd.DataFrame | None = None, reported: pd.DataFrame | None = None
) -> Axes:
    """Test accuracy of every strategy at one budget, the best first; the tables are those of `accuracy_vs_size`."""
    ordered = summary.sort_values("accuracy", ascending=False)
    rows = ordered.to_dict("records")
    for place, row in enumerate(rows):
        _interval(ax, place, 100 * row["accuracy"], 100 * row["low"], 100 * row["high"], row["strategy"])
        for other in _records(reported):
            if title(other) == title(row):
                _hollow(ax, 100 * other["reported_accuracy"], place, row["strategy"])
    if baseline is not None:
        words = baseline[baseline["train_size"].isin(summary["train_size"])]
        for height in 100 * words["accuracy"]:
            ax.axvline(height, color=GREY, linestyle="--", linewidth=1.1)
            ax.annotate("bag of words", (height, 1), (2, -2), ("data", "axes fraction"), "offset points", va="bottom")
    _named_rows(ax, [title(row) for row in rows])
    ax.set(xlabel="test accuracy (%)")
    return ax


def height_of(rows: int) -> float:
    """The height in inches of a figure with so many named rows: closer where they are many."""
    return 0.7 + rows * (0.32 if rows <= 12 else 0.2)


def _interval(ax: Axes, place: int, middle: float, low: float, high: float, strategy: str) -> None:
    """A strategy's mark with its interval on row `place`."""
    style = {"color": colour(strategy), "marker": marker(strategy), "linestyle": "none", "markersize": 4}
    ax.errorbar(middle, place, xerr=[[middle - low], [high - middle]], capsize=3, **style)


def _named_rows(ax: Axes, names: Sequence[str]) -> None:
    """Names for the rows of an axis, the first on top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)


def differences(comparisons: pd.DataFrame, margin: float, ax: Axes) -> Axes:
    """Differences from the baseline strategy with their intervals, beside the margin of equivalence.

    `comparisons` has `strategy`, `train_size`, `difference`, `low`, `high` in accuracy points.
    """
    ax.axvspan(-margin, margin, color=GREY, alpha=0.15, linewidth=0)
    ax.axvline(0, color=GREY, linewidth=0.8)
    for place, row in enumerate(comparisons.itertuples()):
        _interval(ax, place, row.difference, row.low, row.high, row.strategy)
    sizes = comparisons["train_size"].nunique() > 1
    _named_rows(ax, [title(row) + f", {row['train_size']:,}" * sizes for row in comparisons.to_dict("records")])
    ax.set(xlabel=f"difference in accuracy (points); grey: ± {margin:g}")
    return ax


def loss_per_steps(log: pd.DataFrame, ax: Axes, own: str = COLOURS[0]) -> Axes:
    """Training and validation loss of one run against its steps; `log` is the Trainer's log."""
    _curve(log, "step", "loss", ax, color=own, alpha=0.6, label="training")
    _curve(log, "step", "eval_loss", ax, color=GREY, marker="o", linestyle="--", label="validation")
    ax.set(xlabel="optimizer step", ylabel="cross-entropy (nats)", ylim=(0, None))
    return legend_below(ax) if ax.lines else ax


def loss_per_epochs(log: pd.DataFrame, ax: Axes, own: str = COLOURS[0]) -> Axes:
    """Training and validation loss of one run against epochs."""
    loss_per_steps(log.assign(step=log["epoch"]), ax, own).set(xlabel="epoch")
    return ax


def validation_accuracy(log: pd.DataFrame, ax: Axes, own: str = COLOURS[0]) -> Axes:
    """Accuracy on the validation part of one run against its steps."""
    if "eval_accuracy" in log:
        _curve(log.assign(percent=100 * log["eval_accuracy"]), "step", "percent", ax, color=own, marker="o")
    ax.set(xlabel="optimizer step", ylabel="validation accuracy (%)", xlim=(0, None))
    return ax


def _curve(log: pd.DataFrame, x: str, y: str, ax: Axes, **style: Any) -> None:
    """Draw one column of the log, where the log has it."""
    if y in log:
        rows = log.dropna(subset=[y])
        ax.plot(rows[x], rows[y], **style)


def curves(
    runs: pd.DataFrame, log: Callable[[str], pd.DataFrame], column: str, ax: Axes, scale: float = 1.0, window: int = 5
) -> Axes:
    """One logged column of every run against epochs; larger budgets are drawn thicker.

    `runs` has a row per run id with `strategy` and `train_size`, `log` gives the Trainer's log of a run id. The loss on
    single batches is noisy: of `loss`, the running mean of `window` entries is drawn.
    """
    sizes = sorted(runs["train_size"].unique())
    for run_id, run in runs.iterrows():
        entries = log(str(run_id))
        rows = entries.dropna(subset=[column]) if column in entries else entries.iloc[:0].assign(**{column: []})
        values = rows[column].rolling(window, min_periods=1).mean() if column == "loss" else rows[column]
        style = {"color": colour(run["strategy"]), "linewidth": 0.6 + 0.5 * sizes.index(run["train_size"])}
        dots = {} if column == "loss" else {"marker": marker(run["strategy"]), "markersize": 3}
        ax.plot(rows["epoch"], scale * values, alpha=0.85, **style, **dots)
    ax.set(xlabel="epoch")
    return ax


def training_curves(runs: pd.DataFrame, log: Callable[[str], pd.DataFrame], strategies: Sequence[str]) -> Figure | None:
    """The `CURVES` of every run side by side, see `curves`; None where no run has a log."""
    if all(log(str(run_id)).empty for run_id in runs.index):
        return None
    fig, axes = figure(FULL, above_legend(2.2, strategies), columns=len(CURVES), sharex=True)
    for ax, (column, name, scale) in zip(axes, CURVES, strict=True):
        curves(runs, log, column, ax, scale).set(ylabel=name)
    axes[0].set(xlim=(0, None))  # of all: the axes share their epochs
    strategy_legend(strategies, axes[0])
    return fig


def above_legend(height: float, strategies: Sequence[str]) -> float:
    """The height in inches of a figure whose axes have the `height` and whose `strategy_legend` lies below them."""
    return height + 0.18 * (-(-len(strategies) // LEGEND_COLUMNS) - 1)


def strategy_legend(strategies: Sequence[str], ax: Axes) -> Axes:
    """A legend of `strategies` below the whole figure of `ax`, whatever is drawn there."""
    handles = [
        ax.plot([], [], color=colour(name), marker=marker(name), markersize=4, label=label(name))[0]
        for name in strategies
    ]
    ax.get_figure(root=True).legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), LEGEND_COLUMNS)
    )
    return ax


def time_per_step(seconds: np.ndarray, ax: Axes, own: str = COLOURS[0]) -> Axes:
    """How long each optimizer step took, and the median."""
    ax.plot(np.arange(1, len(seconds) + 1), seconds, color=own, linewidth=0.8)
    ax.axhline(
        float(np.median(seconds)), color=GREY, linestyle="--", linewidth=1, label=f"median {np.median(seconds):.3g} s"
    )
    ax.set(xlabel="optimizer step", ylabel="seconds", ylim=(0, None))
    return legend_below(ax)


def trade_offs(table: pd.DataFrame, costs: Sequence[str] = ledger_tables.DRAWN) -> Figure | None:
    """Accuracy against those of `costs` that the ledger `table` has figures for, side by side; None without any."""
    known = [cost for cost in costs if (table[cost] > 0).any()]  # nothing and zero have no place on a log axis
    if not known:
        return None
    strategies = list(table["strategy"].unique())
    height = above_legend(2.3, strategies)
    fig, axes = figure(FULL, height, columns=len(known), sharey=True, squeeze=False)
    for ax, cost in zip(axes[0], known, strict=True):
        trade_off(table, cost, ax).set(ylabel="test accuracy (%)" if ax is axes[0][0] else "")
    strategy_legend(strategies, axes[0][0])
    return fig


def trade_off(table: pd.DataFrame, cost: str, ax: Axes) -> Axes:
    """Test accuracy against a cost (log scale), and the Pareto front of every size as a step line.

    `table` is `ledger.ledger`: a mark for each row whose cost is known, larger for larger budgets. A step goes along
    what the cheaper strategy reaches until the next one on the front can be paid.
    """
    sizes = sorted(table["train_size"].unique())
    known = table[table[cost] > 0]
    front = known[ledger_tables.on_front(known, cost).fillna(False)]
    for size, rows in front.sort_values([cost, "accuracy"]).groupby("train_size"):
        style = {"color": GREY, "linewidth": 0.6 + 0.4 * sizes.index(size), "zorder": 0}
        ax.step(rows[cost], 100 * rows["accuracy"], where="post", **style)
    for row in known.to_dict("records"):
        style = {"color": colour(row["strategy"]), "marker": marker(row["strategy"]), "alpha": 0.85}
        size = 24 + 22 * sizes.index(row["train_size"])
        ax.scatter(row[cost], 100 * row["accuracy"], s=size, edgecolors="white", linewidth=0.4, **style)
    words = ledger_tables.COSTS[cost].words
    ax.set(xscale="log", xlabel=f"{words}{UNITS.get(cost, '')}", ylabel="test accuracy (%)")
    ax.margins(0.1)
    if table["strategy"].nunique() > LEGEND_COLUMNS:  # too many to be found in a legend
        _name_front(front[front["train_size"] == sizes[-1]], cost, ax)
    named = _digits(known[cost].max() / known[cost].min())
    for axis_formatter in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
        axis_formatter(FuncFormatter(lambda value, _: _short_number(value) if f"{value:e}"[0] in named else ""))
    return ax


def _name_front(rows: pd.DataFrame, cost: str, ax: Axes) -> None:
    """The names of the strategies on a front beside their marks, towards the side where there is room."""
    middle = np.sqrt(np.prod(ax.get_xlim()))
    for row in rows.to_dict("records"):
        side = {"ha": "left", "xytext": (4, 4)} if row[cost] < middle else {"ha": "right", "xytext": (-4, 4)}
        ax.annotate(
            title(row), (row[cost], 100 * row["accuracy"]), textcoords="offset points", fontsize="x-small", **side
        )


def _digits(span: float) -> str:
    """The leading digits of the ticks that are named on a log axis which spans so many times its least value."""
    return next(
        digits for most, digits in ((2.5, "123456789"), (10, "12357"), (300, "125"), (np.inf, "1")) if span <= most
    )


def _short_number(value: float) -> str:
    """A tick of a log axis: 40, 2,000, 1 M, 5 T."""
    power, prefix = next(
        (pair for pair in ((15, "P"), (12, "T"), (9, "G"), (6, "M")) if value >= 10 ** pair[0]), (3, "k")
    )
    return f"{value:,g}" if value < 1e4 else f"{value / 10**power:g} {prefix}"


def _sizes(ax: Axes, sizes: "pd.Series[int]") -> None:
    """A log axis of labelled reviews with a tick at every size."""
    ticks = sorted(set(sizes))
    ax.set(xscale="log", xlabel="labelled reviews")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()
