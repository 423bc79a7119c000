"""A pair study in which word order between the two texts decides, with the bundled encoder: trained, recorded, used."""

import itertools
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_screen import Screen
from made_trainings import make_run
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from peft_study import widgets
from peft_study.__main__ import main
from peft_study.analysis.masking import explain
from peft_study.data.reviews import load_reviews
from peft_study.errors import StudyError
from peft_study.records.classifier import load_classifier
from peft_study.records.layout import read_variant
from peft_study.records.model_card import write_card
from peft_study.records.read import read_arrays
from peft_study.records.write import write_record
from peft_study.report import display
from peft_study.statistics.intervals import interval
from peft_study.statistics.scores import scored
from peft_study.study.variant import Variant
from peft_study.text import SEPARATOR

NOUNS = ("king", "queen", "doctor", "pilot")
VERBS = ("called", "helped", "paid", "found", "heard", "met", "saw", "thanked", "blamed", "hired", "asked", "told")
WHEN = ("today", "again", "twice", "at once", "later", "often", "outside", "at home", "in May", "upstairs")
ENDINGS = [*itertools.product(VERBS, WHEN)]
PAIR = ["premise", "hypothesis"]


def pairs(count: int) -> pd.DataFrame:
    """`count` premises, each once, of who did something to whom; the hypothesis holds of the one named first.

    All combinations of nouns and classes are equally common, and beside them words say nothing of the class.
    """
    rng, both = random.Random(0), [*itertools.permutations(NOUNS, 2)]
    endings = {nouns: rng.sample(ENDINGS, len(ENDINGS)) for nouns in both}
    rows = []
    for number in range(count):
        one, other = nouns = both[number // 2 % len(both)]
        verb, when = endings[nouns].pop()
        label, named = (("yes", one), ("no", other))[number % 2]
        rows.append((f"the {one} {verb} the {other} {when}", f"it was the {named}", label))
    return pd.DataFrame(rows, columns=[*PAIR, "holds"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, bundled: Path) -> Path:
    """A home with the record of a run with the bundled encoder, and its data."""
    home = tmp_path_factory.mktemp("pairs")
    table, folder = pairs(1360), home / "runs" / "pairs" / "lora"
    (home / "nli").mkdir()
    table.head(960).to_csv(home / "nli" / "train.csv", index=False)
    table.tail(400).to_csv(home / "nli" / "test.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_STUDY_HOME", str(home))
        patch.setenv("PEFT_STUDY_CACHE", str(bundled))
        variant = Variant(
            **{"dataset": "nli", "text_column": PAIR, "label_column": "holds", "test_size": None, "train_size": 960},
            **{"strategy": "lora-all", "learning_rate": 2e-3, "batch_size": 16, "max_length": 32, "precision": "fp32"},
            evaluations=0,
        )
        run = make_run(variant)
        training = run.train(folder)
        write_record(folder, variant, run.reviews, run.model, run.tokenizer, training, {"test": run.predict()}, {})
        write_card(folder)
    return home


@pytest.fixture
def folder(trained: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of that record, in the home and with the cache of the test."""
    monkeypatch.setenv("PEFT_STUDY_HOME", str(trained))
    monkeypatch.setenv("PEFT_STUDY_CACHE", str(bundled))
    monkeypatch.chdir(tmp_path)
    return trained / "runs" / "pairs" / "lora"


def test_an_encoder_learns_from_the_order_of_words_what_tfidf_cannot(folder: Path) -> None:
    record, reviews = read_arrays(folder / "preds_and_labels.npz"), load_reviews(read_variant(folder))
    assert (record["preds"] == record["labels"]).mean() >= 0.9
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10))
    model.fit(reviews.train["text"], reviews.train["label"])
    labels = reviews.test["label"].to_numpy()
    chance = interval(scored("accuracy", labels, model.predict(reviews.test["text"])))
    assert chance.low < 0.5 < chance.high


def test_pairs_of_ones_own_are_labelled_and_each_must_have_both_texts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier, record = load_classifier(folder), read_arrays(folder / "preds_and_labels.npz")
    table = pairs(1360).tail(400).head(60).reset_index(drop=True)
    table.rename(columns={"premise": "a", "hypothesis": "b"}).assign(
        b=table["hypothesis"].where(table.index > 0, " ")
    ).to_csv("own.csv", index=False)
    assert main(["label", "pairs/lora", "own.csv", "--text-column", "a", "--text-column", "b"]) == 0
    assert "59 of 60 texts labelled" in (said := capsys.readouterr().out) and "no text: data row 1\n" in said
    labelled = pd.read_csv("own.labelled.csv")["predicted_label"]
    assert pd.isna(labelled[0]) and (labelled[1:] == np.array(classifier.names)[record["preds"][1:60]]).all()
    for words, fault in (
        (["own.csv"], r"own.csv has no column 'premise' of texts; it has a, b, holds"),
        (
            ["own.csv", "--text-column", "a"],
            "--text-column: a; the run reads premise and hypothesis; give the option once",
        ),
    ):
        assert main(["label", "pairs/lora", *words, "--force"]) == 2
        assert re.match(f"error: .*{fault}", said := capsys.readouterr().err), said
    with pytest.raises(StudyError, match=r"the run classifies pairs of texts \(premise, hypothesis\)"):
        classifier.label(["one text"])
    order = [("the king paid the pilot", "it was the king"), ("the pilot paid the king", "it was the king")]
    assert classifier.label(order)["predicted_label"].tolist() == ["yes", "no"]


def test_the_code_of_the_model_card_classifies_pairs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "model" / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder / "model")
    space: dict[str, Any] = {}
    exec(code, space)
    table = pairs(1360).tail(400).head(50)
    chances = [list(space["classify"](*row).values()) for row in table[PAIR].itertuples(index=False)]
    logits = read_arrays(folder / "preds_and_labels.npz")["logits"][:50]
    np.testing.assert_allclose(chances, softmax(logits, axis=1), atol=1e-4)
    long = [("the king paid the pilot " * 9, "it was the king"), ("it was " * 15, "the pilot was it " * 5)]
    classifier = load_classifier(folder)
    logits, cut = classifier.logits(classifier.read(long))
    assert cut.all()
    np.testing.assert_allclose(
        [list(space["classify"](*row).values()) for row in long], softmax(logits, axis=1), atol=1e-4
    )


def test_masking_reaches_the_words_of_both_texts_and_leaves_what_separates_them(folder: Path) -> None:
    classifier = load_classifier(folder)
    text = f"the king paid the pilot today{SEPARATOR}it was the king"
    verdict = explain(classifier.model, classifier.tokenizer, text, 32, "head+tail")
    assert [text[start:end] for start, end, _ in verdict.words] == text.split()

    def odds(**changes: torch.Tensor) -> float:
        inputs = classifier.tokenizer(*text.split(SEPARATOR), return_tensors="pt") | changes
        with torch.no_grad():
            return float(np.diff(classifier.model(**inputs).logits[0]).item())

    masked = classifier.tokenizer(*text.split(SEPARATOR), return_tensors="pt")["input_ids"]
    masked[0, -2] = classifier.tokenizer.mask_token_id  # king [SEP]
    assert verdict.log_odds == pytest.approx(odds(), abs=1e-5)
    assert 0.1 < verdict.words[-1][2] == pytest.approx(odds() - odds(input_ids=masked), abs=1e-5)
    assert odds(token_type_ids=torch.zeros_like(masked)) != pytest.approx(odds(), abs=1e-4), "types reach the model"


def test_both_texts_are_shown_apart_and_can_be_typed(folder: Path, screen: Screen) -> None:
    classifier = load_classifier(folder)
    widgets.browse_reviews(load_reviews(classifier.variant).corpus, classifier.variant)
    assert screen.html.count(display.RULE) == 1 and re.search(rf"the \w+ .*{display.RULE}it was the \w+", screen.html)
    widgets.try_review(classifier.model, classifier.tokenizer, classifier.variant, classifier.names)
    screen.panel["premise"].value, screen.panel["hypothesis"].value = "the king paid the pilot <b>", " "
    (go := screen.panel["Classify (Ctrl+Enter)"]).click()
    assert "there is no text to classify" in screen.text
    screen.panel["hypothesis"].value = "it was the king"
    go.click()
    assert re.search(r"predicted \w+ with .* the king paid the pilot &lt; b &gt; it was the king", screen.text)
    assert screen.html.count(display.RULE) == 1
    screen.panel["model"].value = "all finished runs"
    go.click()
    assert re.search("it was the king.*this run, just trained (yes|no) .* pairs/lora (yes|no)", screen.text)
