"""Figures and reviews on the screen: every one draws, tells strategies apart, and shows text as text."""

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pypandoc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from IPython.utils.capture import capture_output
from made_runs import make_runs
from matplotlib import pyplot, rc_context
from matplotlib.figure import Figure
from nbconvert.filters import markdown2html
from test_comparison import EDGES

from nbpaper import use_paper_style
from peft_study import paths
from peft_study.analysis import accuracy as comparison_tables
from peft_study.analysis import costs as ledger_tables
from peft_study.records.read import Runs
from peft_study.report import class_figures as class_plots
from peft_study.report import display as show
from peft_study.report import figures as plots
from peft_study.strategies.table import STRATEGIES, label

HOSTILE = (
    '<script>alert("hi")</script> <img src=x onerror=alert(1)> *stars* _low_ `code` $5 and $6 [@nobody] # 1. | ![i](u)'
)


def draw(figure: Figure) -> bytes:
    """The figure as it is written: nothing about it may fail only then."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def paper_style() -> Iterator[None]:
    """Figures look as they do in the notebooks, and other tests do not notice."""
    with rc_context():
        use_paper_style()
        yield


# --- Figures ----------------------------------------------------------------------------------------------------------


def test_every_strategy_has_a_colour_and_a_marker_of_its_own_wherever_it_stands_in_a_figure() -> None:
    pairs = {name: (plots.colour(name), plots.marker(name)) for name in STRATEGIES}
    assert len(set(pairs.values())) == len(STRATEGIES)
    assert len({colour for colour, _ in pairs.values()}) == min(len(STRATEGIES), len(plots.COLOURS))
    assert pairs == {name: (plots.colour(name), plots.marker(name)) for name in reversed(STRATEGIES)}


def test_many_more_strategies_would_still_differ_in_colour_or_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {**STRATEGIES, **{f"new-{i}": STRATEGIES["lora"] for i in range(20)}}
    before = {name: (plots.colour(name), plots.marker(name)) for name in STRATEGIES}
    monkeypatch.setattr(plots, "STRATEGIES", many)
    after = {name: (plots.colour(name), plots.marker(name)) for name in many}
    assert len(set(after.values())) == len(many)
    assert {name: after[name] for name in STRATEGIES} == before, "an added strategy must not repaint the others"


def test_a_strategy_of_another_program_can_be_drawn() -> None:
    assert plots.colour("unheard-of") and plots.marker("unheard-of") and label("unheard-of") == "unheard-of"


LOG = pd.DataFrame(
    [{"step": s, "epoch": s / 50, "loss": 0.7 - s / 200} for s in (10, 50, 100)]
    + [{"step": 100, "epoch": 2.0, "eval_loss": 0.3, "eval_accuracy": 0.9}]
)
LOGS = {
    "a run": LOG,
    "no validation": LOG[["step", "epoch", "loss"]].dropna(),
    "one entry": LOG.head(1),
    "an empty log": pd.DataFrame(columns=["step", "epoch"]),
}
REVIEWS = pd.DataFrame({"tokens": [5, 90, 400, 90], "label": [0, 1, 1, 0]})
SCORES = pd.DataFrame({"train_size": [250, 1000], "accuracy": [0.7, 0.8], "low": [0.6, 0.7], "high": [0.8, 0.9]})
WEIGHTS = pd.Series({f"word{i}": float(i - 15) for i in range(30)}, name="positive")
TWO = pd.DataFrame({"strategy": ["lora", "full"], "train_size": [250, 1000]}, ["r", "s"])
FIGURES: dict[str, Callable[[Any], Any]] = {
    "balance": lambda ax: class_plots.class_balance(REVIEWS, ax),
    "balance of one class": lambda ax: class_plots.class_balance(REVIEWS.query("label == 1"), ax),
    "lengths": lambda ax: class_plots.text_lengths(REVIEWS, 128, ax),
    "lengths of one class": lambda ax: class_plots.text_lengths(REVIEWS.query("label == 1"), 128, ax),
    "lengths of one review": lambda ax: class_plots.text_lengths(REVIEWS.head(1), 128, ax),
    "words": lambda ax: class_plots.words(WEIGHTS, ax),
    "few words": lambda ax: class_plots.words(WEIGHTS.head(1), ax),
    "baseline": lambda ax: plots.baseline_curve(SCORES, ax),
    "baseline at one size": lambda ax: plots.baseline_curve(SCORES.head(1), ax),
    "time": lambda ax: plots.time_per_step(np.array([0.3, 0.1, 0.2]), ax),
    "time of one step": lambda ax: plots.time_per_step(np.array([0.3]), ax),
    "confusion": lambda ax: class_plots.confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), ax),
    "confusion of one class": lambda ax: class_plots.confusion_matrix(np.array([1]), np.array([1]), ax),
    "legend": lambda ax: plots.strategy_legend(list(STRATEGIES), ax),
}
for _name, _log in LOGS.items():
    FIGURES |= {
        f"loss by step, {_name}": lambda ax, log=_log: plots.loss_per_steps(log, ax),
        f"loss by epoch, {_name}": lambda ax, log=_log: plots.loss_per_epochs(log, ax),
        f"validation, {_name}": lambda ax, log=_log: plots.validation_accuracy(log, ax),
        f"curves, {_name}": lambda ax, log=_log: plots.curves(TWO, {"r": log, "s": LOG}.__getitem__, "eval_loss", ax),
        f"smooth curves, {_name}": lambda ax, log=_log: plots.curves(TWO, {"r": log, "s": LOG}.__getitem__, "loss", ax),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_on_its_own_axis_and_leaves_nothing_in_pyplot(name: str) -> None:
    figure, axis = plots.figure()
    assert FIGURES[name](axis) is axis
    assert b"<svg" in draw(figure)
    assert pyplot.get_fignums() == []
    assert axis.get_legend() is None, "a legend stands below the axes, where it covers no data"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("edge", EDGES)
def test_the_figures_of_a_comparison_are_drawn_for_whatever_runs_there_are(edge: str) -> None:
    runs = EDGES[edge]()
    summary, against = comparison_tables.summary(runs), comparison_tables.against_baseline(runs)
    figures, axes = zip(*[plots.figure(plots.COLUMN, 0.7 + 0.32 * max(4, len(against))) for _ in range(4)], strict=True)
    plots.accuracy_vs_size(summary, runs.table, axes[0], SCORES)
    plots.differences(against, runs.study.margin, axes[1])
    plots.trade_off(ledger_tables.costs(runs), "training.seconds", axes[2])
    plots.curves(runs.table, runs.log, "loss", axes[3])
    assert all(b"<svg" in draw(figure) for figure in figures)
    assert pyplot.get_fignums() == []
    lines = [line for line in axes[0].lines if line.get_label() != "bag of words"]
    assert [line.get_label() for line in lines] == list(
        dict.fromkeys(map(comparison_tables.title, summary.to_dict("records")))
    )
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines)
    assert len(axes[1].get_yticklabels()) == len(against)


def test_a_line_goes_through_the_accuracies_and_every_run_is_a_dot() -> None:
    runs = make_runs(
        {"lora": 0.8, "s2": 0.7}, matrix={"strategy": ["full", "lora"], "train_size": [1000, 250], "seed": [1, 2]}
    )
    _, axis = plots.figure()
    plots.accuracy_vs_size(comparison_tables.summary(runs), runs.table, axis)
    assert axis.lines[1].get_xydata().tolist() == [[250, pytest.approx(75)], [1000, pytest.approx(75)]]
    dots = np.concatenate([points.get_offsets() for points in axis.collections if len(points.get_offsets()) == 4])
    assert sorted(dots[:, 1].round(6)) == sorted((100 * runs.table["test.accuracy"]).round(6))


def test_the_front_is_a_step_line_through_those_that_no_other_beats() -> None:
    runs = make_runs({"lora": 0.8, "head": 0.7}, matrix={"strategy": ["full", "lora", "head"], "train_size": [1000]})
    table = ledger_tables.costs(runs).assign(**{"training.seconds": [9.0, 3.0, 4.0]})
    _, axis = plots.figure()
    plots.trade_off(table, "training.seconds", axis)
    (line,) = axis.lines
    assert line.get_drawstyle() == "steps-post" and line.get_xydata().tolist() == [[3, 80], [9, pytest.approx(90)]]
    assert len(axis.collections) == 3


def test_the_strategies_on_a_front_are_named_where_they_are_too_many_for_a_legend() -> None:
    few, many = ["full", "lora", "head"], ["full", "lora", "head", "bitfit", "ln", "ia3"]
    for strategies, named in ((few, set()), (many, {"Full fine-tuning", "Head only"})):
        runs = make_runs({"": 0.7, "full": 0.9}, matrix={"strategy": strategies, "train_size": [1000]})
        _, axis = plots.figure()
        plots.trade_off(ledger_tables.costs(runs), "parameters.trainable", axis)
        assert {text.get_text() for text in axis.texts} == named


@pytest.mark.parametrize(("least", "most", "named"), [(70, 100, 3), (20, 100, 3), (1e4, 2e7, 3), (3e11, 1e13, 4)])
def test_a_log_axis_of_costs_names_a_few_ticks_whatever_its_span(least: float, most: float, named: int) -> None:
    table = ledger_tables.costs(make_runs()).assign(**{"training.seconds": [least, least, most, most]})
    figure, axis = plots.figure(2.2, 2)
    plots.trade_off(table, "training.seconds", axis)
    draw(figure)
    low, high = axis.get_xlim()
    ticks = [*axis.xaxis.get_major_ticks(), *axis.xaxis.get_minor_ticks()]
    shown = [tick for tick in ticks if tick.label1.get_text() and low <= tick.get_loc() <= high]
    assert named <= len(shown) <= 8


def test_costs_that_no_record_holds_have_no_axis_and_no_figure() -> None:
    table = ledger_tables.costs(make_runs())
    assert len((plots.trade_offs(table) or Figure()).axes) == 3
    table[["training.seconds", "training.flops"]] = float("nan")
    assert len((plots.trade_offs(table) or Figure()).axes) == 1
    table.loc[1:, "parameters.trainable"] = float("nan")
    (axis,) = (plots.trade_offs(table) or Figure()).axes
    assert len(axis.collections) == 1, "a mark for the one run whose cost is known"
    assert plots.trade_offs(table.assign(**{"parameters.trainable": float("nan")})) is None


def test_a_figure_that_cannot_be_drawn_leaves_none_of_an_earlier_report() -> None:
    plots.save_figure(plots.figure()[0], "made", "curves")
    assert plots.save_figure(None, "made", "curves") is None
    assert not list((paths.report_folder("made") / "figures").iterdir())


def test_a_figure_is_kept_in_two_forms_that_are_the_same_every_time() -> None:
    written = []
    for _ in range(2):
        figure, axis = plots.figure()
        plots.baseline_curve(SCORES, axis)
        assert plots.save_figure(figure, "made", "words") is figure
        folder = paths.report_folder("made") / "figures"
        written.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert list(written[0]) == ["words.pdf", "words.svg"]
    assert written[0]["words.pdf"].startswith(b"%PDF") and b"<svg" in written[0]["words.svg"]
    assert written[0] == written[1]


# --- Reviews on the screen --------------------------------------------------------------------------------------------


def shown(call: Callable[[], Any]) -> list[dict[str, str]]:
    """The display bundles of what `call` shows."""
    with capture_output() as captured:
        call()
    return [output.data for output in captured.outputs]


@pytest.fixture(autouse=True)
def shell() -> None:
    """Displays go to IPython, as in a kernel."""
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.instance()


def visible(page: str) -> str:
    """What a reader sees of HTML, white space aside."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_a_review_is_text_in_html_in_markdown_and_through_pandoc() -> None:
    (bundle,) = shown(lambda: show.review(HOSTILE, 1, {"note": HOSTILE}))
    page, marked = bundle["text/html"], bundle["text/markdown"]
    for form in (page, markdown2html(marked), pypandoc.convert_text(marked, "html", "markdown+tex_math_dollars")):
        assert not re.search(r"<(script|img|em|code|span|h1|a|li|table)\b", form), form
        assert visible(form).count(" ".join(HOSTILE.split())) == 2, visible(form)
    typst = pypandoc.convert_text(marked, "typst", "markdown+tex_math_dollars+citations")
    assert (
        "$5" not in typst.replace("\\$5", "")
        and "#cite" not in typst
        and "@nobody" not in typst.replace("\\@nobody", "")
    )
    assert bundle["text/plain"].endswith(HOSTILE)


@settings(max_examples=100, deadline=None)
@given(some.text(alphabet=some.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60))
def test_markdown_shows_escaped_text_as_it_was(text: str) -> None:
    assert visible(markdown2html("x " + show.markdown_escape(text.strip()))) == visible("x " + html.escape(text))


def test_indented_lines_of_a_review_do_not_become_code() -> None:
    (bundle,) = shown(lambda: show.review("Line one\n\n        <b>indented</b> & far\n\tand *this*", 0))
    page = pypandoc.convert_text(bundle["text/markdown"], "html", "markdown")
    assert "<code" not in page and "<b>" not in page and "\\" not in page
    assert visible(page) == "negative Line one <b>indented</b> & far and *this*"


def test_an_empty_review_says_so() -> None:
    (bundle,) = shown(lambda: show.review("", 0))
    assert "<i>(empty)</i>" in bundle["text/html"]
    assert visible(markdown2html(bundle["text/markdown"])) == "negative (empty)"


def test_reviews_are_shown_one_by_one_with_the_facts_asked_for() -> None:
    table = pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "rating": [2.0, 9.0], "secret": ["x", "y"]})
    bundles = shown(lambda: show.reviews(table, facts=["rating"]))
    assert [bundle["text/plain"] for bundle in bundles] == ["negative · rating: 2.0\na", "positive · rating: 9.0\nb"]


def test_generated_prose_is_paragraphs_of_markdown() -> None:
    (bundle,) = shown(lambda: show.sentence("One.", "Two."))
    assert bundle["text/markdown"] == "One.\n\nTwo."


def test_disagreements_show_the_reviews_that_only_one_run_got_right() -> None:
    runs: Runs = make_runs({"lora": 0.8})
    pair = comparison_tables.largest_pair(runs)
    assert pair == ("full-n01000-s1", "lora-n01000-s1")
    bundles = shown(lambda: show.disagreements(runs, pair, {i: f"review {i}" for i in range(400)}, count=3))
    assert len(bundles) == 2 * (1 + 3)
    for bundle in bundles[1:4]:
        row = int(bundle["text/plain"].split("review ")[1])
        assert runs.preds.loc[row, pair[0]] == runs.labels[row] != runs.preds.loc[row, pair[1]]
        first, second = map(int, re.findall(r"(\d+)% for the true class", bundle["text/plain"]))
        assert first >= 50 >= second
    assert shown(lambda: show.disagreements(runs, None, {})) == []


def test_a_cost_of_nothing_is_drawn_nowhere() -> None:
    table = ledger_tables.costs(make_runs()).assign(**{"training.seconds": 0.0})
    figure = plots.trade_offs(table)
    assert figure is not None and "seconds of training" not in [ax.get_xlabel() for ax in figure.axes]
    assert plots.trade_offs(table, ["training.seconds"]) is None
