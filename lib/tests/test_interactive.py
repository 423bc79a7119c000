"""The interactive pieces without a browser: silent in a batch, their errors in place, untrusted text as text."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipywidgets
import pandas as pd
import pytest
from IPython.utils.capture import capture_output
from ipywidgets.widgets.widget import _instances
from made_runs import make_run, make_runs, make_study, write_arrays

from peft_study import paths
from peft_study import widgets as interactive
from peft_study.analysis import costs as ledger_tables
from peft_study.data import browsing, tokenization
from peft_study.data import reviews as data
from peft_study.data.labels import LABELS
from peft_study.engine import status
from peft_study.errors import StudyError
from peft_study.records import layout as folders
from peft_study.records import read as results
from peft_study.study.variant import Variant
from peft_study.widgets import comparisons, live_chart, markup, panel, reviews

HOSTILE = '<script>alert("hi")</script><img src=x onerror=alert(1)>'
LOG = pd.DataFrame(
    [{"step": s, "epoch": s / 50, "loss": 0.7 - s / 200} for s in (10, 50, 100)]
    + [{"step": 100, "epoch": 2.0, "eval_loss": 0.3, "eval_accuracy": 0.9}]
)


# --- In a batch -------------------------------------------------------------------------------------------------------


def test_where_nobody_watches_nothing_is_shown_and_no_widget_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    before = len(_instances)
    with capture_output() as captured:
        interactive.browse_reviews(None, None)  # type: ignore[arg-type]
        interactive.try_review(None)  # type: ignore[arg-type]
        interactive.browse_mistakes(None, None)  # type: ignore[arg-type]
        interactive.browse_runs("none")
        interactive.compare_two(None, {})  # type: ignore[arg-type]
        interactive.pick_trade_off(None, None)  # type: ignore[arg-type]
        interactive.progress()("Working", 1, 2)
    assert captured.outputs == [] and captured.stdout == ""
    assert len(_instances) == before


def test_the_library_does_without_ipywidgets_until_somebody_watches() -> None:
    code = "import sys; from peft_study import interactive; sys.exit('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.LIB).returncode == 0


def test_training_shows_lines_in_a_batch_and_a_chart_that_can_be_stopped_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kinds() -> list[str]:
        return [type(callback).__name__ for callback in interactive.training_callbacks("lora")]

    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert not interactive.live() and kinds() == ["PlainProgress"]
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert interactive.live() and kinds() == ["LiveChart", "StopOnInterrupt"]


# --- A panel ----------------------------------------------------------------------------------------------------------


def made(render: Callable[..., Any], **options: Any) -> panel.Panel:
    """A panel of one slider, and a place."""
    return panel.Panel(render, size=ipywidgets.IntSlider(), place=panel.place("place", 9), **options)


def test_a_panel_shows_what_it_is_about_to_do_and_then_the_result() -> None:
    seen: list[str] = []

    def render(size: int, place: int) -> Iterator[str]:
        yield "working"
        yield f"{size} at {place}"

    one = made(render)
    one.output.observe(lambda change: seen.append(change["new"]), "value")
    one.controls["size"].value = 7
    assert seen == ["working", "7 at 1"]


def test_a_fault_that_the_user_can_mend_is_its_message_in_place() -> None:
    def render(**_: Any) -> Iterator[str]:
        raise StudyError(f"size = 3: {HOSTILE}")
        yield

    one = made(render)
    one.update()
    assert 'role="alert"' in one.output.value and "size = 3: &lt;script&gt;" in one.output.value
    assert "Traceback" not in one.output.value and HOSTILE not in one.output.value


def test_any_other_error_is_in_place_too_with_its_traceback() -> None:
    def render(**_: Any) -> Iterator[str]:
        yield "working"
        raise ValueError(HOSTILE)

    one = made(render)
    one.controls["size"].value = 7
    assert "ValueError: &lt;script&gt;" in one.output.value and "Traceback" in one.output.value
    assert HOSTILE not in one.output.value


def test_a_changed_search_starts_again_at_its_first_find() -> None:
    calls: list[tuple[int, int]] = []

    def render(size: int, place: int) -> Iterator[str]:
        calls.append((size, place))
        yield ""

    one = made(render)
    one.controls["place"].value = 4
    one.controls["size"].value = 7
    assert calls == [(0, 4), (7, 1)]


def test_a_panel_with_a_button_waits_for_it() -> None:
    calls: list[int] = []
    one = panel.Panel(lambda size: calls.append(size) or ["done"], button="Go", size=ipywidgets.IntSlider())
    with capture_output():
        one.show()
    one.controls["size"].value = 7
    assert calls == []
    one.box.children[0].children[-1].click()
    assert calls == [7] and one.output.value == "done"


def test_a_choice_that_cannot_be_made_says_why_and_leaves_the_choice() -> None:
    make_study(name="empty")
    make_runs(name="full")
    chooser = comparisons.run_browser("empty")
    with capture_output():
        chooser.show()
    choice, told = chooser.box.children
    assert "no run of the study &#x27;empty&#x27; can be compared yet" in told.value
    choice.value = "full"
    assert "<img alt=" in chooser.box.children[1].children[1].value


# --- What a training shows --------------------------------------------------------------------------------------------


class _State:
    """What the Trainer tells its callbacks."""

    max_steps = 100

    def __init__(self, log: pd.DataFrame, step: int = 100) -> None:
        self.log_history = [{k: v for k, v in row.items() if pd.notna(v)} for row in log.to_dict("records")]
        self.global_step = step


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that stands still, and what is displayed: `first` lists the displays, `updates` what replaced them."""
    screen = SimpleNamespace(clock=100.0, first=[], updates=[])
    handle = SimpleNamespace(update=lambda content: screen.updates.append(content))
    monkeypatch.setattr(live_chart, "monotonic", lambda: screen.clock)
    monkeypatch.setattr(live_chart, "display", lambda content, display_id: screen.first.append(content) or handle)
    return screen


def text(content: Any) -> str:
    return " ".join(re.sub("<[^>]*>", " ", content.data).split())


def test_the_live_chart_is_updated_in_place_at_most_once_a_second(screen: Any) -> None:
    chart = live_chart.LiveChart("lora")
    chart.on_train_begin(None, _State(LOG.head(0), 0), None)
    for second in (1.5, 1.8, 2.2, 2.8, 3.9):
        screen.clock = 100 + second
        chart.on_log(None, _State(LOG.head(2), 50), None)
    line, figure = screen.first
    assert "Step 0 of 100." in text(line) and len(figure.axes) == 2
    assert len(screen.first) == 2 and len([one for one in screen.updates if hasattr(one, "axes")]) == 2
    chart.on_train_end(None, _State(LOG), None)
    assert len(screen.first) == 2 and hasattr(screen.updates[-1], "axes") and "Done in 4 s" in text(screen.updates[-2])


def test_the_chart_says_how_long_it_will_take_and_lists_the_evaluations(screen: Any) -> None:
    chart = live_chart.LiveChart("lora")
    chart.on_train_begin(None, _State(LOG.head(0), 0), None)
    screen.clock = 110.0
    chart.on_log(None, _State(LOG, 25), None)
    told = text(screen.updates[0])
    assert "Step 25 of 100. 10 s so far, about 30 s left." in told
    assert "100 0.300 90.0% lowest loss" in told


def test_the_chart_says_that_it_was_interrupted(screen: Any) -> None:
    chart = live_chart.LiveChart("lora")
    chart.on_train_end(None, _State(LOG, 40), None)
    assert "Step 40 of 100. Interrupted" in text(screen.first[0])


def test_the_chart_draws_before_anything_is_logged(screen: Any) -> None:
    live_chart.LiveChart("full").on_train_end(None, _State(LOG.head(0)), None)
    assert len(screen.first) == 2


def test_a_slow_step_says_how_far_it_is_and_at_last_how_long_it_took(screen: Any) -> None:
    line = live_chart.Line()
    line("Reading", 0, 1000)
    screen.clock += 0.1
    line("Reading", 10, 1000)
    screen.clock += 1.9
    line("Reading", 900, 1000)
    line("Reading", 1000, 1000)
    assert text(screen.first[0]) == "Reading: 0 of 1,000"
    assert [text(content) for content in screen.updates] == ["Reading: 900 of 1,000", "Reading: 1,000 of 1,000, in 2 s"]


# --- What is shown of reviews -----------------------------------------------------------------------------------------


@pytest.fixture
def corpus(variant: Callable[..., Variant]) -> data.Corpus:
    return data.load_corpus(variant())


def test_reviews_are_found_by_all_that_can_be_asked(corpus: data.Corpus, variant: Callable[..., Variant]) -> None:
    table = browsing.all_reviews(corpus, variant(max_length=12))
    assert table["part"].value_counts().to_dict() == {"pool": 200, "test": 60, "ood": 40}
    assert set(browsing.search(table, label=1)["label"]) == {1}
    assert browsing.search(table, tokens=(10, 20))["tokens"].between(10, 20).all()
    words = browsing.search(table, words="SUPERB film")
    assert 0 < len(words) < len(table) and words["text"].str.contains("superb").all()
    assert browsing.search(table, words="(.*)").empty
    assert (table["cut"] == (table["tokens"] > 12)).all() and 0 < table["cut"].sum() < len(table)
    assert browsing.search(table, copied=True).empty and len(browsing.search(table, copied=False)) == len(table)
    assert browsing.search(table).equals(table)


def test_ratings_and_copies_can_be_asked_for(tmp_path: Path, variant: Callable[..., Variant]) -> None:
    from made_folders import reviews as some_reviews
    from made_folders import save_reviews

    train, test = some_reviews(60), some_reviews(20, seed=1)
    test.loc[3, "text"] = train.loc[5, "text"]
    train.loc[7, "text"] += " 8/10"
    test.loc[4, "text"] = test.loc[2, "text"]
    wanted = variant(dataset=str(save_reviews(tmp_path / "some", train=train, test=test)), train_size=40)
    table = browsing.all_reviews(data.load_corpus(wanted), wanted)
    assert list(browsing.search(table, rated=True)["rating"]) == [8]
    copied = browsing.search(table, copied=True)
    assert sorted(copied["text"]) == sorted([train.loc[5, "text"], test.loc[2, "text"], test.loc[2, "text"]])


def test_what_the_window_leaves_out_is_struck_through_and_the_rest_is_not(
    corpus: data.Corpus, variant: Callable[..., Variant]
) -> None:
    tokenizer = tokenization.load_tokenizer(variant())
    words = "good bad dull fine film plot some long"
    for truncation, struck in {"head": "dull fine film plot some long", "tail": "good bad dull fine film plot"}.items():
        read = tokenization.window(words, tokenizer, 4, truncation)
        shown = markup.windowed(words, read)
        assert " ".join(re.findall("line-through[^>]*>([^<]*)<", shown)).strip() == struck
        assert re.sub("<[^>]*>", "", shown) == words
    assert markup.windowed(words, tokenization.window(words, tokenizer, 32, "head")) == words


def test_words_are_coloured_by_their_side_and_strength() -> None:
    read = tokenization.Window([1, 2, 3], [(0, 4), (5, 8), (9, 13)], [0, 1, 2], 3)
    shown = markup.coloured("good bad film", [(0, 4, 2.0), (5, 8, -1.0), (9, 13, 0.0)], read, markup.sides(LABELS, 1))
    colours = dict(re.findall(r"rgba\(([\d,]+,[\d.]+)\)\" title=\"[^\"]*\">(\w+)", shown))
    assert list(colours.values()) == ["good", "bad", "film"]
    assert [colour.split(",")[0] for colour in colours] == ["0", "213", "213"]
    assert [colour.split(",")[3] for colour in colours] == ["0.65", "0.33", "0.00"]
    assert re.sub("<[^>]*>", "", shown) == "good bad film"


@pytest.mark.parametrize("text", ["", " ", HOSTILE, "a &amp; b\n<br>"])
def test_any_text_is_shown_as_text(text: str, variant: Callable[..., Variant]) -> None:
    from html import unescape

    tokenizer = tokenization.load_tokenizer(variant())
    for size in (8, 200):
        read = tokenization.window(text, tokenizer, size, "head+tail")
        spans = [(*span, 1.0) for span in read.spans if span]
        for shown in (markup.windowed(text, read), markup.coloured(text, spans, read, markup.sides([text, "b"], 1))):
            assert unescape(re.sub("<[^>]*>", "", shown)) == text
    others = [markup.line(text), markup.table(pd.DataFrame({text: [text]})), markup.review([text], 0, "")]
    others += [markup.legend(markup.sides([text] * count, 1)) for count in (2, 3)]
    assert "<script" not in "".join(others)


def test_the_browser_of_reviews_shows_word_pieces_and_where_text_is_left_out(
    corpus: data.Corpus, variant: Callable[..., Variant]
) -> None:
    browser = reviews.browser(corpus, variant(max_length=8, truncation="head+tail"))
    browser.controls["view"].value = "word pieces"
    shown = browser.output.value
    assert shown.count("[CLS]") == shown.count("[SEP]") == 1 and shown.count("…") == 1


# --- What is shown of runs --------------------------------------------------------------------------------------------


def test_the_figure_and_the_table_follow_what_is_picked() -> None:
    runs = make_runs({"lora": 0.8})
    browser = comparisons._browser(runs)
    browser.update()
    everything = browser.output.value
    assert "Test accuracy of 4 runs" in everything and everything.count(" [") == 4
    browser.controls["strategies"].value = ("lora",)
    assert "80.0 [" in browser.output.value and "90.0 [" not in browser.output.value
    browser.controls["sizes"].value = (250,)
    assert "of 1 run of" in browser.output.value
    browser.controls["metric"].value = "accuracy on other reviews"
    assert "70.0 [" in browser.output.value
    browser.controls["strategies"].value = ()
    assert "No finished run has all that is picked" in browser.output.value


def test_the_table_of_a_pair_adds_up_and_its_reviews_are_those_that_part_the_runs() -> None:
    runs = make_runs({"lora": 0.8})
    texts = {i: f"{HOSTILE} {i}" for i in range(400)}
    pair = comparisons.two_runs(runs, texts)
    pair.controls["other"].value = "lora-n00250-s1"
    one, other = pair.controls["one"].value, pair.controls["other"].value
    counts = comparisons.crosstab(runs, one, other).astype(int)
    right = {run: int((runs.preds[run] == runs.labels).sum()) for run in (one, other)}
    assert counts.to_numpy().sum() == 400
    assert (counts.iloc[0].sum(), counts.iloc[:, 0].sum()) == (right[one], right[other])
    assert f"review 1 of {counts.iloc[0, 1]} that only {one} got right" in pair.output.value
    pair.controls["right"].value = "the second"
    assert f"review 1 of {counts.iloc[1, 0]} that only {other} got right" in pair.output.value
    assert "<script" not in pair.output.value and "&lt;script&gt;" in pair.output.value
    pair.controls["other"].value = one
    assert "the same run" in pair.output.value


def test_a_pair_is_compared_without_its_reviews_and_a_single_run_with_itself() -> None:
    runs = make_runs()
    pair = comparisons.two_runs(runs, {})
    pair.update()
    assert "McNemar" in pair.output.value and "not on this machine" in pair.output.value
    alone = comparisons.two_runs(make_runs(matrix={"strategy": ["full"], "seed": [1]}), {})
    alone.update()
    assert "the same run" in alone.output.value


def test_any_cost_can_be_set_against_any_quality() -> None:
    runs = make_runs({"lora": 0.8})
    chart = comparisons.trade_off(runs, ledger_tables.costs(runs))
    chart.update()
    for control, values in {
        "cost": ledger_tables.DRAWN,
        "metric": comparisons.QUALITIES,
        "size": (250, panel.ANY),
    }.items():
        for value in values:
            before, chart.controls[control].value = chart.output.value, value
            words = ledger_tables.COSTS[chart.controls["cost"].value].words
            assert f"{chart.controls['metric'].value} against {words}"[1:] in chart.output.value
        assert chart.output.value != before


def test_what_no_run_was_measured_on_is_no_choice() -> None:
    assert comparisons.qualities(make_runs(ood=None)) == ["test accuracy", "macro F1"]


# --- An interrupted run -----------------------------------------------------------------------------------------------


def interrupt(folder: Path) -> None:
    """Mark the record in `folder` as that of an interrupted training."""
    import json

    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["training"] |= {"interrupted": True}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_an_interrupted_run_counts_for_nothing_until_it_is_made_again() -> None:
    study = make_study()
    run_id, variant = next(iter(study.variants.items()))
    folder = make_run(study, run_id)
    (folder / "model").mkdir()
    write_arrays(folder / "preds_and_labels.npz", results.read_arrays(folder / "preds_and_labels.npz")["preds"])
    assert folders.is_done(folder, variant) and list(folders.saved_models()) == [f"made/{run_id}"]
    interrupt(folder)
    for trace in ("train.ipynb", None):
        assert not folders.is_done(folder, variant) and not folders.is_foreign(folder)
        assert folders.saved_models() == {} and run_id in status.left(study)
        assert results.load_runs("made").missing[run_id] == "its training was interrupted; run the study again"
        assert f"{run_id}: stopped: its training was interrupted" in status.status("made")
        if trace:
            (folder / trace).unlink()
