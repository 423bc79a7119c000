"""The predictions of the TF-IDF baseline survive their file, and a damaged file is none."""

from pathlib import Path

import numpy as np
import pytest
from made_runs import make_study
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline

from peft_study import paths
from peft_study.analysis import tfidf
from peft_study.analysis.tfidf import Baseline, load_baseline, write_baseline


def keep() -> tuple[Baseline, Path]:
    make_study()
    ids = np.arange(5) * 7
    window = Baseline(ids, ids % 2, {1000: 1 - ids % 2}, {60: "no word occurs in two of its texts", 250: "other"})
    unfitted = {60: "no word occurs in two of its texts"}
    baseline = Baseline(ids, ids % 2, {1000: ids % 2, 250: 1 - ids % 2}, unfitted, window)
    write_baseline("made", baseline)
    return baseline, paths.study_folder("made") / "tfidf.npz"


def test_the_baseline_survives_its_file() -> None:
    baseline, file = keep()
    again = load_baseline("made")
    assert again is not None and again.preds.keys() == baseline.preds.keys()
    for loaded, kept in ((again, baseline), (again.same_window, baseline.same_window)):
        np.testing.assert_equal(vars(loaded) | {"same_window": None}, vars(kept) | {"same_window": None})
    assert [path.name for path in file.parent.iterdir() if path.name != "study.yaml"] == ["tfidf.npz"]


def test_scores_have_a_row_per_size_with_an_interval_around_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    labels, preds = rng.integers(0, 2, (2, 200))
    table = Baseline(np.arange(200), labels, {1000: labels, 250: preds}).scores("accuracy")
    assert table["train_size"].tolist() == [250, 1000]
    assert table["accuracy"].tolist() == pytest.approx([accuracy_score(labels, preds), 1])
    assert table["low"].iloc[0] < table["accuracy"].iloc[0] < table["high"].iloc[0]


@pytest.mark.parametrize("classes", [2, 3])
def test_predictions_are_those_of_the_model_with_the_log_odds_of_two_classes(classes: int) -> None:
    texts = [f"word{i % classes} and word{i % 7}" for i in range(60)]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    fitted, unfitted = tfidf.fit(model, {60: (texts, [i % classes for i in range(60)])})
    preds, odds = tfidf.predict(fitted, texts)
    assert not unfitted and preds[60].tolist() == fitted[60].predict(texts).tolist() and len(odds) == (classes == 2)
    assert all(found == pytest.approx(fitted[60].decision_function(texts)) for found in odds.values())


def test_a_missing_or_damaged_baseline_is_no_baseline() -> None:
    _, file = keep()
    whole = file.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-10], b"\x93NUMPY"):
        file.write_bytes(content)
        assert load_baseline("made") is None, content[:10]
    np.savez(file, ids=np.array([object()]), labels=np.zeros(1))
    assert load_baseline("made") is None
    file.unlink()
    assert load_baseline("made") is None


@pytest.mark.parametrize("texts", [["aa", "bb", "cc", "dd"], ["", ".", "?", "!"], ["你好", "再见", "猫", "狗"]])
def test_a_baseline_that_cannot_be_fitted_says_why_and_advises_nothing(texts: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        TfidfVectorizer(ngram_range=(1, 2), min_df=2).fit(texts)
    why = tfidf.reason(error.value)
    empty = Baseline(np.arange(4), np.arange(4) % 2, {}, {2000: why, 50: why})
    both = list(tfidf.unfitted(Baseline(np.arange(4), np.arange(4) % 2, {}, {}, empty)))
    assert both[0] == "Left out: TF-IDF on the encoder's window with 50 labels (no word occurs in two of its texts)."
    said = list(tfidf.unfitted(empty))
    assert said[0] == "Left out: TF-IDF with 50 labels (no word occurs in two of its texts)."
    assert "with 2,000 labels" in said[1] and empty.scores("accuracy").empty and not list(tfidf.unfitted(None))
