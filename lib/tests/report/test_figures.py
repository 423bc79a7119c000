"""Figures: every one draws, whatever the runs, and strategies can be told apart."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import EDGES, make_runs
from matplotlib import pyplot, rc_context
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from nbpaper import use_paper_style
from peft_study import paths
from peft_study.analysis import accuracy
from peft_study.analysis.costs import costs
from peft_study.report import class_figures, figures
from peft_study.report.numbers import Report
from peft_study.strategies.table import STRATEGIES, label

LOG = pd.DataFrame(
    [{"step": s, "epoch": s / 50, "loss": 0.7 - s / 200} for s in (10, 50, 100)]
    + [{"step": 100, "epoch": 2.0, "eval_loss": 0.3, "eval_accuracy": 0.9}]
)
LOGS = {
    "a run": LOG,
    "no validation": LOG[["step", "epoch", "loss"]].dropna(),
    "an empty log": pd.DataFrame(columns=["step", "epoch"]),
}
REVIEWS = pd.DataFrame({"tokens": [5, 90, 400, 90], "label": [0, 1, 1, 0]})
SCORES = pd.DataFrame({"train_size": [250, 1000], "accuracy": [0.7, 0.8], "low": [0.6, 0.7], "high": [0.8, 0.9]})
WEIGHTS = pd.Series({f"word{i}": float(i - 15) for i in range(30)}, name="positive")
FIGURES: dict[str, Callable[[Any], Any]] = {
    "balance of one class": lambda ax: class_figures.class_balance(REVIEWS.query("label == 1"), ax),
    "lengths of one review": lambda ax: class_figures.text_lengths(REVIEWS.head(1), 128, ax),
    "words": lambda ax: class_figures.words(WEIGHTS, ax),
    "baseline": lambda ax: figures.baseline_curve(SCORES, ax),
    "baseline at one size": lambda ax: figures.baseline_curve(SCORES.head(1), ax),
    "time of one step": lambda ax: figures.time_per_step(np.array([0.3]), ax),
    "confusion of one class": lambda ax: class_figures.confusion_matrix(np.array([1]), np.array([1]), ax),
    "legend": lambda ax: figures.strategy_legend(list(STRATEGIES), ax),
}
for _name, _log in LOGS.items():
    FIGURES |= {
        f"loss by step, {_name}": lambda ax, log=_log: figures.loss_per_steps(log, ax),
        f"loss by epoch, {_name}": lambda ax, log=_log: figures.loss_per_epochs(log, ax),
        f"validation, {_name}": lambda ax, log=_log: figures.validation_accuracy(log, ax),
    }
CLASSES: dict[str, Callable[[Any, list[str]], Any]] = {
    "balance": lambda ax, names: class_figures.class_balance(REVIEWS, ax, names),
    "lengths": lambda ax, names: class_figures.text_lengths(REVIEWS, 128, ax, names),
    "confusion": lambda ax, names: class_figures.confusion_matrix(np.array([0, 1]), np.array([1, 1]), ax, names),
}
PAIRS = np.array([[0, 0, 0, 7, 7, 149], [3, 3, 0, 0, 7, 149]])  # true and predicted classes


@pytest.fixture(autouse=True)
def paper_style() -> Iterator[None]:
    """Figures look as they do in the notebooks, and other tests do not notice."""
    with rc_context():
        use_paper_style()
        yield


def draw(figure: Figure) -> bytes:
    """The figure as it is written: nothing about it may fail only then."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def test_every_strategy_has_a_colour_and_a_marker_of_its_own() -> None:
    assert len({(figures.colour(name), figures.marker(name)) for name in STRATEGIES}) == len(STRATEGIES)
    assert figures.colour("unheard-of") and figures.marker("unheard-of") and label("unheard-of") == "unheard-of"


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("name", CLASSES)
def test_a_figure_of_any_number_of_classes_can_be_drawn(name: str, count: int) -> None:
    names = [f"class $_{{{i}}} with quite a long name" for i in range(count)]
    figure, axis = figures.figure(class_figures.class_width(2.4, names), 2)
    CLASSES[name](axis, names)
    assert b"<svg" in draw(figure) and figure.get_figwidth() <= figures.FULL


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CLASSES)
def test_a_figure_shows_the_names_of_classes_as_they_are_and_on_one_short_line(name: str) -> None:
    names = ["C:\\new {x}", "😀 $5 $x$ | *b*", "שלום", "日本" * 40, "tab\tnew\nline", "a\u202eb\x07c\u200b"]
    figure, axis = figures.figure(4, 3)
    CLASSES[name](axis, names)
    drawn = draw(figure).decode()
    for shown in ("C:\\new {x}", "😀 $5 $x$ | *b*", "שלום", "日本日本日本日本…", "tab new line", "a‹U+202E›b‹U+0007…"):
        assert f">{shown}</text>" in drawn, shown


def test_names_are_cut_between_letters_as_readers_count_them() -> None:
    assert class_figures.short("e\u0301" * 30, 9) == "e\u0301" * 8 + "…"
    assert class_figures.short("👩‍👩‍👧" * 30, 9) == "👩‍👩‍👧" * 4 + "…"
    assert class_figures.short("می‌خواهم") == "می‌خواهم", "what joins letters stays"


def test_the_confusion_matrix_counts_every_class() -> None:
    labels, preds = np.random.default_rng(0).integers(0, 4, (2, 200))
    _, axis = figures.figure()
    class_figures.confusion_matrix(labels, preds, axis, list("abcd"))
    assert [int(text.get_text()) for text in axis.texts] == confusion_matrix(labels, preds).ravel().tolist()


@pytest.mark.parametrize("wrong", [True, False])
def test_of_many_classes_the_pairs_that_are_confused_most_are_drawn(wrong: bool) -> None:
    names = [f"intent {i}" for i in range(150)]
    figure = class_figures.confusions(PAIRS[0], PAIRS[int(wrong)], names)
    (axis,) = figure.axes
    pairs = ["intent 0 → intent 3", "intent 7 → intent 0"] if wrong else []
    assert [tick.get_text() for tick in axis.get_yticklabels()] == pairs
    assert [text.get_text() for text in axis.texts] == ["2 (67%)", "1 (50%)"][: len(pairs)]
    assert ("no text is misclassified" in axis.get_xlabel()) == (not pairs) and b"<svg" in draw(figure)


def test_the_balance_of_many_classes_is_in_order_and_names_the_most_and_the_least_common() -> None:
    table = pd.DataFrame({"label": np.repeat(np.arange(150), np.arange(150) % 7 + 1)})
    figure, axis = figures.figure()
    class_figures.class_balance(table, axis, [f"intent {i}" for i in range(150)])
    heights = [bar.get_height() for bar in axis.patches]
    assert heights == sorted(heights, reverse=True) and len(heights) == 150 and sum(heights) == len(table)
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["intent 6", "intent 147"]
    assert figure.get_figwidth() <= figures.FULL


def test_each_class_has_its_own_words() -> None:
    weights = pd.DataFrame(np.eye(4), ["cheap", "clay", "goal", "treaty"], list("abcd"))
    shown = [axis for axis in class_figures.word_weights(weights).axes if axis.get_visible()]
    assert [axis.get_yticklabels()[-1].get_text() for axis in shown] == list(weights.index)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_on_its_own_axis_and_leaves_nothing_in_pyplot(name: str) -> None:
    figure, axis = figures.figure()
    assert FIGURES[name](axis) is axis
    assert b"<svg" in draw(figure)
    assert pyplot.get_fignums() == []
    assert axis.get_legend() is None, "a legend stands below the axes, where it covers no data"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("edge", EDGES)
def test_the_figures_of_a_comparison_are_drawn_for_whatever_runs_there_are(edge: str) -> None:
    runs = EDGES[edge]()
    summary, against = accuracy.summary(runs), accuracy.against_baseline(runs)
    size, axis = figures.accuracy(summary, runs.table, SCORES)
    gaps, rows = figures.figure(figures.COLUMN, figures.height_of(max(4, len(against))))
    figures.differences(against, runs.study.margin, rows)
    strategies = list(runs.table["strategy"].unique())
    drawn = [size, gaps, figures.trade_offs(costs(runs)), figures.training_curves(runs.table, runs.log, strategies)]
    for figure in drawn:
        assert figure is not None and pyplot.get_fignums() == []
        figure.draw_without_rendering()
    assert len(rows.get_yticklabels()) == len(against)
    titles = list(dict.fromkeys(map(accuracy.title, summary.to_dict("records"))))
    if summary["train_size"].nunique() > 1:
        lines = [line for line in axis.lines if line.get_label() != "bag of words"]
        assert [line.get_label() for line in lines] == titles
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines)
    else:
        assert sorted(tick.get_text() for tick in axis.get_yticklabels()) == sorted(titles)


def test_a_line_goes_through_the_accuracies_and_every_run_is_a_dot() -> None:
    matrix = {"strategy": ["full", "lora"], "train_size": [1000, 250], "seed": [1, 2]}
    runs = make_runs({"lora": 0.8, "s2": 0.7}, matrix=matrix)
    _, axis = figures.accuracy(accuracy.summary(runs), runs.table)
    assert axis.lines[1].get_xydata().tolist() == [[250, pytest.approx(75)], [1000, pytest.approx(75)]]
    dots = np.concatenate([points.get_offsets() for points in axis.collections if len(points.get_offsets()) == 4])
    assert sorted(dots[:, 1].round(6)) == sorted((100 * runs.table["test.accuracy"]).round(6))


def test_the_front_is_a_step_line_through_those_that_no_other_beats() -> None:
    runs = make_runs({"lora": 0.8, "head": 0.7}, matrix={"strategy": ["full", "lora", "head"], "train_size": [1000]})
    table = costs(runs).assign(**{"training.seconds": [9.0, 3.0, 4.0]})
    _, axis = figures.figure()
    figures.trade_off(table, "training.seconds", axis)
    assert not axis.texts, "the legend names them"
    (line,) = axis.lines
    assert line.get_drawstyle() == "steps-post" and line.get_xydata().tolist() == [[3, 80], [9, pytest.approx(90)]]
    assert len(axis.collections) == 3


def test_what_costs_nothing_or_is_unknown_has_no_axis_and_what_has_no_log_no_curve() -> None:
    runs = make_runs()
    table = costs(runs)
    assert len((figures.trade_offs(table) or Figure()).axes) == 3
    table = table.assign(**{"training.seconds": 0.0, "training.flops": float("nan")})
    table.loc[1:, "parameters.trainable"] = float("nan")
    (axis,) = (figures.trade_offs(table) or Figure()).axes
    assert len(axis.collections) == 1, "a mark for the one run whose cost is known"
    assert figures.trade_offs(table.assign(**{"parameters.trainable": float("nan")})) is None
    assert figures.training_curves(runs.table, lambda run_id: LOGS["an empty log"], ["full", "lora"]) is None


def test_a_figure_that_is_not_drawn_leaves_no_file_of_an_earlier_report() -> None:
    paper, folder = Report(make_runs().study), paths.report_folder("made") / "figures"
    written = []
    for _ in range(2):
        drawn, axis = figures.figure()
        axis.plot([1, 2])
        assert paper.figure("fig-one", drawn) is drawn
        written.append({file.name: file.read_bytes() for file in sorted(folder.iterdir())})
    assert list(written[0]) == ["fig-one.pdf", "fig-one.svg"] and written[0] == written[1], "the same every time"
    assert paper.figure("fig-one", None) is None and not list(folder.iterdir())
