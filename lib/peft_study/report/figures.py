"""The figures: tables in, a `Figure`, or the axis that was drawn on, out. Those of classes are in `class_figures`.

Every strategy has one colour and one marker, in every figure of every study. The colours are Okabe and Ito's, which
colour-blind readers can distinguish. `figure()` makes an axis on a `matplotlib.figure.Figure`, never through pyplot: a
figure is then shown once, where the notebook says so, and freed with its last reference.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from nbpaper.style import COLUMN as COLUMN
from nbpaper.style import FULL as FULL
from nbpaper.style import PALETTE, svg
from peft_study import paths
from peft_study.analysis.accuracy import few, further, largest, title
from peft_study.analysis.costs import COSTS, on_front
from peft_study.analysis.slice_rules import SLICES
from peft_study.files import replacing
from peft_study.strategies.table import STRATEGIES, label

MARKERS = ("o", "s", "D", "^", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
GREY = "#6b6b6b"
LEGEND_COLUMNS = 5
LOGGED = (
    ("loss", "training loss (nats)", 1.0),
    ("eval_loss", "validation loss (nats)", 1.0),
    ("eval_accuracy", "validation accuracy (%)", 100.0),
)
DRAWN = ("parameters.trainable", "training.flops", "training.seconds")  # the costs of `trade_offs`


def colour(strategy: str) -> str:
    """The colour of a strategy, everywhere."""
    return PALETTE[_place(strategy) % len(PALETTE)]


def marker(strategy: str) -> str:
    """The marker of a strategy, everywhere; it shifts with every turn of the colours."""
    place = _place(strategy)
    return MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]


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
            if kind == "pdf":
                fig.savefig(partial, metadata={"CreationDate": None})
            else:
                partial.write_text(svg(fig), encoding="utf-8")
    return fig


def literal(text: str) -> str:
    """Text for a figure, in which dollar signs begin no formula."""
    return text.replace("$", r"\$")


def _title(row: Mapping[Any, Any]) -> str:
    return literal(title(row))


def legend_below(ax: Axes, columns: int = 2) -> Axes:
    """A legend of what has a label in the figure of `ax`, below its axes, where it covers no data."""
    ax.get_figure(root=True).legend(loc="outside lower center", ncols=columns)
    return ax


def strategy_legend(strategies: Sequence[str], ax: Axes) -> Axes:
    """A legend of `strategies` below the whole figure of `ax`, whatever is drawn there."""
    handles = [ax.plot([], [], markersize=4, label=label(name), **_style(name))[0] for name in strategies]
    columns = min(len(handles), LEGEND_COLUMNS)
    ax.get_figure(root=True).legend(handles=handles, loc="outside lower center", ncols=columns)
    return ax


def above_legend(height: float, strategies: Sequence[str]) -> float:
    """The height in inches of a figure whose axes have the `height` and whose `strategy_legend` lies below them."""
    return height + 0.18 * (-(-len(strategies) // LEGEND_COLUMNS) - 1)


def height_of(rows: int) -> float:
    """The height in inches of a figure with so many named rows: closer where they are many."""
    return 0.7 + rows * (0.32 if rows <= 12 else 0.2)


def _style(strategy: str) -> dict[str, Any]:
    return {"color": colour(strategy), "marker": marker(strategy)}


def _interval(ax: Axes, place: float, row: Mapping[Any, Any], value: str, scale: float = 1, **style: Any) -> None:
    """A strategy's mark with its interval on the row `place`."""
    middle, low, high = (scale * row[name] for name in (value, "low", "high"))
    style = {"linestyle": "none", "markersize": 4, "capsize": 3} | style
    ax.errorbar(middle, place, xerr=[[middle - low], [high - middle]], **_style(row["strategy"]), **style)


def _named_rows(ax: Axes, names: Sequence[str]) -> None:
    """Names for the rows of an axis, the first on top."""
    ax.set_yticks(range(len(names)), map(literal, names))
    ax.set_ylim(len(names) - 0.4, -0.6)


def _size_axis(ax: Axes, sizes: "pd.Series[int]") -> None:
    """A log axis of labelled reviews with a tick at every size."""
    ticks = sorted(set(sizes))
    ax.set(xscale="log", xlabel="labelled reviews")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()


# --- Accuracy and differences -----------------------------------------------------------------------------------------


def baseline_curve(scores: pd.DataFrame, ax: Axes, **style: Any) -> Axes:
    """Accuracy of the bag-of-words baseline against the budget; `scores` is of `Baseline.scores`."""
    ax.fill_between(scores["train_size"], 100 * scores["low"], 100 * scores["high"], color=GREY, alpha=0.2, linewidth=0)
    ax.plot(scores["train_size"], 100 * scores["accuracy"], **{"color": GREY, "marker": "o"} | style)
    _size_axis(ax, scores["train_size"])
    ax.set(ylabel="accuracy (%)")
    return ax


def accuracy(summary: pd.DataFrame, runs: pd.DataFrame, baseline: pd.DataFrame | None = None) -> tuple[Figure, Axes]:
    """Test accuracy against the budget, or by strategy where all runs have one budget.

    `summary` is of `accuracy.summary`, `runs` has a row per run with `test.accuracy`; `baseline` (optional) are the
    scores of the bag of words, drawn in grey.
    """
    if summary["train_size"].nunique() > 1:
        return _accuracy_by_size(summary, runs, baseline)
    return _accuracy_by_strategy(summary, baseline)


def _accuracy_by_size(summary: pd.DataFrame, runs: pd.DataFrame, baseline: pd.DataFrame | None) -> tuple[Figure, Axes]:
    """Every run a dot, the mean over seeds a line, its interval a band; a further axis is another style of line."""
    lines = summary.groupby(["strategy", *further(summary)], sort=False)
    columns = 1 if further(summary) else 2  # of the legend, whose titles are then long
    fig, ax = figure(COLUMN, 2.2 + 0.17 * -(-(lines.ngroups + 1) // columns))
    drawn: Counter[str] = Counter()
    for (strategy, *_), part in lines:
        part, own = part.sort_values("train_size"), colour(strategy)
        line = LINES[(drawn[strategy] + _place(strategy) // len(PALETTE)) % len(LINES)]
        ax.fill_between(part["train_size"], 100 * part["low"], 100 * part["high"], color=own, alpha=0.15, linewidth=0)
        style = _style(strategy) | {"linestyle": line, "linewidth": 1.4}
        ax.plot(part["train_size"], 100 * part["accuracy"], label=_title(part.iloc[0].to_dict()), **style)
        drawn[strategy] += 1
    for strategy, dots in runs.groupby("strategy", sort=False):
        style = _style(str(strategy)) | {"s": 16, "zorder": 3, "alpha": 0.7, "linewidth": 0}
        ax.scatter(dots["train_size"], 100 * dots["test.accuracy"], **style)
    if baseline is not None:
        baseline_curve(baseline, ax, label="bag of words", linestyle="--", marker="", linewidth=1.1)
    _size_axis(ax, summary["train_size"])
    ax.set(ylabel="test accuracy (%)")
    return fig, legend_below(ax, columns)


def _accuracy_by_strategy(summary: pd.DataFrame, baseline: pd.DataFrame | None) -> tuple[Figure, Axes]:
    """Every strategy a row with its interval, the best first."""
    fig, ax = figure(COLUMN, height_of(len(summary)))
    rows = summary.sort_values("accuracy", ascending=False).to_dict("records")
    for place, row in enumerate(rows):
        _interval(ax, place, row, "accuracy", 100)
    if baseline is not None:
        for height in 100 * baseline.loc[baseline["train_size"].isin(summary["train_size"]), "accuracy"]:
            ax.axvline(height, color=GREY, linestyle="--", linewidth=1.1)
            ax.annotate("bag of words", (height, 1), (2, -2), ("data", "axes fraction"), "offset points", va="bottom")
    _named_rows(ax, [title(row) for row in rows])
    ax.set(xlabel="test accuracy (%)")
    return fig, ax


def differences(comparisons: pd.DataFrame, margin: float, ax: Axes) -> Axes:
    """Differences from the baseline strategy with their intervals, beside the margin of equivalence.

    `comparisons` has `strategy`, `train_size`, `difference`, `low`, `high` in accuracy points.
    """
    sizes = comparisons["train_size"].nunique() > 1
    rows = comparisons.to_dict("records")
    for place, row in enumerate(rows):
        _interval(ax, place, row, "difference")
    _named_rows(ax, [title(row) + f", {row['train_size']:,}" * sizes for row in rows])
    return _margin(ax, margin)


def slice_differences(compared: pd.DataFrame, titles: Sequence[str], margin: float) -> Figure:
    """Differences at the largest budget slice by slice; `compared` is of `slices.differences`.

    Only the variants with these `titles` are drawn.
    """
    rows = [row for row in largest(compared).to_dict("records") if title(row) in titles]
    sizes = {row["slice"]: row["reviews"] for row in rows}
    names, drawn = list(sizes), list(dict.fromkeys(title(row) for row in rows))
    shift = dict(zip(drawn, np.linspace(-0.3, 0.3, len(drawn) + 2)[1:-1], strict=True))
    fig, ax = figure(COLUMN, height_of(len(names)) + 0.1 * len(drawn))
    for row in rows:
        place, name = names.index(row["slice"]), title(row) if row["slice"] == names[0] else None
        style: dict[str, Any] = {"label": name and literal(name), "markersize": 3.5, "elinewidth": 0.8, "capsize": 2}
        _interval(ax, place + shift[title(row)], row, "difference", **style)
    _named_rows(ax, [f"{SLICES.get(name, name)} ({sizes[name]:,})" for name in names])
    legend_below(_margin(ax, margin))
    return fig


def _margin(ax: Axes, margin: float) -> Axes:
    """The margin of equivalence behind differences."""
    ax.axvspan(-margin, margin, color=GREY, alpha=0.15, linewidth=0)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set(xlabel=f"difference in accuracy (points); grey: ± {margin:g}")
    return ax


# --- Training ---------------------------------------------------------------------------------------------------------


def loss_per_steps(log: pd.DataFrame, ax: Axes, own: str = PALETTE[0], x: str = "step") -> Axes:
    """Training and validation loss of one run against its steps; `log` is the Trainer's log."""
    _curve(log, x, "loss", ax, color=own, alpha=0.6, label="training")
    _curve(log, x, "eval_loss", ax, color=GREY, marker="o", linestyle="--", label="validation")
    ax.set(xlabel={"step": "optimizer step"}.get(x, x), ylabel="cross-entropy (nats)", ylim=(0, None))
    return legend_below(ax) if ax.lines else ax


def loss_per_epochs(log: pd.DataFrame, ax: Axes, own: str = PALETTE[0]) -> Axes:
    """Training and validation loss of one run against epochs."""
    return loss_per_steps(log, ax, own, "epoch")


def validation_accuracy(log: pd.DataFrame, ax: Axes, own: str = PALETTE[0]) -> Axes:
    """Accuracy on the validation part of one run against its steps."""
    _curve(log, "step", "eval_accuracy", ax, 100, color=own, marker="o")
    ax.set(xlabel="optimizer step", ylabel="validation accuracy (%)", xlim=(0, None))
    return ax


def _curve(log: pd.DataFrame, x: str, y: str, ax: Axes, scale: float = 1, window: int = 1, **style: Any) -> None:
    """Draw one column of the log, where the log has it, or its running mean over `window` entries."""
    if y in log:
        rows = log.dropna(subset=[y])
        ax.plot(rows[x], scale * rows[y].rolling(window, min_periods=1).mean(), **style)


def training_curves(runs: pd.DataFrame, log: Callable[[str], pd.DataFrame], strategies: Sequence[str]) -> Figure | None:
    """What was `LOGGED` of every run against epochs, side by side; None where no run has a log.

    `runs` has a row per run id with `strategy` and `train_size`, `log` gives the Trainer's log of a run id. Larger
    budgets are drawn thicker. The loss on single batches is noisy: the running mean of five entries is drawn.
    """
    logs = {run_id: log(str(run_id)) for run_id in runs.index}
    logged = [entry for entry in LOGGED if any(entry[0] in entries for entries in logs.values())]
    if not logged:
        return None
    sizes = sorted(runs["train_size"].unique())
    fig, axes = figure(FULL, above_legend(2.2, strategies), columns=len(logged), sharex=True, squeeze=False)
    for ax, (column, name, scale) in zip(axes[0], logged, strict=True):
        for run_id, run in runs.iterrows():
            style = _style(run["strategy"]) | {"linewidth": 0.6 + 0.5 * sizes.index(run["train_size"]), "alpha": 0.85}
            dots = {"marker": ""} if column == "loss" else {"markersize": 3}
            _curve(logs[run_id], "epoch", column, ax, scale, 5 if column == "loss" else 1, **style | dots)
        ax.set(xlabel="epoch", ylabel=name)
    axes[0][0].set(xlim=(0, None))  # of all: the axes share their epochs
    strategy_legend(strategies, axes[0][0])
    return fig


def time_per_step(seconds: np.ndarray, ax: Axes, own: str = PALETTE[0]) -> Axes:
    """How long each optimizer step took, and the median."""
    median = float(np.median(seconds))
    ax.plot(np.arange(1, len(seconds) + 1), seconds, color=own, linewidth=0.8)
    ax.axhline(median, color=GREY, linestyle="--", linewidth=1, label=f"median {median:.3g} s")
    ax.set(xlabel="optimizer step", ylabel="seconds", ylim=(0, None))
    return legend_below(ax)


# --- Costs ------------------------------------------------------------------------------------------------------------


def trade_offs(table: pd.DataFrame, costs: Sequence[str] = DRAWN) -> Figure | None:
    """Accuracy against those of `costs` that `table`, of `costs.costs`, has figures for; None without any."""
    known = [cost for cost in costs if (table[cost] > 0).any()]  # nothing and zero have no place on a log axis
    if not known:
        return None
    strategies = list(table["strategy"].unique())
    fig, axes = figure(FULL, above_legend(2.3, strategies), columns=len(known), sharey=True, squeeze=False)
    for ax, cost in zip(axes[0], known, strict=True):
        trade_off(table, cost, ax).set(ylabel="test accuracy (%)" if ax is axes[0][0] else "")
    strategy_legend(strategies, axes[0][0])
    return fig


def trade_off(table: pd.DataFrame, cost: str, ax: Axes) -> Axes:
    """Test accuracy against a cost (log scale), and the Pareto front of every size as a step line.

    `table` is of `costs.costs`: a mark for each row whose cost is known, larger for larger budgets. A step goes along
    what the cheaper strategy reaches until the next one on the front can be paid.
    """
    sizes = sorted(table["train_size"].unique())
    known = table[table[cost] > 0]
    front = known[on_front(known, cost).fillna(False)].sort_values([cost, "accuracy"])
    for size, rows in front.groupby("train_size"):
        style = {"color": GREY, "linewidth": 0.6 + 0.4 * sizes.index(size), "zorder": 0}
        ax.step(rows[cost], 100 * rows["accuracy"], where="post", **style)
    for row in known.to_dict("records"):
        style = {"s": 24 + 22 * sizes.index(row["train_size"]), "edgecolors": "white", "linewidth": 0.4, "alpha": 0.85}
        ax.scatter(row[cost], 100 * row["accuracy"], **_style(row["strategy"]), **style)
    unit = " (bytes)" if cost.endswith("_bytes") else ""
    ax.set(xscale="log", xlabel=COSTS[cost].words + unit, ylabel="test accuracy (%)")
    ax.margins(0.1)
    if table["strategy"].nunique() > LEGEND_COLUMNS:  # too many to be found in a legend
        middle = np.sqrt(np.prod(ax.get_xlim()))
        for row in front[front["train_size"] == sizes[-1]].to_dict("records"):
            side = {"ha": "left", "xytext": (4, 4)} if row[cost] < middle else {"ha": "right", "xytext": (-4, 4)}
            style = {"textcoords": "offset points", "fontsize": "x-small"}
            ax.annotate(_title(row), (row[cost], 100 * row["accuracy"]), **style, **side)
    ticks = sorted({float(f"{value:.1g}") for value in np.geomspace(known[cost].min(), known[cost].max(), 4)})
    ax.set_xticks(ticks, map(EngFormatter(), ticks))
    ax.minorticks_off()
    return ax


# --- Calibration ------------------------------------------------------------------------------------------------------


def calibration(
    diagram: Mapping[str, tuple[str, pd.DataFrame]], measured: pd.DataFrame, scaled: pd.DataFrame, baseline: str
) -> Figure:
    """The reliability diagram beside calibration error against accuracy; the tables are of `analysis.calibration`."""
    fig, (left, right) = figure(FULL, 2.7, columns=2)
    reliability(diagram, left)
    accuracy_and_calibration(measured, scaled, right, baseline)
    return fig


def reliability(diagram: Mapping[str, tuple[str, pd.DataFrame]], ax: Axes) -> Axes:
    """Accuracy against confidence, a line per variant, beside the diagonal of perfect calibration.

    `diagram` is of `calibration.diagram`. The points of a line are bins of equally many reviews.
    """
    lowest = min([50, *(100 * rows["confidence"].min() for _, rows in diagram.values())])  # below a half: many classes
    ax.plot([lowest, 100], [lowest, 100], color=GREY, linewidth=0.8, linestyle="--")
    for place, (name, (strategy, rows)) in enumerate(diagram.items()):
        values = 100 * rows[["confidence", "accuracy", "low", "high"]]
        error = np.clip([values["accuracy"] - values["low"], values["high"] - values["accuracy"]], 0, None)
        style = {"linestyle": LINES[place % len(LINES)], "markersize": 3, "linewidth": 1, "elinewidth": 0.5}
        style |= _style(strategy) | {"label": literal(name)}
        ax.errorbar(values["confidence"], values["accuracy"], yerr=error, **style)
    ax.set(xlabel="confidence (%)", ylabel="test accuracy (%)", xlim=(lowest - 1, 101))
    return legend_below(ax, LEGEND_COLUMNS)


def accuracy_and_calibration(measured: pd.DataFrame, scaled: pd.DataFrame, ax: Axes, baseline: str) -> Axes:
    """Calibration error with its interval against accuracy at the largest budget.

    Filled marks are the models as trained, hollow ones the same after scaling by a temperature, where there is one.
    """
    after = {tuple(row["run_ids"]): row["ece_after"] for row in scaled.to_dict("records")}
    for row in few(largest(measured), "ece", baseline).to_dict("records"):
        style = _style(row["strategy"]) | {"linestyle": "none"}
        error = np.clip([[row["ece"] - row["ece_low"]], [row["ece_high"] - row["ece"]]], 0, None)
        place = 100 * row["accuracy"]
        ax.errorbar(place, 100 * row["ece"], yerr=100 * error, capsize=2, elinewidth=0.6, label=_title(row), **style)
        if (ece := after.get(tuple(row["run_ids"]))) is not None:
            ax.plot(place, 100 * ece, markerfacecolor="white", **style)
            ax.plot([place, place], [100 * row["ece"], 100 * ece], color=GREY, linewidth=0.5, zorder=0)
    ax.set(xlabel="test accuracy (%)", ylabel="ECE (points)")
    ax.margins(0.15)
    ax.set_ylim(0, None)
    ax.locator_params(axis="x", nbins=6)
    return ax
