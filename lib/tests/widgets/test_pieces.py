"""The interactive pieces without a browser: none where nobody watches; every control's effect; any text as text."""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import HTML
from IPython.utils.capture import capture_output
from ipywidgets.widgets.widget import _instances
from made_folders import reviews as some_reviews
from made_folders import save_reviews
from made_runs import make_preds, make_runs, make_scratch, make_study, write_arrays
from made_screen import Screen

from peft_study import paths, widgets
from peft_study.analysis.costs import COSTS, costs
from peft_study.analysis.windows import Window, window
from peft_study.data.labels import LABELS
from peft_study.data.reviews import load_corpus, load_reviews
from peft_study.data.tokenization import load_tokenizer, tokenize
from peft_study.errors import StudyError
from peft_study.records.classifier import Classifier
from peft_study.records.read import load_runs
from peft_study.report import display
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training.model import build
from peft_study.training.prediction import predict
from peft_study.widgets import controls, markup, variants
from peft_study.widgets.predictions import explained

HOSTILE = '<script>alert("hi")</script><img src=x onerror=alert(1)>'
Make = Callable[..., Variant]


def test_where_nobody_watches_nothing_is_shown_and_no_widget_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    before = len(_instances)
    nothing: Any = None
    with capture_output() as captured:
        widgets.browse_reviews(nothing, nothing)
        widgets.try_review(nothing, nothing, nothing, nothing)
        widgets.browse_mistakes(nothing, nothing, nothing, nothing, nothing)
        widgets.browse_runs(nothing)
        widgets.compare_two(nothing, {})
        widgets.pick_trade_off(nothing, nothing)
        widgets.next_steps(nothing)
        widgets.progress()("Working", 1, 2)
    assert captured.outputs == [] and captured.stdout == "" and len(_instances) == before


def render(size: int) -> Iterator[Any]:
    """Says that it works, divides by `size`, and refuses more than 9."""
    yield HTML("working")
    if size > 9:
        raise StudyError(f"size = {size}: {HOSTILE}")
    yield HTML(f"a quarter: {1 / size}"), HTML("and more")


def sized(value: int = 4) -> ipywidgets.IntSlider:
    return ipywidgets.IntSlider(description="size", value=value)


def test_a_panel_shows_results_faults_and_tracebacks_in_place_of_one_another(screen: Screen) -> None:
    seen: list[str] = []
    controls.show(lambda size: (seen.append(screen.text) or content for content in render(size)), size=sized())
    assert seen == ["", "working"]
    assert screen.text == "a quarter: 0.25 and more"
    screen.panel["size"].value = 10
    assert screen.html.startswith('<div role="alert"') and screen.text.startswith("size = 10: &lt;script&gt;")
    assert "Traceback" not in screen.text and HOSTILE not in screen.html
    screen.panel["size"].value = 0
    assert screen.text.startswith("Traceback") and screen.text.endswith("ZeroDivisionError: division by zero")
    screen.panel["size"].value = 4
    assert screen.text == "a quarter: 0.25 and more"


# --- Reviews ----------------------------------------------------------------------------------------------------------


def test_a_click_that_overtakes_a_change_gives_the_result_of_the_changed_value(screen: Screen) -> None:
    started, changed = Event(), Event()

    def slow(size: int) -> Iterator[Any]:
        started.set()
        assert changed.wait(10)
        yield HTML(f"of {size}")

    controls.show(slow, button="go", size=sized())
    clicked = Thread(target=screen.panel["go"].click)
    clicked.start()
    assert started.wait(10)
    size = screen.panel["size"]
    change = Thread(target=lambda: setattr(size, "value", 5))
    change.start()
    sleep(0.5)  # it has been noticed
    changed.set()
    clicked.join(10)
    change.join(10)
    assert screen.text == "of 5"
    size.value = 6
    assert screen.text == ""


def test_every_control_of_the_reviews_has_its_effect(tmp_path: Path, variant: Make, screen: Screen) -> None:
    train, test = some_reviews(60), some_reviews(20, seed=1)
    test.loc[3, "text"] = train.loc[5, "text"]
    train.loc[7, "text"] += " 8/10"
    test.loc[4, "text"] = test.loc[2, "text"]
    asked = variant(dataset=str(save_reviews(tmp_path / "some", train=train, test=test)), train_size=40)
    widgets.browse_reviews(load_corpus(asked), asked)
    screen.follow(
        ("class", "negative", "^negative · text 1 of 30 "),
        ("class", "any", "text 1 of 59 "),
        ("states a rating", "yes", "text 1 of 1 .*states 8/10"),
        ("states a rating", "no", "text 1 of 58 "),
        ("states a rating", "either", "text 1 of 59 "),
        ("tokens", (0, 20), r"text 1 of (?!59)\d+ · (1\d|20) tokens"),
        ("tokens", (0, 1000), "text 1 of 59 "),
        ("with the words", "(.*)", "no text meets all conditions"),
        ("with the words", "SUPERB film", r"text 1 of (?!59).*superb"),
    )
    matches = int(re.findall("text 1 of (.*?) ", screen.text)[0])
    assert "<mark>superb</mark>" in screen.html and screen.panel["text"].max == matches > 2
    for button, place in (("next", 2), ("next", 3), ("previous", 2), ("previous", 1), ("previous", 1)):
        screen.panel[button].click()
        assert f"text {place} of {matches} " in screen.text
    for _ in range(20):
        screen.panel["random"].click()
    assert screen.panel["text"].value <= matches
    screen.panel["save all"].click()
    table = pd.read_csv(BytesIO(b64decode(re.findall('base64,([^"]*)', screen.html)[-1])))
    assert len(table) == matches and table["text"].str.contains("superb").all() and set(table["class"]) <= set(LABELS)
    screen.follow(
        ("with the words", "", "text 1 of 59 "),
        ("text", 2, "text 2 of 59 "),
        ("text", 100, "text 59 of 59 "),
        ("from", "out-of-domain test set", "text 1 of 40 "),
        ("from", "test set", "text 1 of 20 "),
        ("occurs more than once", "yes", "text 1 of 3 "),
        ("window", 8, "The window keeps 8 of"),
    )
    for place, truncation in ((-1, "head"), (0, "tail")):
        screen.follow(("truncation", truncation, "The window keeps 8 of"))
        (struck,) = re.findall("line-through[^>]*>([^<]*)<", screen.html)
        words = re.sub("<[^>]*>", "", re.findall(r"</b>\n(.*)</div>", screen.html)[0]).split()
        assert len(struck.split()) == len(words) - 6 and struck.split()[place] == words[place]
    screen.follow(("shown as", "word pieces", r"\[CLS\] .* \[SEP\]"))


def test_colours_have_one_scale_and_unknown_and_sought_words_are_marked() -> None:
    read = Window({"input_ids": np.array([1, 0, 3, 2])}, [(0, 4), (5, 8), (9, 13), None], [0, 1, 2, None], 4, [(5, 8)])
    words, sides = [(0, 4, 2.0), (5, 8, -1.0), (9, 13, 0.0)], markup.sides(LABELS, 1)
    shown = markup.coloured("good b<d film", words, read, sides, "FIL <D")
    assert re.findall(r"background:(#\w+)\" title=\"([^\"]*)\">(.*?)</span>", shown) == [
        ("#0072b2a6", "+2.00 nats", "good"),
        ("#d55e0053", "-1.00 nats", f"<span {markup.UNKNOWN}>b<mark>&lt;d</mark>"),
        ("#d55e0000", "+0.00 nats", "<mark>fil</mark>m"),
    ]
    assert "<mark>&lt;</mark>" in markup.marked("a < b", search="< &") and markup.marked("lt &", search="l x") != "lt &"
    assert [markup.tint(effect, sides)[-2:] for effect in (-9, -2, -1, 0.5)] == ["a6", "a6", "53", "29"]
    assert markup.sides(["a", "b", "c"], 2)[0].name == "any other class"


@pytest.mark.parametrize("text", ["", " ", HOSTILE, "a &amp; b\n<br>"])
def test_any_text_is_shown_as_text(text: str, variant: Make) -> None:
    sides = markup.sides([text, text], 1)
    for size in (8, 200):
        read = window(text, load_tokenizer(variant()), size, "head+tail")
        spans = [(*span, 1.0) for span in read.spans if span]
        for shown in (markup.windowed(text, read), markup.coloured(text, spans, read, sides)):
            assert unescape(re.sub("<[^>]*>", "", shown)) == text
    shown = markup.line(text).data + display.card([text], "", 0).data + markup.marked(text, search=text)
    assert "<script" not in shown and unescape(re.sub("<[^>]*>", "", markup.marked(text, search=text))) == text


# --- A model ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [LABELS, ("a <b>", "b", "c")])
def test_mistakes_and_texts_of_ones_own_name_the_classes(
    names: tuple[str, ...], tmp_path: Path, variant: Make, screen: Screen
) -> None:
    count = len(names)
    train, test = (some_reviews(n, seed).assign(label=list(names) * (n // count)) for n, seed in ((90, 0), (30, 1)))
    folder = save_reviews(tmp_path / "named", train=train, test=test)
    asked = variant(dataset=str(folder), ood_dataset=None, train_size=60, max_length=8)
    reviews, tokenizer = load_reviews(asked), load_tokenizer(asked)
    model = build(asked.model, asked, reviews.labels)
    examples = tokenize(reviews, tokenizer, asked)["test"]
    predicted = predict(model, examples, reviews.test["id"].tolist(), tokenizer.pad_token_id)
    widgets.browse_mistakes(model, tokenizer, asked, reviews, predicted)
    wrong = predicted.preds != predicted.labels
    surest = int(np.where(wrong, predicted.confidence, 0).argmax())
    text = unescape(screen.text)
    assert text.startswith(f"{names[predicted.labels[surest]]} · mistake 1 of {wrong.sum()} ·")
    assert f"predicted {names[predicted.preds[surest]]} with {predicted.confidence[surest]:.1%}" in text
    of_class = [(wrong & (predicted.labels == label)).sum() for label in range(count)]
    patterns = [
        f"^{name} · mistake 1 of {n} ·" if n else "no text meets" for name, n in zip(names, of_class, strict=True)
    ]
    screen.follow(
        *(("true class", name, pattern) for name, pattern in zip(names, patterns, strict=True)),
        ("true class", "any", f"mistake 1 of {wrong.sum()} "),
        ("mistake", 2, f"mistake 2 of {wrong.sum()} "),
        ("cut to the window", "yes", f"mistake 1 of {wrong.sum()} "),
        ("cut to the window", "no", "no text meets"),
        ("cut to the window", "either", f"mistake 1 of {wrong.sum()} "),
        ("states a rating", "yes", "no text meets"),
        ("states a rating", "no", f"mistake 1 of {wrong.sum()} "),
        ("with the words", "no such words", "no text meets"),
    )
    right = replace(predicted, logits=np.eye(count, dtype=np.float32)[predicted.labels])
    widgets.browse_mistakes(model, tokenizer, asked, reviews, right)
    assert "no text meets" in screen.text
    widgets.try_review(model, tokenizer, asked, names)
    assert screen.text == ""
    screen.panel["text"].value, example = " ", screen.panel["text"].value
    screen.panel["Classify (Ctrl+Enter)"].click()
    assert "there is no text to classify" in screen.text
    screen.panel["text"].value = example
    assert screen.text == ""  # a changed text has no verdict yet
    screen.panel["Classify (Ctrl+Enter)"].click()
    assert re.search(r"^this run, just trained · predicted .* with \d+\.\d%", screen.text)
    assert "Log-odds of" in screen.text and "<b>a <b>" not in screen.html


def test_the_figure_on_a_word_is_what_a_forward_pass_without_the_word_changes(variant: Make) -> None:
    asked = variant(strategy="lora", max_length=24, truncation="head+tail")
    reviews, tokenizer = load_reviews(asked), load_tokenizer(asked)
    classifier = Classifier(build(asked.model, asked, LABELS), tokenizer, asked, LABELS)
    for name, parameter in classifier.model.named_parameters():
        parameter.data *= 5 if "classifier" in name else 1  # untrained, no word has an effect that two digits show
    largest = 0.0
    for text in reviews.test["text"].head(50):
        shown = "".join(content.data for content in explained(classifier, text, None, [])[:2])
        read, mask = window(text, tokenizer, 24, "head+tail"), tokenizer.mask_token_id
        copies = [read.input_ids]
        for number in sorted({word for word in read.words if word is not None}):
            copies.append([mask if word == number else i for i, word in zip(read.input_ids, read.words, strict=True)])
        with torch.no_grad():
            chances = classifier.model(torch.tensor(copies)).logits.double().softmax(1)
        odds = (chances[:, 1] / chances[:, 0]).log()
        assert f"Log-odds of positive: {odds[0]:+.2f} nats" in shown
        effects = [float(figure) for figure in re.findall('title="(.*?) nats"', shown)]
        assert effects == pytest.approx((odds[0] - odds[1:]).tolist(), abs=0.0051)
        largest = max(largest, *map(abs, effects))
    assert largest > 0.5


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_the_figure_and_the_table_follow_the_runs_that_are_picked(screen: Screen) -> None:
    make_study("empty")
    make_runs({"lora": 0.8})
    make_scratch("mine", 0.6, train_size=500)
    make_scratch("other", test_size=7)
    write_arrays(paths.run_folder("scratch", "other") / "preds_and_labels.npz", make_preds("other", 0.8, 7))
    widgets.browse_runs("made")
    study = next(widget for widget in _instances.values() if getattr(widget, "description", "") == "study")
    assert study.options == ("empty", "made") and "<Figure" in screen.html and "90.0 [" in screen.text
    screen.follow(
        ("strategies", ("lora",), r"Runs: 3 .*80\.0 \[.*70\.0 \["),
        ("sizes", (250,), "Runs: 1 "),
        ("seeds", (), "no finished run matches the selection"),
        ("seeds", (1,), "Runs: 1 "),
        ("sizes", (250, 500), r"Runs: 2 .*scratch/mine.*60\.0 \["),
        ("runs", ("scratch/mine",), "Runs: 1 "),
    )
    assert screen.panel["sizes"].options == (250, 500, 1000)
    outer = next(widget for widget in _instances.values() if isinstance(widget, ipywidgets.VBox))
    assert "Left out: scratch/other (tested on other texts: it differs in test_size)" in str(outer.children[1].outputs)
    study.value = "empty"
    (shown,) = outer.children[1].outputs
    assert 'role="alert"' in (text := shown["data"]["text/html"]) and "./run_all.sh empty trains" in text


def test_without_runs_a_notebook_stops_at_a_cell_that_says_what_to_do_and_no_more(screen: Screen) -> None:
    make_study("empty")
    shell = InteractiveShell.instance()
    shell.push({"runs": load_runs("empty"), "require_runs": widgets.require_runs})
    with capture_output() as captured:
        assert not shell.run_cell("require_runs(runs)").success, "no later cell runs"
    said = captured.stdout.strip()
    assert "./run_all.sh empty trains" in said and "\n" not in said


# --- A run of one's own -----------------------------------------------------------------------------------------------


def test_a_variant_is_picked_from_lists_until_the_parameters_change(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "get_connection_file", lambda: str(tmp_path / "kernel-1.json"))
    asked = Variant(train_size=700, batch_size=4)
    assert widgets.pick(asked) == asked and "These are the parameters" in screen.text
    assert screen.panel["labels"].value == 700 and screen.panel["seed"].options == (42, 43, 44)
    screen.follow(("strategy", "Full fine-tuning", "Run Selected Cell and All Below"))
    screen.follow(("labels", "500", "Run Selected Cell"))
    assert widgets.pick(asked) == asked.model_copy(update={"strategy": "full", "train_size": 500})
    assert "replaces the parameters" in screen.text and screen.panel["strategy"].value == "full"
    assert widgets.pick(changed := asked.model_copy(update={"seed": 7})) == changed, "the parameters were edited since"
    assert screen.panel["seed"].value == 7 and "These are the parameters" in screen.text
    resumed = Variant(strategy="lora", resume=True)
    widgets.pick(resumed)
    screen.follow(("strategy", STRATEGIES["adalora"].label, "checkpoints of 'adalora' lack"))
    assert widgets.pick(resumed) == resumed, "what does not fit is not taken"
    monkeypatch.delenv("JPY_SESSION_NAME")
    assert widgets.pick(asked) == asked, "nobody picks in the batch"


def test_the_last_words_name_the_folder_and_the_command_that_uses_the_model(screen: Screen) -> None:
    make_runs()
    run = make_scratch("mine")
    (run / "model").mkdir()
    for folder, words in {
        run: "`runs/scratch/mine`.*`./run_all.sh label scratch/mine texts.csv`",
        make_scratch("stopped", interrupted=True): "`runs/scratch/stopped`.*interrupted",
    }.items():
        with capture_output() as captured:
            widgets.next_steps(folder)
        assert re.search(words, captured.outputs[0].data["text/markdown"])


def test_a_pair_is_compared_and_the_reviews_shown_are_those_that_part_it(screen: Screen) -> None:
    runs = make_runs({"lora": 0.8})
    widgets.compare_two(runs, {i: f"{HOSTILE} {i}" for i in range(400)})
    first, second = (screen.panel[name].value for name in ("first run", "second run"))
    right = {run: runs.preds[run].to_numpy() == runs.labels for run in (first, second)}
    alone = int((right[first] & ~right[second]).sum())
    assert (
        f"{first} minus {second}" in screen.text and f"{alone} : {(right[second] & ~right[first]).sum()}" in screen.text
    )
    assert f"text 1 of {alone}, correct in {first} alone" in screen.text
    assert "<script" not in screen.html and "&lt;script&gt;" in screen.html
    other = next(run for run in runs.table.index if run not in right)
    screen.follow(
        ("text", 2, f"text 2 of {alone}, "),
        ("with the words", "no such words", f"No available text is correct in {first} and incorrect in {second}"),
        ("second run", other, f"{first} minus {other}"),
        ("first run", other, "is selected twice"),
    )
    widgets.compare_two(runs, {})
    screen.follow(("with the words", "any", f"{first} minus {second}.*No available text"))


def test_any_cost_can_be_set_against_any_quality_that_was_measured(screen: Screen) -> None:
    runs = make_runs({"lora": 0.8})
    widgets.pick_trade_off(runs, costs(runs))
    panel = screen.panel
    assert panel["quality"].options == ("test accuracy", "test macro F1", "out-of-domain accuracy")
    for control in (panel["cost"], panel["quality"]):
        for index in range(len(control.options)):
            control.index = index
            assert f"{panel['quality'].value} against {COSTS[panel['cost'].value].words}"[1:] in screen.text
            assert "<Figure" in screen.html
    widgets.pick_trade_off(runs := make_runs({"lora": 0.8}, ood=None), costs(runs))
    assert screen.panel["quality"].options == ("test accuracy", "test macro F1")
