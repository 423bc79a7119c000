"""Slices: the rules that sort a review into them, and their file."""

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
from peft_study.analysis import slice_rules
from peft_study.data.datasets import about
from peft_study.data.reviews import load_corpus
from peft_study.data.tokenization import load_tokenizer
from peft_study.study.variant import Variant

STATED = {
    **{"A solid 8/10 from me.": 8, "8 / 10": 8, "10 out of 10!": 10, "I give it 3 Out Of Ten": 3, "7.5/10": 7.5},
    **{"0/10, avoid": 0, "(9/10)": 9, "My rating:\n8/10\n": 8, "11/10 would cry again, but really 6/10": 6},
}
NO_RATING = (
    "open 24/7|1/2 of it|9/11|11/10|8/100|seen on 9/10/2001|on 7/10/03|8/10.5|1 out of tenants|3 out of 100|2001/10"
)


@pytest.mark.parametrize(("text", "rating"), [*STATED.items(), *((text, None) for text in NO_RATING.split("|"))])
def test_a_rating_is_read_where_a_review_states_one(text: str, rating: float | None) -> None:
    assert slice_rules.explicit_rating(text) == rating


@settings(max_examples=100, deadline=None)
@given(some.text(max_size=80))
def test_a_rating_is_between_nothing_and_ten_whatever_the_text(text: str) -> None:
    rating = slice_rules.explicit_rating(text)
    assert rating is None or 0 <= rating <= 10


NEGATED = (
    "This is not good.|I didn't like it. Good, though.|I didn’t like it|NEVER again!|No. Yes.|\n\n  Nothing happens"
)
NOT_NEGATED = "Fine film. Not bad.|Fine film\nnot bad|A notable knot of nobodies|"


@pytest.mark.parametrize(
    "text", [*NEGATED.split("|"), "We cannot say", "It cost 3.5 and is not bad", "A dog.\u2029Nobody sees it."]
)
def test_a_negation_counts_in_the_first_sentence_of_a_text_or_of_either_text_of_a_pair(text: str) -> None:
    assert slice_rules.negated(text)


@pytest.mark.parametrize("text", NOT_NEGATED.split("|"))
def test_a_negation_elsewhere_does_not_count(text: str) -> None:
    assert not slice_rules.negated(text)


@pytest.mark.parametrize("held_out", [False, True])
def test_a_review_is_clean_where_no_other_row_of_the_training_split_has_its_words(
    tmp_path: Path, variant: Callable[..., Variant], held_out: bool
) -> None:
    train = reviews(100)
    texts = train["text"].tolist()
    copies = pd.DataFrame({"text": [texts[0].upper() + " !", texts[1].replace(" ", "\n")], "label": train["label"][:2]})
    if held_out:
        folder = save_reviews(tmp_path / "one", train=pd.concat([train, copies]))
        own = variant(dataset=str(folder), test_size=100, ood_dataset=None)
        expected = {0, 1, 100, 101}
    else:
        folder = save_reviews(tmp_path / "two", train=train, test=pd.concat([copies, reviews(20, seed=1)]))
        own = variant(dataset=str(folder), ood_dataset=None)
        expected = {0, 1}
    table = slice_rules.slice_reviews(load_corpus(own), own)
    assert set(table.loc[~table["clean"], "id"]) == expected & set(table["id"])


def test_every_review_of_both_parts_is_sorted_by_its_length_and_text(variant: Callable[..., Variant]) -> None:
    own = variant(max_length=20)
    corpus = load_corpus(own)
    table = slice_rules.slice_reviews(corpus, own)
    assert table["part"].value_counts().to_dict() == {"test": 60, "ood": 40}
    test = table[table["part"] == "test"]
    assert test["id"].tolist() == corpus.test["id"].tolist() and test["label"].tolist() == corpus.test["label"].tolist()
    tokenizer = load_tokenizer(own)
    tokens = np.array([len(tokenizer(text)["input_ids"]) for text in corpus.test["text"]])
    assert (test["cut"].to_numpy() == (tokens > 20)).all() and (test["whole"] == ~test["cut"]).all()
    assert tokens[test["short"]].max() <= tokens[~test["short"]].min() and tokens[test["long"]].min() > np.median(
        tokens
    )
    assert (test["rating"] == ~test["no_rating"]).all() and (test["negation"] == ~test["no_negation"]).all()


def made() -> pd.DataFrame:
    """The slices of a few reviews, at random."""
    rng, ids = np.random.default_rng(0), np.r_[np.arange(20), np.arange(10)]
    table = pd.DataFrame({"part": ["test"] * 20 + ["ood"] * 10, "id": ids, "label": ids % 2})
    return table.assign(**{name: rng.random(len(ids)) < 0.5 for name in slice_rules.SLICES})


def test_the_slices_survive_their_file() -> None:
    make_study()
    table = made()
    slice_rules.write_slices("made", table)
    again = slice_rules.load_slices("made")
    assert again is not None
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_a_missing_or_damaged_file_is_no_slices() -> None:
    make_study()
    assert slice_rules.load_slices("made") is None
    slice_rules.write_slices("made", made())
    file = paths.study_folder("made") / "slices.csv"
    whole = file.read_bytes()
    renamed, numbered = whole.replace(b"clean", b"dirty"), whole.replace(b"True", b"7")
    for content in (b"", b"\xff\xfe\x00", whole[:-10], renamed, numbered):
        file.write_bytes(content)
        assert slice_rules.load_slices("made") is None, content[:40]


def test_a_review_may_state_a_rating_that_its_label_excludes_and_the_description_of_the_texts_says_so() -> None:
    """The label is that of the stars; a negative review of the bundled ones ends in 6/10."""
    assert slice_rules.explicit_rating("Still pretty good, considering.\n\n6/10") == 6
    assert "a tenth of the negative texts with one state more than four" in about("bundled:imdb")
