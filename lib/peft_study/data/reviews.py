"""Reviews, from a dataset's name to one run's training, validation and test sets.

Which review goes where is decided by a hash of its text and `data_seed`: the same on every machine, whatever the order
of the rows in the files. Budgets are prefixes of one order, so that 5,000 is part of 10,000 is part of 25,000.
"""

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from peft_study.data.datasets import load_dataset, revision
from peft_study.data.labels import LABELS, Classes, classes, read_labels, rows
from peft_study.errors import StudyError
from peft_study.study.variant import Variant

if TYPE_CHECKING:
    from datasets import Dataset

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


@dataclass(frozen=True)
class Corpus:
    """Everything that runs on one dataset share.

    Each table has the columns `id` (the row's number in its split of the dataset), `text` and `label` (0, 1, ...).
    `pool` is what a budget is taken from, in the order in which budgets take it, with each review's `rank` within its
    class. `splits` are all texts of each split, `fingerprint` hashes texts and labels. `held_out` says that the dataset
    has no test split, so that `test` is a part of its training split. `unique` counts the distinct texts of the
    training split, `duplicates` its rows that repeat another one or a review of the test split, which are dropped.
    `labels` are the names of the classes, `revision` is the dataset's commit on the hub.
    """

    pool: pd.DataFrame
    test: pd.DataFrame
    ood: pd.DataFrame | None
    splits: dict[str, list[str]]
    held_out: bool
    unique: int
    duplicates: int
    fingerprint: str
    labels: tuple[str, ...] = LABELS
    revision: str | None = None

    def split_of(self, part: str) -> str:
        """The split of the dataset, a key of `splits`, whose rows a part of a run is taken from."""
        return part if part == "ood" or (part == "test" and not self.held_out) else "train"


@dataclass(frozen=True)
class Reviews:
    """The reviews of one run: tables with the columns `id`, `text` and `label`, taken from `corpus`."""

    corpus: Corpus
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    ood: pd.DataFrame | None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes 0, 1, ..."""
        return self.corpus.labels

    @property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The tables by name: `train`, `validation`, `test` and, where the variant names one, `ood`."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return parts if self.ood is None else parts | {"ood": self.ood}


def clean(text: str) -> str:
    """A review without markup: every `<br />` is a line break."""
    return _BREAK.sub("\n", text)


def load_corpus(variant: Variant) -> Corpus:
    """Load, check, clean, deduplicate and order the reviews that `variant` names.

    Exact duplicates (after cleaning) are dropped from the training split, the first row staying, and so is what the
    official test split holds too. That split itself is left as it is, to stay comparable; without one, `test_size`
    reviews are held out of the training split.
    """
    splits = load_dataset(variant.dataset)
    if "train" not in splits:
        raise StudyError(f"dataset = {variant.dataset!r} has no split 'train'; it has {', '.join(splits)}")
    raw, named = _table(splits["train"], f"the training split of {variant.dataset!r}", variant)
    table = raw.drop_duplicates("text")
    texts: dict[str, list[str]] = {"train": raw["text"].tolist()}
    if held_out := "test" not in splits:
        if variant.test_size is None:
            raise StudyError(
                f"test_size = None: dataset {variant.dataset!r} has no test split; say how many reviews to hold out"
            )
        test = _sample(table, variant.test_size, "test_size", variant.data_seed)
        table = table.drop(test.index)
    else:
        whole, _ = _table(splits["test"], f"the test split of {variant.dataset!r}", variant, named)
        texts["test"] = whole["text"].tolist()
        table = table[~table["text"].isin(texts["test"])]
        test = _sample(whole, variant.test_size, "test_size", variant.data_seed)
    ood = None
    if variant.ood_dataset is not None:
        splits = load_dataset(variant.ood_dataset)
        split = splits["test" if "test" in splits else next(iter(splits))]
        ood, _ = _table(split, f"ood_dataset = {variant.ood_dataset!r}", variant, named)
        texts["ood"] = ood["text"].tolist()
        ood = _sample(ood, variant.ood_size, "ood_size", variant.data_seed)
    return Corpus(
        pool=_in_order(table, variant.data_seed),
        test=test,
        ood=ood,
        splits=texts,
        held_out=held_out,
        unique=raw["text"].nunique(),
        duplicates=len(raw) - len(table) - held_out * len(test),
        fingerprint=_fingerprint(raw, test),
        labels=named.names,
        revision=revision(variant.dataset),
    )


def _table(split: "Dataset", name: str, variant: Variant, named: Classes | None = None) -> tuple[pd.DataFrame, Classes]:
    """A split, which messages call `name`, as a table, and its classes: those `named` before, or those that it has.

    Raises `StudyError` for a missing column, for rows without a text or a label, and for labels that are no classes.
    """
    for field in ("text_column", "label_column"):
        if (column := getattr(variant, field)) not in split.column_names:
            raise StudyError(f"{field} = {column!r}: {name} has no such column; it has {', '.join(split.column_names)}")
    labels = read_labels(split, variant.label_column, name)
    named = named or classes(labels, variant.label_names)
    texts, where = split[variant.text_column][:], f"text_column = {variant.text_column!r}: {name}"
    if odd := [row for row, text in enumerate(texts) if not isinstance(text, str)]:
        raise StudyError(f"{where} has {rows(odd, 'without a text')}; remove them, or make them empty texts")
    table = pd.DataFrame({"id": np.arange(len(texts)), "text": list(map(clean, texts))})
    return table.assign(label=np.array(named.encode(labels), dtype="int64")), named


def _sample(table: pd.DataFrame, size: int | None, field: str, seed: int) -> pd.DataFrame:
    """`size` reviews in the proportion of the labels, or all; in the order of the dataset."""
    if size is None:
        return table
    if size > len(table):
        raise StudyError(f"{field} = {size}: there are only {len(table)} reviews; ask for fewer")
    return _in_order(table, seed, salt="test").iloc[:size].sort_index().drop(columns="rank")


def _in_order(table: pd.DataFrame, seed: int, salt: str = "pool") -> pd.DataFrame:
    """The reviews in an order that depends on nothing but their texts and `seed`, every prefix having the labels'
    proportion to within one review."""
    keys = [blake2b(f"{salt}\0{seed}\0{text}".encode(), digest_size=8).digest() for text in table["text"]]
    ranked = table.iloc[np.argsort(np.array(keys, dtype="S8"), kind="stable")]
    rank = ranked.groupby("label").cumcount()
    share = (rank + 0.5) / ranked.groupby("label")["label"].transform("size")
    return ranked.assign(rank=rank).iloc[np.lexsort((ranked["label"], share))]


def budget(corpus: Corpus, variant: Variant) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training and validation reviews that `train_size` labelled reviews pay for.

    Within each label, every review's part (training or validation) is fixed by its place in the order: both parts of a
    smaller budget are contained in those of a larger one. The labels take their turns at different places, so that
    their shares do not all round down; a label's first review is always trained on. A budget may count repeated rows
    (the whole of IMDB's training half is 25,000) but never trains on one twice.
    """
    if variant.train_size > (limit := len(corpus.pool) + corpus.duplicates):
        beside = f" beside the {len(corpus.test):,} that test_size holds out" * corpus.held_out
        raise StudyError(
            f"train_size = {variant.train_size}: the pool has {limit} labelled reviews{beside}; ask for fewer"
        )
    taken = corpus.pool.iloc[: variant.train_size]
    fraction = variant.validation_fraction
    start = (1 - fraction) * (taken["label"] + 0.5) / len(corpus.labels)
    chosen = np.floor(start + (taken["rank"] + 1) * fraction) > np.floor(start + taken["rank"] * fraction)
    parts = taken[~chosen].drop(columns="rank"), taken[chosen].drop(columns="rank")
    if fraction and parts[1].empty:
        raise StudyError(
            f"train_size = {variant.train_size} with validation_fraction = {fraction} leaves no review for "
            "validation; raise one of them, or set validation_fraction to 0 and checkpoint to 'last'"
        )
    return parts


def load_reviews(variant: Variant, corpus: Corpus | None = None) -> Reviews:
    """The reviews of a run, from its `corpus` where that is at hand."""
    corpus = corpus or load_corpus(variant)
    return Reviews(corpus, *budget(corpus, variant), corpus.test, corpus.ood)


def _fingerprint(*tables: pd.DataFrame) -> str:
    """A hash of the tables' texts and labels: equal exactly when these are."""
    digest = blake2b(digest_size=8)
    for table in tables:
        digest.update("\0".join(table["text"]).encode())
        digest.update(table["label"].to_numpy().tobytes())
    return digest.hexdigest()
