"""What can be known of the reviews before training: ratings, lengths, duplicates, and how far counting words gets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from made_folders import reviews, save_reviews
from made_runs import make_study

from peft_study import paths
from peft_study.data import exploration as explore
from peft_study.data import reviews as data
from peft_study.data import tfidf as baseline
from peft_study.data import tokenization
from peft_study.study.study import read_study
from peft_study.study.variant import Variant


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("A solid 8/10 from me.", 8),
        ("8 / 10", 8),
        ("10 out of 10!", 10),
        ("I give it 3 Out Of Ten", 3),
        ("7.5/10", 7.5),
        ("0/10, avoid", 0),
        ("(9/10)", 9),
        ("My rating:\n8/10\n", 8),
        ("11/10 would cry again, but really 6/10", 6),
        ("open 24/7", None),
        ("1/2 of it", None),
        ("9/11 changed the world", None),
        ("11/10", None),
        ("8/100", None),
        ("seen on 9/10/2001", None),
        ("on 7/10/03", None),
        ("8/10.5", None),
        ("1 out of tenants", None),
        ("about 3 out of 100 people", None),
        ("2001/10", None),
        ("", None),
    ],
)
def test_a_rating_is_read_where_a_review_states_one(text: str, rating: float | None) -> None:
    assert explore.explicit_rating(text) == rating


@settings(max_examples=100, deadline=None)
@given(some.text(max_size=80))
def test_a_rating_is_between_nothing_and_ten_whatever_the_text(text: str) -> None:
    rating = explore.explicit_rating(text)
    assert rating is None or 0 <= rating <= 10


def test_the_reviews_that_state_a_rating_are_kept_with_it() -> None:
    table = pd.DataFrame({"text": ["good, 9/10", "good", "bad: 2 out of 10"], "label": [1, 1, 0]}, index=[4, 5, 6])
    stated = explore.ratings(table)
    assert stated["rating"].to_dict() == {4: 9.0, 6: 2.0} and stated["label"].to_dict() == {4: 1, 6: 0}
    assert explore.ratings(table.iloc[[1]]).empty


def test_truncation_loses_what_lies_beyond_the_limit() -> None:
    table = explore.truncation(pd.DataFrame({"tokens": [50, 100, 200, 650]}), limits=(64, 200, 700))
    assert table["reviews cut (%)"].to_dict() == {"64": 75, "200": 25, "700": 0}
    assert table["tokens lost (%)"].to_dict() == {"64": pytest.approx(75.8), "200": 45, "700": 0}


@settings(max_examples=50, deadline=None)
@given(some.lists(some.integers(1, 2000), min_size=1, max_size=50))
def test_a_longer_window_never_cuts_more(tokens: list[int]) -> None:
    table = explore.truncation(pd.DataFrame({"tokens": tokens}))
    for column in table:
        assert table[column].is_monotonic_decreasing and table[column].between(0, 100).all()
    assert (table["tokens lost (%)"] <= table["reviews cut (%)"].where(table["reviews cut (%)"] == 0, 100)).all()


@pytest.fixture
def repeated(tmp_path: Path, variant: Callable[..., Variant]) -> tuple[data.Corpus, Variant]:
    """A corpus with three repeated rows in training, one in the test set, two texts in both, one in the other set."""
    train, test, other = reviews(100), reviews(30, seed=1), reviews(10, seed=2)
    train = pd.concat([train, train.iloc[[0, 0, 1]]])
    test = pd.concat([test, test.iloc[[3]], train.iloc[[10, 11]]])
    other = pd.concat([other, train.iloc[[20]]])
    folder = save_reviews(tmp_path / "repeated", train=train, test=test)
    own = variant(dataset=str(folder), ood_dataset=str(save_reviews(tmp_path / "strange", test=other)))
    return data.load_corpus(own), own


def test_repeated_texts_are_counted_within_and_between_the_parts(repeated: tuple[data.Corpus, Variant]) -> None:
    """Of the training split, three repeat another row and two a test review; no budget contains them."""
    assert explore.overlap(repeated[0])["reviews"].iloc[:2].tolist() == [5, 1]
    assert explore.overlap(repeated[0])["reviews"].iloc[-1] == 1


def test_without_other_reviews_their_overlap_is_not_mentioned(variant: Callable[..., Variant]) -> None:
    table = explore.overlap(data.load_corpus(variant(ood_dataset=None)))
    assert table["reviews"].tolist() == [0, 0, 0]


def test_every_review_of_the_pool_has_its_own_length_and_label(repeated: tuple[data.Corpus, Variant]) -> None:
    corpus, variant = repeated
    table = explore.token_lengths(corpus, variant)
    tokenizer = tokenization.load_tokenizer(variant)
    assert table["tokens"].tolist() == [len(tokenizer(text)["input_ids"]) for text in corpus.pool["text"]]
    assert table["label"].tolist() == corpus.pool["label"].tolist()


def test_budgets_stand_beside_the_pool_and_know_ever_more_words(
    make_study: Callable[..., Path], variant: Callable[..., Variant]
) -> None:
    make_study(matrix={"strategy": ["full", "lora"], "train_size": [100, 20, 50], "seed": [1, 2]})
    plan, corpus = read_study("tiny"), data.load_corpus(variant())
    assert explore.sizes(plan) == [20, 50, 100]
    table = explore.representativeness(corpus, plan)
    assert list(table.index) == ["20", "50", "100", "200"]
    assert table["positive (%)"].tolist() == [50] * 4
    assert table["test words known (%)"].is_monotonic_increasing and table["state a rating (%)"].eq(0).all()


def test_a_budget_of_all_reviews_is_the_pool_itself(
    make_study: Callable[..., Path], repeated: tuple[data.Corpus, Variant]
) -> None:
    make_study(matrix={"strategy": ["full"], "train_size": [50, 103], "seed": [1]})
    assert list(explore.representativeness(repeated[0], read_study("tiny")).index) == ["50", "98"]


def test_the_words_with_the_largest_weights_are_those_that_tell_the_classes_apart(
    variant: Callable[..., Variant],
) -> None:
    weights = explore.word_weights(data.load_corpus(variant()), 200)["positive"].sort_values()
    assert set(weights.index[:4]) == {"bad", "dull", "awful", "boring"}
    assert set(weights.index[-4:]) == {"good", "fine", "superb", "moving"}


# --- The bag of words -------------------------------------------------------------------------------------------------


def test_counting_words_learns_the_reviews_better_with_more_of_them(variant: Callable[..., Variant]) -> None:
    own = variant()
    corpus = data.load_corpus(own)
    found = baseline.bag_of_words(corpus, own, [20, 200])
    table = found.scores()
    assert table["train_size"].tolist() == [20, 200] and table["accuracy"].is_monotonic_increasing
    assert table["accuracy"].iloc[-1] > 0.95
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()
    assert found.ids.tolist() == corpus.test["id"].tolist() and found.labels.tolist() == corpus.test["label"].tolist()


def test_the_baseline_is_fitted_on_the_budget_and_on_nothing_else(variant: Callable[..., Variant]) -> None:
    """Training and validation part together: it selects no checkpoint. The rest of the pool counts for nothing."""
    own = variant()
    corpus = data.load_corpus(own)
    alone = type(corpus)(**{**vars(corpus), "pool": corpus.pool.iloc[:60]})
    first, second = (baseline.bag_of_words(part, own, [60]).preds[60] for part in (corpus, alone))
    assert first.tolist() == second.tolist()
    taken = corpus.pool.iloc[:60]
    assert first.tolist() == list(baseline.fit(taken["text"], taken["label"]).predict(corpus.test["text"]))  # type: ignore[attr-defined]


def kept() -> tuple[baseline.Baseline, Path]:
    make_study()
    ids = np.arange(5) * 7
    found = baseline.Baseline(ids, ids % 2, {250: 1 - ids % 2, 1000: ids % 2})
    baseline.write_baseline("made", found)
    return found, paths.study_folder("made") / "bag_of_words.npz"


def test_the_baseline_survives_its_file() -> None:
    found, file = kept()
    again = baseline.load_baseline("made")
    assert (
        again is not None
        and again.ids.tolist() == found.ids.tolist()
        and again.labels.tolist() == found.labels.tolist()
    )
    assert {size: preds.tolist() for size, preds in again.preds.items()} == {
        s: p.tolist() for s, p in found.preds.items()
    }
    assert [path.name for path in file.parent.iterdir() if path.name != "study.yaml"] == ["bag_of_words.npz"]


def test_a_missing_or_damaged_baseline_is_no_baseline() -> None:
    _, file = kept()
    whole = file.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-10], b"\x93NUMPY"):
        file.write_bytes(content)
        assert baseline.load_baseline("made") is None, content[:10]
    np.savez(file, ids=np.arange(5), labels=np.arange(5) % 2, **{"250": np.zeros(4, dtype=int)})  # type: ignore[arg-type]
    assert baseline.load_baseline("made") is None
    np.savez(file, ids=np.array([object()]), labels=np.zeros(1))
    assert baseline.load_baseline("made") is None
    file.unlink()
    assert baseline.load_baseline("made") is None
