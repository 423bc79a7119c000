"""Figures: every one draws, whatever the runs, and strategies can be told apart."""

import io
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import EDGES, MATRIX, make_runs
from matplotlib import pyplot, rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sklearn.metrics import confusion_matrix

from nbpaper import use_paper_style
from peft_study import paths
from peft_study.analysis import accuracy
from peft_study.analysis.costs import costs
from peft_study.report import class_figures, figures
from peft_study.report.numbers import Report
from peft_study.strategies.table import STRATEGIES

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
FIGURES: dict[str, Callable[[Any], Any]] = {
    "balance of one class": lambda ax: class_figures.class_balance(REVIEWS.query("label == 1"), ax),
    "lengths of one review": lambda ax: class_figures.text_lengths(REVIEWS.head(1), 128, ax),
    "baseline": lambda ax: figures.baseline_curve(SCORES, ax),
    "baseline at one size": lambda ax: figures.baseline_curve(SCORES.head(1), ax),
    "time of one step": lambda ax: figures.time_per_step(np.array([0.3]), ax),
    "legend": lambda ax: figures.strategy_legend(list(STRATEGIES), ax),
}
for _name, _log in LOGS.items():
    FIGURES |= {
        f"loss by step, {_name}": lambda ax, log=_log: figures.loss_per_steps(log, ax),
        f"loss by epoch, {_name}": lambda ax, log=_log: figures.loss_per_epochs(log, ax),
        f"validation, {_name}": lambda ax, log=_log: figures.validation_accuracy(log, ax),
    }
CLASSES: dict[str, Callable[[list[str]], Figure]] = {
    "balance": lambda names: class_figures.class_balance(REVIEWS, axis_for(names), names).get_figure(root=True),
    "lengths": lambda names: class_figures.text_lengths(REVIEWS, 128, axis_for(names), names).get_figure(root=True),
    "confusions": lambda names: class_figures.confusions(np.array([0, 1]), np.array([1, 1]), names),
    "confusions of one class": lambda names: class_figures.confusions(np.array([1]), np.array([1]), names),
}
PAIRS = np.array([[0, 0, 0, 7, 7, 149], [3, 3, 0, 0, 7, 149]])  # true and predicted classes


@pytest.fixture(autouse=True)
def paper_style() -> Iterator[None]:
    """Figures look as they do in the notebooks, and other tests do not notice."""
    with rc_context():
        use_paper_style()
        yield


def axis_for(names: list[str]) -> Any:
    """An axis with room for each class."""
    return figures.figure(class_figures.class_width(2.4, names), 3)[1]


def draw(figure: Figure) -> bytes:
    """The figure as it is written: nothing about it may fail only then."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def test_every_strategy_has_a_colour_and_a_marker_of_its_own() -> None:
    assert len({(figures.colour(name), figures.marker(name)) for name in STRATEGIES}) == len(STRATEGIES)


@pytest.mark.parametrize("count", [2, 30])
@pytest.mark.parametrize("name", CLASSES)
def test_a_figure_of_any_number_of_classes_can_be_drawn(name: str, count: int) -> None:
    names = [f"class $_{{{i}}} with quite a long name" for i in range(count)]
    figure = CLASSES[name](names)
    assert b"<svg" in draw(figure) and figure.get_figwidth() <= figures.FULL


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["balance", "lengths", "confusions"])
def test_a_figure_shows_the_names_of_classes_as_they_are_and_on_one_short_line(name: str) -> None:
    names = ["C:\\new {x}", "😀 $5 $x$ | *b*", "שלום", "日本" * 40, "tab\tnew\nline", "a\u202eb\x07c\u200b"]
    drawn = draw(CLASSES[name](names)).decode()
    for shown in ("C:\\new {x}", "😀 $5 $x$ | *b*", "שלום", "日本日本日本日本…", "tab new line", "a‹U+202E›b‹U+0007…"):
        assert f">{shown}</text>" in drawn, shown


def test_names_are_cut_between_letters_as_readers_count_them() -> None:
    assert class_figures.short("e\u0301" * 30, 9) == "e\u0301" * 8 + "…"
    assert class_figures.short("👩‍👩‍👧" * 30, 9) == "👩‍👩‍👧" * 4 + "…"
    assert class_figures.short("می‌خواهم") == "می‌خواهم", "what joins letters stays"


def test_the_confusion_matrix_counts_every_class() -> None:
    labels, preds = np.random.default_rng(0).integers(0, 4, (2, 200))
    (axis,) = class_figures.confusions(labels, preds, list("abcd")).axes
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
    size, axis = figures.scores(summary, runs.table, SCORES)
    gaps = figures.differences(against, runs.study, runs)
    shares = figures.cost_shares(costs(runs), runs.study.baseline)
    curves = figures.training_curves(runs.table, runs.log)
    assert (gaps is None) == against.empty and curves is not None
    for figure in filter(None, (size, gaps, shares, curves)):
        figure.draw_without_rendering()
    assert pyplot.get_fignums() == []
    titles = list(dict.fromkeys(map(accuracy.title, summary.to_dict("records"))))
    if summary["train_size"].nunique() > 1:
        named = [*titles, "TF-IDF", *["unstable ↓"] * summary["low"].isna().sum()]
        assert sorted(text.get_text() for text in axis.texts) == sorted(named)
    else:
        assert sorted(tick.get_text() for tick in axis.get_yticklabels()) == sorted(titles)


def texts_of(figure: Figure | None) -> list[str]:
    return [text.get_text() for axis in (figure.axes if figure else []) for text in axis.texts]


def test_a_difference_is_printed_with_its_verdict_and_every_seed_is_a_dot() -> None:
    runs = make_runs({"lora": 0.8, "lora-n01000-s2": 0.7}, matrix=MATRIX | {"seed": [1, 2]})
    against = accuracy.against_baseline(runs)
    figure = figures.differences(against.assign(verdict="no verdict", low=-25, high=-5.04), runs.study, runs)
    assert texts_of(figure).count("no verdict") == 2
    assert {"\N{MINUS SIGN}15.0 [\N{MINUS SIGN}25.0, \N{MINUS SIGN}5.0]", "verdict"} <= set(texts_of(figure))
    scores = accuracy.by_seed({"strategy": "lora", "train_size": 1000}, runs, "test.accuracy")
    seeds = 100 * (scores["strategy"] - scores["baseline"])
    assert seeds.to_dict() == {1: pytest.approx(-10), 2: pytest.approx(-20)}
    assert seeds.tolist() in [points.get_offsets()[:, 0].tolist() for points in figure.axes[0].collections]


def test_lines_go_through_the_accuracies_every_run_is_a_dot_and_no_name_covers_another() -> None:
    matrix = {"strategy": list(STRATEGIES)[:12], "train_size": [1000, 250], "seed": [1, 2]}
    runs = make_runs({"lora": 0.8, "s2": 0.7}, matrix=matrix)
    figure, axis = figures.scores(accuracy.summary(runs), runs.table)
    lines = [np.round(np.array(line.get_ydata(), float), 6).tolist() for line in axis.lines]
    assert [80.0, 80.0] in lines and [75.0, 75.0] in lines
    dots = np.concatenate([points.get_offsets() for points in axis.collections if len(points.get_offsets()) == 2])
    assert sorted(dots[:, 1].round(6)) == sorted((100 * runs.table["test.accuracy"]).round(6))
    assert len(np.unique(dots[:, 0].round(6))) == 24, "each strategy has a place of its own at each budget"
    figure.draw_without_rendering()
    names = sorted((Text.get_window_extent(text) for text in axis.texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(names))


def test_costs_are_shares_of_the_baselines() -> None:
    one = figures.cost_shares(costs(make_runs()), "full")
    assert texts_of(one) == ["1.4%", "1.4%", "67%", "67%", "100%", ""]
    matrix = {"strategy": ["full", "lora", "head"], "train_size": [1000]}
    table = costs(make_runs(matrix=matrix))
    assert [axis.get_title() for axis in figures.cost_shares(table, "full").axes] == list(figures.SHARED.values())
    unknown = table.assign(**dict.fromkeys(figures.SHARED, float("nan")))
    assert figures.cost_shares(unknown, "full") is None and figures.cost_shares(table, "bitfit") is None


def test_curves_have_a_column_for_each_budget_and_a_ring_at_the_tested_checkpoint() -> None:
    runs = make_runs()
    table = runs.table.assign(**{"training.selected_step": 100})
    figure = figures.training_curves(table, runs.log)
    assert [axis.get_title() for axis in figure.axes] == ["250 labels", "1,000 labels", "", ""]
    rings = [points.get_offsets().tolist() for points in figure.axes[0].collections]
    assert rings == [[[2.0, 0.3]]] * 2, "one for each strategy"
    assert figures.training_curves(table, lambda run_id: LOGS["an empty log"]) is None


def test_the_front_is_a_step_line_through_those_that_no_other_beats() -> None:
    runs = make_runs({"lora": 0.8, "head": 0.7}, matrix={"strategy": ["full", "lora", "head"], "train_size": [1000]})
    table = costs(runs).assign(**{"training.seconds": [9.0, 3.0, 4.0]})
    (axis,) = (figures.trade_offs(table, "training.seconds") or Figure()).axes
    assert not axis.texts, "the legend names them"
    line = axis.lines[0]  # the others are the marks of the legend
    assert line.get_drawstyle() == "steps-post" and line.get_xydata().tolist() == [[3, 80], [9, pytest.approx(90)]]
    assert len(axis.collections) == 3
    with_intervals = table.assign(low=0.5, high=[0.91, 0.92, 0.93])
    (axis,) = (figures.trade_offs(with_intervals, "training.seconds") or Figure()).axes
    bars = [bar.get_segments()[0].tolist() for bar in axis.collections[1::2]]
    assert bars == [[[9, 50], [9, 91]], [[3, 50], [3, 92]], [[4, 50], [4, 93]]]


def test_what_costs_nothing_or_is_unknown_has_no_axis() -> None:
    table = costs(make_runs()).assign(**{"training.seconds": 0.0})
    table.loc[1:, "parameters.trainable"] = float("nan")
    (axis,) = (figures.trade_offs(table, "parameters.trainable") or Figure()).axes
    assert len(axis.collections) == 1, "a mark for the one run whose cost is known"
    assert figures.trade_offs(table, "training.seconds") is None


@pytest.mark.parametrize("count", [1, 2, 0])
def test_the_card_of_a_report_has_the_size_that_sites_ask_for_and_nothing_leaves_it(count: int) -> None:
    runs = make_runs()
    against = accuracy.against_baseline(runs).head(count)
    Report(runs.study).card("**LoRA** keeps all of it " * 30, against)
    assert Image.open(paths.report_folder("made") / "card.png").size == (1200, 630)
    drawn = figures.card(runs.study.model_copy(update={"title": "A title " * 30}), "finding " * 99, against)
    drawn.draw_without_rendering()
    inside = drawn.get_tightbbox()
    assert inside.x0 >= 0 and inside.y0 >= 0 and inside.x1 <= 4.8 and inside.y1 <= 2.52


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
