"""Excerpts: the words of a review that a model of words weighs most."""

import numpy as np
import pandas as pd

from peft_study.analysis.excerpts import corpus_at_hand, excerpts
from peft_study.data.reviews import Corpus
from peft_study.study.variant import Variant


def corpus(*tests: str, train: tuple[str, str] = ("plot wonderful", "plot awful")) -> Corpus:
    """Reviews to train on whose class shows in one word, and those to test."""
    pool = pd.DataFrame({"id": range(40), "text": [train[i % 2] for i in range(40)], "label": np.arange(40) % 2})
    test = pd.DataFrame({"id": range(len(tests)), "text": tests, "label": 0})
    return Corpus(pool, test, None, {}, True, 0, 0, "")


def test_a_long_review_is_cut_to_the_words_that_matter_and_a_short_one_is_shown_whole() -> None:
    long = " ".join(["plot"] * 50 + ["Wonderful!", "and", "awful"] + ["plot"] * 50)
    shown = excerpts(corpus(long, "a short\none"), [0, 1], words=5)
    assert "Wonderful! and awful" in shown[0] and len(shown[0].strip("… ").split()) == 5
    assert shown[0].startswith("… ") and shown[0].endswith(" …") and shown[1] == "a short one"


def test_without_a_model_of_words_the_first_words_are_shown() -> None:
    given = corpus(" ".join(f"word{place}" for place in range(9)), train=("a", "b"))
    assert excerpts(given, [0], words=2) == {0: "word0 word1 …"}


def test_reviews_that_are_not_on_this_machine_are_none() -> None:
    assert corpus_at_hand(Variant(dataset="nobody/nothing")) is None
