"""Which review goes where, what is refused, and which tokens a model is given."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from made_folders import reviews, save_reviews

from peft_study.data import reviews as data
from peft_study.errors import StudyError
from peft_study.study.variant import Variant
from peft_study.text import SEPARATOR

Make = Callable[..., Variant]
QUICK = examples(deadline=None, max_examples=40)
FRACTIONS = st.floats(0, 0.5)


def corpus_of(table: pd.DataFrame, seed: int = 0, duplicates: int = 0) -> data.Corpus:
    """A corpus whose pool is `table`."""
    pool = data._in_order(table.assign(id=range(len(table))), seed, np.arange(table["label"].max() + 1))
    return data.Corpus(pool, table.head(0), None, {}, False, len(table), duplicates, "")


def sized(train_size: int, fraction: float, **fields: Any) -> Variant:
    """A variant of a budget, validated on a part of it or not at all."""
    return Variant(train_size=train_size, validation_fraction=fraction, **fields)


def parts(corpus: data.Corpus, size: int, fraction: float) -> tuple[list[str], list[str]]:
    """The texts to train on and those to validate with; none to validate with where the budget is too small."""
    try:
        train, validation = data.budget(corpus, sized(size, fraction))
    except StudyError as error:
        assert "leaves no text for validation" in str(error)
        train, validation = data.budget(corpus, sized(size, 0))
    return train["text"].tolist(), validation["text"].tolist()


# --- budgets

BALANCED = corpus_of(reviews(300))
SKEWED = corpus_of(reviews(400).query("label == 1 or index < 100"))


@pytest.mark.parametrize("corpus", [BALANCED, SKEWED], ids=["balanced", "skewed"])
@QUICK
@given(sizes=st.tuples(st.integers(1, 250), st.integers(1, 250)), fraction=FRACTIONS)
def test_subsets_are_nested(corpus: data.Corpus, sizes: tuple[int, int], fraction: float) -> None:
    small, large = (data.budget(corpus, sized(size, 0))[0]["text"].tolist() for size in sorted(sizes))
    assert large[: len(small)] == small
    (train, validation), (more_train, more_validation) = (parts(corpus, size, fraction) for size in sorted(sizes))
    if validation:
        assert set(train) <= set(more_train)
        assert set(validation) <= set(more_validation)


@pytest.mark.parametrize("corpus", [BALANCED, SKEWED], ids=["balanced", "skewed"])
@QUICK
@given(size=st.integers(20, 250), fraction=FRACTIONS)
def test_training_and_validation_share_the_budget_and_no_review(
    corpus: data.Corpus, size: int, fraction: float
) -> None:
    train, validation = parts(corpus, size, fraction)
    assert len(train) + len(validation) == size
    assert not set(train) & set(validation)
    assert abs(len(validation) - fraction * size) <= 1 + fraction or not validation


@pytest.mark.parametrize("corpus", [BALANCED, SKEWED], ids=["balanced", "skewed"])
def test_every_prefix_has_the_proportion_of_the_labels(corpus: data.Corpus) -> None:
    positives = corpus.pool["label"].to_numpy()
    expected = positives.mean() * np.arange(1, len(positives) + 1)
    assert np.abs(np.cumsum(positives) - expected).max() <= 1


@QUICK
@given(order=st.randoms(use_true_random=False), seed=st.integers(0, 9))
def test_the_order_does_not_depend_on_the_rows_order(order: Any, seed: int) -> None:
    table = reviews(60)
    rows = list(range(60))
    order.shuffle(rows)
    assert corpus_of(table.iloc[rows], seed).pool["text"].tolist() == corpus_of(table, seed).pool["text"].tolist()


def test_the_shares_of_few_reviews_a_class_do_not_all_round_down() -> None:
    assert [len(part) for part in parts(BALANCED, 150, 0.1)] == [135, 15]
    of_forty = reviews(160).assign(label=np.arange(160) % 40)
    train, validation = data.budget(replace(corpus_of(of_forty), labels=tuple(map(str, range(40)))), sized(160, 0.1))
    assert 12 <= len(validation) <= 16 and train["label"].nunique() == 40


def test_the_first_review_of_a_class_is_always_trained_on() -> None:
    singles = reviews(5).assign(label=range(5))
    corpus = replace(corpus_of(singles), labels=tuple("abcde"))
    with pytest.raises(StudyError, match="leaves no text for validation"):
        data.budget(corpus, sized(5, 0.5))


def test_the_whole_pool_can_be_asked_for_and_one_more_is_refused() -> None:
    corpus = corpus_of(reviews(100), duplicates=7)
    assert len(data.budget(corpus, sized(107, 0))[0]) == 100
    with pytest.raises(StudyError, match=r"train_size = 108: the pool has 107 labelled texts; ask for fewer$"):
        data.budget(corpus, sized(108, 0))


# --- a corpus


def test_a_test_split_is_taken_whole_or_a_balanced_part_of_it_in_the_datasets_order(variant: Make) -> None:
    assert (len((whole := data.load_corpus(variant())).pool), len(whole.test), whole.held_out) == (200, 60, False)
    corpus = data.load_corpus(variant(test_size=20, ood_size=10))
    assert (len(corpus.test), corpus.test["label"].sum()) == (20, 10) and corpus.test["id"].is_monotonic_increasing
    assert corpus.ood is not None and len(corpus.ood) == 10


@pytest.mark.parametrize("size", [2, 30, 101])
def test_a_test_set_is_held_out_where_there_is_none(variant: Make, tmp_path: Path, size: int) -> None:
    folder = save_reviews(tmp_path / "one", train=reviews(200))
    corpus = data.load_corpus(variant(dataset=str(folder), test_size=size))
    assert corpus.held_out
    assert (len(corpus.test), len(corpus.pool)) == (size, 200 - size)
    assert not set(corpus.test["text"]) & set(corpus.pool["text"])
    assert abs(corpus.test["label"].sum() - size / 2) <= 1


def test_without_a_split_to_test_on_its_size_must_be_given_and_without_one_to_train_on_there_is_none(
    variant: Make, tiny: dict[str, Path], tmp_path: Path
) -> None:
    folder = str(save_reviews(tmp_path / "one", train=reviews(200)))
    for fields, message in (
        ({"dataset": folder}, r"test_size = None.*has no test split; set how many"),
        ({"dataset": folder, "test_size": 201}, "test_size = 201: there are only 200 texts"),
        ({"dataset": str(tiny["other"])}, "has no split 'train'; set train_split to one of 'test'"),
    ):
        with pytest.raises(StudyError, match=message):
            data.load_corpus(variant(**fields))


@pytest.mark.parametrize("official", [True, False])
def test_a_repeated_review_is_dropped_and_never_on_both_sides(variant: Make, tmp_path: Path, official: bool) -> None:
    table, test = reviews(200), reviews(60, seed=1)
    repeated = pd.concat([table, table.iloc[:30], test.iloc[:5]])  # five of them are in the test split, if there is one
    splits = {"train": repeated, "test": test} if official else {"train": repeated}
    folder = save_reviews(tmp_path / "twice", **splits)
    corpus = data.load_corpus(variant(dataset=str(folder), test_size=None if official else 60))
    assert not corpus.pool["text"].duplicated().any()
    assert not set(corpus.pool["text"]) & set(corpus.test["text"])
    assert (len(corpus.test), corpus.duplicates) == (60, 35 if official else 30)
    assert len(corpus.pool) + corpus.duplicates == 235 - (0 if official else 60)


@pytest.mark.parametrize(
    ("raw", "text"), [("a<br />b", "a\nb"), ("a<br/>b<BR>c<Br />d", "a\nb\nc\nd"), ("<brave> a < b", "<brave> a < b")]
)
def test_a_break_is_markup(raw: str, text: str) -> None:
    assert data.clean(raw) == text


@pytest.mark.parametrize(
    ("changes", "table", "message"),
    [
        ({"text_column": "review"}, {}, "text_column = 'review': the training split of .* has no such column; it has"),
        ({}, {"label": ["pos", ""] * 100}, "has 100 rows without a label, the first being data row 2;"),
        (
            {},
            {"label": [0.5, 1.0] * 100},
            "has 100 rows with an invalid label, .* row 1 .*\\(0.5\\); labels are texts or",
        ),
        (
            {},
            {"label": [["pos"]] * 200},
            "has 200 rows with an invalid label, .* row 1 .*\\(a list\\); labels are texts or",
        ),
        ({}, {"label": ["pos"] * 200}, "has one class only, 'pos'; name a column"),
        ({}, {"label": range(200)}, "has 200 different labels in 200 rows, too many to be classes; name the column"),
        ({"label_names": ["a", "b", "c"]}, {}, "label_names = .*: .* has 2 classes, 0, 1; give a name to each"),
        (
            {"label_names": ["a", "b"]},
            {"label": ["a", "c"] * 100},
            "label_names = .* has 2 classes, 'a', 'c'; name those",
        ),
        ({}, {"text": ["one"] + [None] * 199}, "text_column = 'text': .* has 199 rows without a text, .* row 2;"),
        (
            {"text_column": "stars"},
            {"stars": range(200)},
            "text_column = 'stars': .* 200 rows without a text but a int",
        ),
        ({"text_column": ["text", "other"]}, {}, "text_column = 'other': .* has no such column; it has text, label"),
        (
            {"text_column": ["text", "other"]},
            {"other": ["a", None, " ", "<br />", *"b" * 196]},
            r"text_column = \['text', 'other'\]: .* has 3 rows without a text, the first being data row 2; remove",
        ),
    ],
)
def test_a_table_of_another_kind_is_refused(
    variant: Make, tmp_path: Path, changes: dict[str, Any], table: dict[str, Any], message: str
) -> None:
    folder = save_reviews(tmp_path / "odd", train=reviews(200).assign(**table))
    with pytest.raises(StudyError, match=message):
        data.load_corpus(variant(dataset=str(folder), test_size=10, **changes))


@pytest.mark.parametrize(
    "columns",
    [[], ["a"], ["a", "b", "c"], ["a", 1], 5, "", ["a", "a"]],
)
def test_a_pair_has_two_columns_of_different_names(columns: Any) -> None:
    with pytest.raises(StudyError, match=r"text_column = .*: name a column, or two different columns [^\n]*$"):
        Variant.from_parameters({"text_column": columns})


def test_a_pair_is_one_text_with_a_character_in_between_that_no_text_holds(variant: Make, tmp_path: Path) -> None:
    table = reviews(200).assign(text=lambda table: table["text"] + SEPARATOR + "end", other="fine<br />film")
    folder = save_reviews(tmp_path / "pairs", train=pd.concat([table, table.head(3)]))
    asked = variant(dataset=str(folder), text_column=["other", "text"], test_size=10, ood_dataset=None)
    corpus = data.load_corpus(asked)
    assert corpus.duplicates == 3 and set(corpus.pool["text"].str.count(SEPARATOR)) == {1}
    assert corpus.pool["text"].str.startswith(f"fine\nfilm{SEPARATOR}").all()
    assert corpus.pool["text"].str.endswith("\nend").all()


def test_the_fingerprint_follows_every_text_and_label() -> None:
    table = reviews(20)
    other_text, other_label = table.copy(), table.copy()
    other_text.loc[3, "text"] += "!"
    other_label.loc[3, "label"] = 0
    assert len({data._fingerprint(np.arange(2), t) for t in (table, other_text, other_label)}) == 3
    assert data._fingerprint(np.arange(2), table) == data._fingerprint(np.arange(2), reviews(20))
