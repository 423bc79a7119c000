"""The figures: tables in, a `Figure`, or the axis that was drawn on, out. Those of classes are in `class_figures`.

Every strategy has one colour and one marker, in every figure of every study. The colours are Okabe and Ito's, which
colour-blind readers can distinguish. `figure()` makes an axis on a `matplotlib.figure.Figure`, never through pyplot: a
figure is then shown once, where the notebook says so, and freed with its last reference.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter

from nbpaper.style import COLUMN as COLUMN
from nbpaper.style import FULL as FULL
from nbpaper.style import GREY as GREY
from nbpaper.style import PALETTE
from peft_study import paths
from peft_study.analysis.accuracy import by_seed, few, further, largest, metric_of, title
from peft_study.analysis.costs import COSTS, on_front
from peft_study.analysis.slice_rules import SLICES
from peft_study.files import replacing, unless_live
from peft_study.records.read import Runs
from peft_study.report.sentences import gap, within
from peft_study.statistics.intervals import Interval
from peft_study.statistics.paired_tests import UNSTABLE
from peft_study.statistics.scores import METRICS
from peft_study.strategies.table import STRATEGIES, label
from peft_study.study.study import Study

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")  # their number and that of the colours have no common divisor
LINES = ("-", "--", ":", "-.")
LEGEND_COLUMNS = 5
LOSSES = {"loss": "training loss (nats)", "eval_loss": "validation loss (nats)"}
SHARED = {  # the costs of `cost_shares`
    "parameters.trainable": "trainable parameters",
    "cost.model_bytes": "bytes stored",
    "training.flops": "training FLOPs",
    "training.seconds": "training time",
    "training.peak_memory_bytes": "peak memory",
}
MANY_ROWS = 40  # of `differences`, as many as a page holds
FEW_BUDGETS = 4  # panels of `training_curves`


def colour(strategy: str) -> str:
    """The colour of a strategy, everywhere."""
    return PALETTE[_place(strategy) % len(PALETTE)]


def marker(strategy: str) -> str:
    """The marker of a strategy, everywhere."""
    return MARKERS[_place(strategy) % len(MARKERS)]


def _place(strategy: str) -> int:
    first = ("full", "lora", "lora-all")  # those that are compared most have colours of their own
    return [*first, *(name for name in STRATEGIES if name not in first)].index(strategy)


def figure(width: float = COLUMN, height: float = 2.4, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of that many inches and its axis, or its row of `columns` axes."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(1, columns, **options)


@unless_live
def save_figure(fig: Figure | None, study: str, name: str) -> None:
    """Keep a figure of the report as `report/<study>/figures/<name>.pdf` and `.svg`.

    Where there is none, none is kept: that of an earlier report goes.
    """
    for kind in ("pdf", "svg"):
        file = paths.report_folder(study) / "figures" / f"{name}.{kind}"
        if fig is None:
            file.unlink(missing_ok=True)
            continue
        undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
        with replacing(file) as partial, rc_context({"svg.fonttype": "path"}):  # outlines: no font is asked for
            fig.savefig(partial, format=kind, bbox_inches="tight", pad_inches=0.02, metadata=undated[kind])


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
    return 0.6 + rows * (0.22 if rows <= 12 else 0.16)


def _style(strategy: str) -> dict[str, Any]:
    return {"color": colour(strategy), "marker": marker(strategy)}


def _interval(ax: Axes, place: float, row: Mapping[Any, Any], value: str, scale: float = 1, **style: Any) -> None:
    """A strategy's mark with its interval on the row `place`."""
    middle, low, high = (scale * row[name] for name in (value, "low", "high"))
    error = np.clip([[middle - low], [high - middle]], 0, None)
    style = {"linestyle": "none", "markersize": 4, "elinewidth": 1} | style
    ax.errorbar(middle, place, xerr=error, **_style(row["strategy"]), **style)


def _seeds(ax: Axes, x: Any, y: Any, strategy: str) -> None:
    """Faint dots: a value for each seed; the other coordinate is one number."""
    ax.scatter(*np.broadcast_arrays(x, y), s=7, color=colour(strategy), alpha=0.4, linewidth=0)


def _named_rows(ax: Axes, names: Sequence[str]) -> None:
    """Names for the rows of an axis, the first on top."""
    ax.set_yticks(range(len(names)), map(literal, names))
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _beside(ax: Axes, texts: Mapping[Any, str], head: str = "", right: float = 6) -> None:
    """Texts to the right of an axis, by row, `right` points from its edge, and a heading above them."""
    options: Any = {"textcoords": "offset points", "annotation_clip": False, "fontsize": 7.5}
    for place, text in texts.items():
        ax.annotate(text, (1, place), (right, 0), ax.get_yaxis_transform(), va="center_baseline", **options)
    ax.annotate(head, (1, 1), (right, 1), "axes fraction", va="bottom", color=GREY, **options)


def _size_axis(ax: Axes, sizes: "pd.Series[int]") -> None:
    """A log axis of labels with a tick at every size."""
    ticks = sorted(set(sizes))
    ax.set(xscale="log", xlabel="labels")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()


# --- Scores and differences -------------------------------------------------------------------------------------------


def baseline_curve(scores: pd.DataFrame, ax: Axes) -> Axes:
    """The score of the TF-IDF baseline against the budget; `scores` is of `Baseline.scores`."""
    metric = metric_of(scores)
    ax.fill_between(scores["train_size"], 100 * scores["low"], 100 * scores["high"], color=GREY, alpha=0.2, linewidth=0)
    ax.plot(scores["train_size"], 100 * scores[metric], color=GREY, marker="o")
    _size_axis(ax, scores["train_size"])
    ax.set(ylabel=f"{METRICS[metric].noun} (%)")
    return ax


def scores(summary: pd.DataFrame, runs: pd.DataFrame, baseline: pd.DataFrame | None = None) -> tuple[Figure, Axes]:
    """The test score against the budget, or by strategy where all runs have one budget; faint dots are single seeds.

    `summary` is of `accuracy.summary`, `runs` is the table of runs; `baseline` (optional) are the scores of TF-IDF,
    drawn in grey.
    """
    dots = runs[f"test.{metric_of(summary)}"]
    summary = summary.assign(dots=[100 * dots[run_ids] for run_ids in summary["run_ids"]])
    if summary["train_size"].nunique() > 1:
        return _scores_by_size(summary, baseline)
    return _scores_by_strategy(summary, baseline)


def _scores_by_size(summary: pd.DataFrame, baseline: pd.DataFrame | None) -> tuple[Figure, Axes]:
    """A line for each strategy (and further axis), set apart along the axis of budgets, named at its right end.

    Unstable runs would set the scale: their budget says so instead.
    """
    lines = [part.sort_values("train_size") for _, part in summary.groupby(["strategy", *further(summary)], sort=False)]
    fig, ax = figure(COLUMN, max(2.3, 0.6 + 0.135 * (len(lines) + 1)))
    metric = metric_of(summary)
    sizes = np.sort(summary["train_size"].unique())
    apart = min(0.25, 0.025 * len(lines)) * np.log(sizes[1:] / sizes[:-1]).min()
    ends: dict[str, tuple[float, float, str]] = {}
    for shift, part in zip(np.exp(np.linspace(-apart, apart, len(lines))), lines, strict=True):
        row, stable = part.iloc[0].to_dict(), part[metric].notna()
        x, y = part["train_size"] * shift, 100 * part[metric]
        error = 100 * np.clip([part[metric] - part["low"], part["high"] - part[metric]], 0, None)
        style = _style(row["strategy"]) | {"markersize": 3.5, "linewidth": 1.1, "elinewidth": 0.7}
        ax.errorbar(x, y, error, linestyle=LINES[len(ends) // len(PALETTE) % len(LINES)], **style)
        for place, dots in zip(x[stable], part["dots"][stable], strict=True):
            _seeds(ax, place, dots, row["strategy"])
        for place in x[~stable]:
            text: Any = {"color": style["color"], "fontsize": 7, "ha": "center", "va": "bottom"}
            ax.annotate("unstable ↓", (place, 0.02), xycoords=ax.get_xaxis_transform(), **text)
        if stable.any():
            ends[_title(row)] = (x[stable].iloc[-1], y[stable].iloc[-1], style["color"])
    if baseline is not None:
        ax.plot(baseline["train_size"], 100 * baseline[metric], color=GREY, linewidth=1.1)
        ends["TF-IDF"] = (baseline["train_size"].iloc[-1], 100 * baseline[metric].iloc[-1], GREY)
    _size_axis(ax, summary["train_size"])
    ax.set(ylabel=score_axis(metric))
    if ends:
        _named_ends(ax, ends)
    return fig, ax


def _named_ends(ax: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Names to the right of an axis, none over another, each tied by dots in its line's colour to that line's end.

    `ends` are the ends (x, y) and colours of the lines.
    """
    from sklearn.isotonic import isotonic_regression

    ax.set_xlim(*ax.get_xlim())
    low, high = ax.set_ylim(*ax.get_ylim())
    inches = ax.get_figure(root=True).get_figheight() - 0.6
    step = 0.125 * (high - low) / inches
    order = sorted(ends, key=lambda name: ends[name][1])
    steps = step * np.arange(len(order))  # apart from these, the places may rise or be the same, nothing else
    wanted = np.array([ends[name][1] for name in order]) - steps
    fitted = isotonic_regression(wanted, y_min=low, y_max=max(low, high - steps[-1])) + steps
    for name, place in zip(order, fitted, strict=True):
        x, y, own = ends[name]
        tie = {"arrowstyle": "-", "color": own, "linewidth": 0.7, "linestyle": ":", "relpos": (0, 0.5)}
        tie |= {"shrinkA": 1, "shrinkB": 3}
        where: Any = {"xytext": (1.06, place), "textcoords": ax.get_yaxis_transform(), "arrowprops": tie}
        ax.annotate(name, (x, y), va="center", fontsize=7.5, annotation_clip=False, **where)


def _scores_by_strategy(summary: pd.DataFrame, baseline: pd.DataFrame | None) -> tuple[Figure, Axes]:
    """Every strategy a row with its interval, the best first."""
    fig, ax = figure(COLUMN, height_of(len(summary)))
    metric = metric_of(summary)
    rows = summary.sort_values(metric, ascending=False).to_dict("records")
    for place, row in enumerate(rows):
        if not np.isnan(row[metric]):
            _seeds(ax, row["dots"], place + 0.2, row["strategy"])
        _interval(ax, place, row, metric, 100)
    if baseline is not None:
        for height in 100 * baseline.loc[baseline["train_size"].isin(summary["train_size"]), metric]:
            ax.axvline(height, color=GREY, linewidth=1)
            above: Any = {"ha": "center", "va": "bottom", "color": GREY, "fontsize": 7.5}
            ax.annotate("TF-IDF", (height, 1), (0, 1), ("data", "axes fraction"), "offset points", **above)
    _named_rows(ax, [title(row) for row in rows])
    shown = (Interval(row[metric], row["low"], row["high"]).scaled(100) for row in rows)
    _beside(ax, {place: UNSTABLE if np.isnan(found.low) else str(found) for place, found in enumerate(shown)})
    ax.set(xlabel=score_axis(metric))
    return fig, ax


def score_axis(metric: str) -> str:
    """The label of an axis of test scores."""
    return f"test {METRICS[metric].noun} (%)"


def differences(comparisons: pd.DataFrame, study: Study, runs: Runs | None = None) -> Figure | None:
    """A row per comparison: its difference and interval, the seeds' differences as faint dots, the verdict in words.

    `comparisons` is of `accuracy.against_baseline` (points); the dots are of `runs`, if given. The margin of `study` is
    a grey band. None without a comparison. Of more than `MANY_ROWS`, those at the largest budget are drawn.
    """
    at_largest = len(comparisons) > MANY_ROWS
    comparisons = largest(comparisons) if at_largest else comparisons
    rows = comparisons.sort_values("train_size", kind="stable").to_dict("records")
    if not rows:
        return None
    named = comparisons.groupby(["strategy", *further(comparisons)], sort=False).ngroups > 1
    places: list[float] = []
    names: list[str] = []
    headings: set[int] = set()
    for row in rows:
        size = f"{row['train_size']:,} labels"
        if named and comparisons["train_size"].nunique() > 1 and size not in names:
            headings.add(len(names))
            names.append(size)
        places.append(len(names))
        names.append(title(row) if named else size)
    fig, ax = figure(FULL, height_of(len(names)))
    for place, row in zip(places, rows, strict=True):
        if runs is not None and row["verdict"] != UNSTABLE:
            seeds = by_seed(row, runs, f"test.{runs.study.metric}")
            _seeds(ax, 100 * (seeds["strategy"] - seeds["baseline"]), place + 0.22, row["strategy"])
        _interval(ax, place, row, "difference")
    _named_rows(ax, names)
    for place in headings:
        ax.get_yticklabels()[place].set_color(GREY)
    ours = "" if named else f" of {_title(rows[0])}"
    theirs = f" minus that of {within(label(study.baseline))}" if runs else ""
    where = f" at {rows[0]['train_size']:,} labels" if at_largest else ""
    _margin(ax, study, f"{study.noun}{ours}{where}{theirs}")
    _beside(ax, dict(zip(places, map(gap, rows), strict=True)), "difference (points)")
    _beside(ax, {place: row["verdict"] for place, row in zip(places, rows, strict=True)}, "verdict", 94)
    return fig


def card(study: Study, finding: str, comparisons: pd.DataFrame) -> Figure:
    """A picture of 1200 × 630 pixels (at 250 a inch) for links to a report: its title, its finding, three intervals.

    `finding` is Markdown, of which the sentences that fit are shown. Of `comparisons`, of `accuracy.against_baseline`,
    the last three are drawn: of several strategies those at the largest budget, of one those at its largest budgets.
    """
    fig = Figure(figsize=(4.8, 2.52))
    top = 0.93
    for text, width, most, size in ((study.title, 48, 2, 14), (finding, 82, 4, 8.5)):
        plain = fill(re.sub(r"[*`]", "", text), width, max_lines=most, placeholder=" …")
        plain = re.sub(r"(?<=\.)\s[^.]*(\.\S[^.]*)* …$", "", plain)  # no sentence is cut that follows a whole one
        fig.text(0.05, top, literal(plain), fontsize=size, va="top", linespacing=1.2)
        top -= 0.02 + size * 1.25 / (72 * 2.52) * (plain.count("\n") + 1)
    shown = largest(comparisons) if comparisons["strategy"].nunique() > 1 else comparisons
    rows = shown.sort_values("train_size", kind="stable").tail(3).to_dict("records")
    if rows:
        ax = fig.add_axes((0.36, 0.18, 0.22, min(0.13 * len(rows), top - 0.22)))
        for place, row in enumerate(rows):
            _interval(ax, place, row, "difference")
        _named_rows(ax, [f"{title(row)}, {row['train_size']:,} labels" for row in rows])
        _margin(ax, study)
        _beside(ax, dict(enumerate(map(gap, rows))))
        _beside(ax, {place: row["verdict"] for place, row in enumerate(rows)}, right=78)
    return fig


def slice_differences(compared: pd.DataFrame, titles: Sequence[str], study: Study) -> Figure:
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
        style: dict[str, Any] = {"label": name and literal(name), "markersize": 3.5, "elinewidth": 0.8}
        _interval(ax, place + shift[title(row)], row, "difference", **style)
    _named_rows(ax, [f"{SLICES.get(name, name)} ({sizes[name]:,})" for name in names])
    legend_below(_margin(ax, study))
    return fig


def _margin(ax: Axes, study: Study, what: str = "") -> Axes:
    """The margin of equivalence behind differences."""
    ax.axvspan(-study.margin, study.margin, color=GREY, alpha=0.15, linewidth=0, zorder=0)
    ax.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    ax.set(xlabel=f"{what or f'difference in {study.noun}'} (points); grey: ± {study.margin:g}")
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


def _curve(log: pd.DataFrame, x: str, y: str, ax: Axes, scale: float = 1, **style: Any) -> None:
    """Draw one column of the log, where the log has it."""
    if y in log:
        rows = log.dropna(subset=[y])
        ax.plot(rows[x], scale * rows[y], **style)


def training_curves(runs: pd.DataFrame, log: Callable[[str], pd.DataFrame]) -> Figure | None:
    """Loss and validation accuracy of every run against epochs, a column for each budget; None where no run has a log.

    `runs` has a row per run id with `strategy` and `train_size`, `log` gives the Trainer's log of a run id. The loss is
    that of validation or, where none was measured, the running mean of five training losses. A ring marks the
    checkpoint that was tested (`training.selected_step`). Of many budgets, `FEW_BUDGETS` are drawn.
    """
    logs = {run_id: log(str(run_id)) for run_id in runs.index}
    logged = [name for name in ("eval_loss", "loss") if any(name in entries for entries in logs.values())][:1]
    logged += ["eval_accuracy"] * any("eval_accuracy" in entries for entries in logs.values())
    if not logged:
        return None
    strategies, sizes = list(runs["strategy"].unique()), np.sort(runs["train_size"].unique())
    sizes = sizes[np.unique(np.linspace(0, len(sizes) - 1, FEW_BUDGETS).round().astype(int))]
    fig = Figure(figsize=(FULL, above_legend(0.5 + 1.35 * len(logged), strategies)), layout="constrained")
    axes = fig.subplots(len(logged), len(sizes), sharex="col", sharey="row", squeeze=False)
    for row, column in zip(axes, logged, strict=True):
        for ax, (size, part) in zip(row, runs[runs["train_size"].isin(sizes)].groupby("train_size"), strict=True):
            for run_id, run in part.iterrows():
                _run_curve(ax, logs[run_id], column, run)
            if ax in axes[0]:
                ax.set_title(f"{size:,} labels")
            if ax in axes[-1]:
                ax.set(xlabel="epoch", xlim=(0, None))
        row[0].set_ylabel(LOSSES.get(column, "validation accuracy (%)"))
    strategy_legend(strategies, axes[0][0])
    return fig


def _run_curve(ax: Axes, log: pd.DataFrame, column: str, run: Mapping[Any, Any]) -> None:
    """One column of a run's log, with a ring at the checkpoint that was tested."""
    if column in log:
        rows, own = log.dropna(subset=[column]), _style(run["strategy"])
        scale, window = (100 if column == "eval_accuracy" else 1), (5 if column == "loss" else 1)
        values = scale * rows[column].rolling(window, min_periods=1).mean()
        own |= {"marker": ""} if column == "loss" else {"markersize": 2.5}
        ax.plot(rows["epoch"], values, linewidth=0.9, alpha=0.8, **own)
        tested = rows["step"] == run.get("training.selected_step")
        ring = {"s": 40, "facecolors": "none", "edgecolors": own["color"], "linewidth": 0.8, "zorder": 3}
        ax.scatter(rows["epoch"][tested], values[tested], **ring)


def time_per_step(seconds: np.ndarray, ax: Axes, own: str = PALETTE[0]) -> Axes:
    """How long each optimizer step took, and the median."""
    median = float(np.median(seconds))
    ax.plot(np.arange(1, len(seconds) + 1), seconds, color=own, linewidth=0.8)
    ax.axhline(median, color=GREY, linestyle="--", linewidth=1, label=f"median {median:.3g} s")
    ax.set(xlabel="optimizer step", ylabel="seconds", ylim=(0, None))
    return legend_below(ax)


# --- Costs ------------------------------------------------------------------------------------------------------------


def cost_shares(table: pd.DataFrame, baseline: str) -> Figure | None:
    """What each strategy costs at the largest budget, as a share of the strategy `baseline`, on log axes.

    `table` is of `costs.costs`; a panel for each of the costs `SHARED` that is on record, a row for each strategy. None
    without a strategy or a cost to compare.
    """
    rows = largest(table[table["train_size"].isin(table.loc[table["strategy"] == baseline, "train_size"])])
    whole = rows[rows["strategy"] == baseline].head(1)
    others = rows[rows["strategy"] != baseline].reset_index(drop=True)
    shares = {cost: 100 * others[cost] / whole[cost].squeeze() for cost in SHARED if (whole[cost] > 0).any()}
    shares = {cost: share for cost, share in shares.items() if (share > 0).any()}
    if not shares or others.empty:
        return None
    names = [title(row) for row in others.to_dict("records")]
    if len(names) == 1:  # the costs are the rows
        fig, ax = figure(COLUMN, height_of(len(shares)))
        values = pd.Series([share.iloc[0] for share in shares.values()])
        _shares(ax, values, [others["strategy"].iloc[0]] * len(values))
        _named_rows(ax, [SHARED[cost] for cost in shares])
        ax.set_xlabel(f"{names[0]}, % ({within(label(baseline))} = 100)")
        return fig
    fig, axes = figure(FULL, height_of(len(names)) + 0.1, columns=len(shares), sharey=True, squeeze=False)
    for ax, (cost, share) in zip(axes[0], shares.items(), strict=True):
        _shares(ax, share, others["strategy"])
        ax.set_title(SHARED[cost])
        _named_rows(ax, names)
        ax.tick_params(labelleft=ax is axes[0][0])
    fig.supxlabel(f"% ({within(label(baseline))} = 100)", fontsize=8)
    return fig


def _shares(ax: Axes, shares: "pd.Series[float]", strategies: Sequence[str]) -> None:
    """A dot for each share (percent) on a row of its own, tied to 100 on a log axis, and the share beside the axis."""
    ax.axvline(100, color=GREY, linewidth=0.8, zorder=0)
    for place, (share, strategy) in enumerate(zip(shares, strategies, strict=True)):
        if share > 0:
            ax.plot([share, 100], [place, place], color=colour(strategy), linewidth=1, alpha=0.5)
            ax.plot(share, place, linestyle="none", **_style(strategy))
    known = {
        place: f"{share:.2g}%" if share < 9.95 else f"{share:.0f}%" for place, share in enumerate(shares) if share > 0
    }
    _beside(ax, known, right=4)
    lowest = int(np.floor(np.log10(min(shares[shares > 0].min(), 50))))
    ax.set(xscale="log", xlim=(10.0**lowest, 1.25 * max(100, shares.max())))
    ax.set_xticks([10.0**power for power in range(2, lowest - 1, -1 if lowest > -1 else -2)])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    ax.minorticks_off()


def trade_offs(table: pd.DataFrame, cost: str) -> Figure | None:
    """The test score against a cost (log scale), and the Pareto front of every size as a step line.

    `table` is of `costs.costs`: a mark for each row whose cost is known, larger for larger budgets, with the interval
    from `low` to `high` if it has these columns. A step goes along what the cheaper strategy reaches until the next one
    on the front can be paid. None where no cost is above zero.
    """
    known = table[table[cost] > 0]  # nothing and zero have no place on a log axis
    if known.empty:
        return None
    sizes, metric = sorted(table["train_size"].unique()), metric_of(table)
    strategies = list(table["strategy"].unique())
    fig, ax = figure(FULL, above_legend(2.3, strategies))
    front = known[on_front(known, cost).fillna(False)].sort_values([cost, metric])
    for size, rows in front.groupby("train_size"):
        style = {"color": GREY, "linewidth": 0.6 + 0.4 * sizes.index(size), "zorder": 0}
        ax.step(rows[cost], 100 * rows[metric], where="post", **style)
    for row in known.to_dict("records"):
        style = {"s": 24 + 22 * sizes.index(row["train_size"]), "edgecolors": "white", "linewidth": 0.4, "alpha": 0.85}
        ax.scatter(row[cost], 100 * row[metric], **_style(row["strategy"]), **style)
        if "low" in row:
            ends = {"ymin": 100 * row["low"], "ymax": 100 * row["high"]}
            ax.vlines(row[cost], **ends, color=colour(row["strategy"]), linewidth=0.8, zorder=0.5)
    unit = " (bytes)" if cost.endswith("_bytes") else ""
    ax.set(xscale="log", xlabel=COSTS[cost].words + unit, ylabel=score_axis(metric))
    ax.margins(0.1)
    if len(strategies) > LEGEND_COLUMNS:  # too many to be found in a legend
        middle = np.sqrt(np.prod(ax.get_xlim()))
        for row in front[front["train_size"] == sizes[-1]].to_dict("records"):
            side = {"ha": "left", "xytext": (4, 4)} if row[cost] < middle else {"ha": "right", "xytext": (-4, 4)}
            style = {"textcoords": "offset points", "fontsize": "x-small"}
            ax.annotate(_title(row), (row[cost], 100 * row[metric]), **style, **side)
    ticks = sorted({float(f"{value:.1g}") for value in np.geomspace(known[cost].min(), known[cost].max(), 4)})
    ax.set_xticks(ticks, map(EngFormatter(), ticks))
    ax.minorticks_off()
    strategy_legend(strategies, ax)
    return fig


# --- Calibration ------------------------------------------------------------------------------------------------------


def calibration(diagram: Mapping[str, tuple[str, pd.DataFrame]], measured: pd.DataFrame, baseline: str) -> Figure:
    """The reliability diagram beside calibration error against accuracy; both are of `analysis.calibration`."""
    fig, (left, right) = figure(FULL, 2.7, columns=2)
    reliability(diagram, left)
    accuracy_and_calibration(measured, right, baseline)
    return fig


def reliability(diagram: Mapping[str, tuple[str, pd.DataFrame]], ax: Axes) -> None:
    """Accuracy against confidence, a line per variant, beside the diagonal of perfect calibration.

    `diagram` is of `calibration.diagram`. The points of a line are bins of equally many texts.
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
    legend_below(ax, LEGEND_COLUMNS)


def accuracy_and_calibration(measured: pd.DataFrame, ax: Axes, baseline: str) -> None:
    """Calibration error with its interval against accuracy at the largest budget.

    Filled marks are the models as trained, hollow ones the same after scaling by a temperature, where there is one.
    """
    for row in few(largest(measured), "accuracy", baseline).to_dict("records"):
        style = _style(row["strategy"]) | {"linestyle": "none"}
        error = np.clip([[row["ece"] - row["ece_low"]], [row["ece_high"] - row["ece"]]], 0, None)
        place = 100 * row["accuracy"]
        ax.errorbar(place, 100 * row["ece"], yerr=100 * error, capsize=2, elinewidth=0.6, label=_title(row), **style)
        if np.isfinite(row["ece_after"]):
            ax.plot(place, 100 * row["ece_after"], markerfacecolor="white", **style)
            ax.plot([place, place], [100 * row["ece"], 100 * row["ece_after"]], color=GREY, linewidth=0.5, zorder=0)
    ax.set(xlabel="test accuracy (%)", ylabel="ECE (points)")
    ax.margins(0.15)
    ax.set_ylim(0, None)
    ax.locator_params(axis="x", nbins=6)
