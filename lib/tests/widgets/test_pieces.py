"""The interactive pieces without a browser: what they find, show and compare, and untrusted text as text."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from made_folders import reviews as some_reviews
from made_folders import save_reviews
from made_runs import make_run, make_runs, make_study
from made_screen import Screen

from peft_study import widgets
from peft_study.analysis.costs import COSTS, costs
from peft_study.analysis.windows import Window, window
from peft_study.data.labels import LABELS
from peft_study.data.reviews import load_corpus, load_reviews
from peft_study.data.tokenization import load_tokenizer, tokenize
from peft_study.study.variant import Variant
from peft_study.training.model import build
from peft_study.training.prediction import Predictions, predict
from peft_study.widgets import comparisons, markup
from peft_study.widgets.predictions import saved_models
from peft_study.widgets.reviews import all_reviews, matching

HOSTILE = '<script>alert("hi")</script><img src=x onerror=alert(1)>'
Make = Callable[..., Variant]

# --- Reviews ----------------------------------------------------------------------------------------------------------


def test_reviews_are_found_by_class_words_rating_and_copies(tmp_path: Path, variant: Make) -> None:
    train, test = some_reviews(60), some_reviews(20, seed=1)
    test.loc[3, "text"] = train.loc[5, "text"]
    train.loc[7, "text"] += " 8/10"
    test.loc[4, "text"] = test.loc[2, "text"]
    asked = variant(dataset=str(save_reviews(tmp_path / "some", train=train, test=test)), train_size=40)
    table = all_reviews(load_corpus(asked), load_tokenizer(asked), 12)
    assert table["part"].value_counts().to_dict() == {"pool": 59, "test": 20, "ood": 40}
    assert (table["cut"] == (table["tokens"] > 12)).all() and 0 < table["cut"].sum() < len(table)
    assert matching(table).equals(table) and set(matching(table, label=[1])["label"]) == {1}
    words = matching(table, "SUPERB film")
    assert 0 < len(words) < len(table) and words["text"].str.contains("superb").all()
    assert matching(table, "(.*)").empty and list(matching(table, rated=(True,))["rating"]) == [8]
    copied = [train.loc[5, "text"], test.loc[2, "text"], test.loc[2, "text"]]
    assert sorted(matching(table, repeated=(True,))["text"]) == sorted(copied)


def test_word_pieces_show_where_text_is_left_out(variant: Make, screen: Screen) -> None:
    asked = variant(max_length=8, truncation="head+tail")
    widgets.browse_reviews(load_corpus(asked), asked)
    assert "review 1 of 200" in screen.text and "The window keeps 8 of" in screen.text
    screen.panel["shown as"].value = "word pieces"
    assert screen.text.count("[CLS]") == screen.text.count("[SEP]") == screen.text.count("…") == 1


def test_what_the_window_leaves_out_is_struck_through_and_the_rest_is_not(variant: Make) -> None:
    tokenizer = load_tokenizer(variant())
    words = "good bad dull fine film plot some long"
    for truncation, struck in {"head": "dull fine film plot some long", "tail": "good bad dull fine film plot"}.items():
        shown = markup.windowed(words, window(words, tokenizer, 4, truncation))
        assert " ".join(re.findall("line-through[^>]*>([^<]*)<", shown)).strip() == struck
        assert re.sub("<[^>]*>", "", shown) == words
    assert markup.windowed(words, window(words, tokenizer, 32, "head")) == words


def test_words_are_coloured_by_their_side_and_strength() -> None:
    read = Window([1, 2, 3], [(0, 4), (5, 8), (9, 13)], [0, 1, 2], 3)
    words, sides = [(0, 4, 2.0), (5, 8, -1.0), (9, 13, 0.0)], markup.sides(LABELS, 1)
    shown = markup.coloured("good bad film", words, read, sides)
    colours = dict(re.findall(r"rgba\(([\d,]+,[\d.]+)\)\" title=\"[^\"]*\">(\w+)", shown))
    assert list(colours.values()) == ["good", "bad", "film"]
    assert [colour.split(",")[0] for colour in colours] == ["0", "213", "213"]
    assert [colour.split(",")[3] for colour in colours] == ["0.65", "0.33", "0.00"]
    table = markup.strongest("good bad film", words, sides, count=2)
    assert table.to_numpy().tolist() == [["good", "positive", "+2.00"], ["bad", "negative", "−1.00"]]


@pytest.mark.parametrize("text", ["", " ", HOSTILE, "a &amp; b\n<br>"])
def test_any_text_is_shown_as_text(text: str, variant: Make) -> None:
    tokenizer = load_tokenizer(variant())
    for size in (8, 200):
        read = window(text, tokenizer, size, "head+tail")
        spans = [(*span, 1.0) for span in read.spans if span]
        for shown in (markup.windowed(text, read), markup.coloured(text, spans, read, markup.sides([text, "b"], 1))):
            assert unescape(re.sub("<[^>]*>", "", shown)) == text
    others = [markup.line(text), markup.review([text], 0, "")]
    others += [markup.legend(markup.sides([text] * count, 1)) for count in (2, 3)]
    tables = [markup.strongest(text, [(0, len(text), 1.0)], markup.sides([text, text], 1)).to_html()]
    assert "<script" not in "".join([*(html.data for html in others), *tables])


# --- A model ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def of_three_classes(tmp_path: Path, variant: Make) -> Variant:
    """A variant of texts of three classes, one of whose names is markup."""
    names = ["a <b>", "b", "c"]
    train, test = (some_reviews(count, seed).assign(label=names * (count // 3)) for count, seed in ((90, 0), (30, 1)))
    return variant(
        dataset=str(save_reviews(tmp_path / "three", train=train, test=test)), ood_dataset=None, train_size=60
    )


@pytest.mark.parametrize("three", [False, True])
def test_mistakes_and_texts_of_ones_own_name_the_classes(
    three: bool, of_three_classes: Variant, variant: Make, screen: Screen
) -> None:
    asked = of_three_classes if three else variant()
    reviews, tokenizer = load_reviews(asked), load_tokenizer(asked)
    model, names = build(asked.model, asked, reviews.labels), reviews.labels
    examples = tokenize(reviews, tokenizer, asked)["test"]
    test = predict(model, examples, reviews.test["id"].tolist(), tokenizer.pad_token_id)
    widgets.browse_mistakes(model, tokenizer, asked, reviews, test)
    wrong = test.preds != test.labels
    surest = int(np.where(wrong, test.confidence, 0).argmax())
    text = unescape(screen.text)
    assert text.startswith(f"{names[test.labels[surest]]} · mistake 1 of {wrong.sum()} ·")
    assert f"predicted {names[test.preds[surest]]} with {test.confidence[surest]:.1%}" in text
    panel = screen.panel
    assert [name for name, _ in panel["true class"].options] == ["any", *names]
    assert panel["at least sure (%)"].min == 100 // len(names)
    for label, name in enumerate(names):
        panel["true class"].value = (label,)
        count = (wrong & (test.labels == label)).sum()
        assert unescape(screen.text).startswith(f"{name} · mistake 1 of {count} ·" if count else "nothing fits")
    widgets.try_review(model, tokenizer, asked, names)
    screen.panel["Classify"].click()
    assert re.search(r"\d% sure · this run, just trained", screen.text) and "speaks for" in screen.text
    assert ("any other class" in screen.text) == three and "<b>a <b>" not in screen.html


def test_where_the_model_makes_no_mistake_there_is_none_to_show(variant: Make, screen: Screen) -> None:
    reviews, tokenizer = load_reviews(asked := variant()), load_tokenizer(variant())
    labels = reviews.test["label"].to_numpy()
    right = Predictions(reviews.test["id"].to_numpy(), labels, np.eye(2, dtype=np.float32)[labels], 1.0)
    widgets.browse_mistakes(None, tokenizer, asked, reviews, right)
    assert screen.text == "nothing fits all of this; loosen a condition"


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_the_figure_and_the_table_follow_the_runs_that_are_picked(screen: Screen) -> None:
    make_study(name="empty")
    make_runs({"lora": 0.8}, name="full")
    widgets.browse_runs("empty")
    assert "no run of the study &#x27;empty&#x27; can be compared yet" in screen.text
    screen.panel["study"].value = "full"
    assert "Test accuracy of 4 runs" in screen.text and "<Figure" in screen.html
    panel = screen.panel
    panel["strategies"].value = ("lora",)
    assert "80.0 [" in screen.text and "90.0 [" not in screen.text
    panel["sizes"].value = (250,)
    assert "of 1 run of" in screen.text
    panel["metric"].value = "accuracy on other reviews"
    assert "Accuracy on other reviews of 1 run" in screen.text and "70.0 [" in screen.text
    panel["seeds"].value = ()
    assert "no finished run has all that is picked" in screen.text


def test_the_table_of_a_pair_adds_up_and_its_reviews_are_those_that_part_the_runs(screen: Screen) -> None:
    runs = make_runs({"lora": 0.8})
    widgets.compare_two(runs, {i: f"{HOSTILE} {i}" for i in range(400)})
    panel = screen.panel
    first, second = panel["first run"].value, panel["second run"].value
    counts = comparisons.crosstab(runs, first, second)
    right = {run: int((runs.preds[run] == runs.labels).sum()) for run in (first, second)}
    assert counts.to_numpy().sum() == 400
    assert (counts.loc["right"].sum(), counts["right"].sum()) == (right[first], right[second])
    assert f"review 1 of {counts.loc['right', 'wrong']} that only {first} got right" in screen.text
    assert "McNemar" in screen.text and "<script" not in screen.html and "&lt;script&gt;" in screen.html
    panel["only right is"].value = "the second"
    assert f"review 1 of {counts.loc['wrong', 'right']} that only {second} got right" in screen.text
    panel["second run"].value = first
    assert "is picked twice" in screen.text


def test_a_pair_is_compared_without_its_reviews_and_a_single_run_with_itself(screen: Screen) -> None:
    widgets.compare_two(make_runs(), {})
    assert "McNemar" in screen.text and "not on this machine" in screen.text
    widgets.compare_two(make_runs(matrix={"strategy": ["full"], "seed": [1]}), {})
    assert "is picked twice" in screen.text


def test_any_cost_can_be_set_against_any_quality_that_was_measured(screen: Screen) -> None:
    runs = make_runs({"lora": 0.8}, ood=None)
    widgets.pick_trade_off(runs, costs(runs))
    panel = screen.panel
    assert panel["quality"].options == ("test accuracy", "macro F1")
    for control in (panel["cost"], panel["quality"], panel["size"]):
        for index in range(len(control.options)):
            control.index = index
            assert f"{panel['quality'].value} against {COSTS[panel['cost'].value].words}"[1:] in screen.text
            assert "<Figure" in screen.html


def test_the_model_of_an_interrupted_run_cannot_be_asked() -> None:
    study = make_study()
    folder = make_run(study, next(iter(study.variants)))
    (folder / "model").mkdir()
    assert list(saved_models().values()) == [folder]
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"training": {"interrupted": True}}))
    assert saved_models() == {}
