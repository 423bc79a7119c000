"""Labelled texts, from a dataset's name to a run's training, validation and test sets.

A hash of the text and `data_seed` assigns each text: the same on every machine, whatever the order of the rows. Budgets
are prefixes of one order, so 5,000 labels are contained in 10,000.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd

from peft_study.data.datasets import Splits, load_dataset, revision
from peft_study.data.labels import LABELS, Classes, classes, near_equal, read_labels, rows
from peft_study.data.tables import Split
from peft_study.errors import StudyError, quoted
from peft_study.study.variant import Variant
from peft_study.text import SEPARATOR, several

FEWEST = 5  # test texts of a class; classes with fewer are noted
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


@dataclass(frozen=True)
class Corpus:
    """The data that all runs on one dataset share.

    Each table has the columns `id` (the row's number in its split of the dataset), `text` (of a pair both texts, with
    `SEPARATOR` in between) and `label` (0, 1, ...).
    Budgets are prefixes of `pool`, which also has each text's `rank` within its class and the `turn` of the class.
    `splits` holds all texts of each split, `fingerprint` hashes texts and labels. If `held_out`, `test` is a part of
    the training split. `unique` counts the distinct texts of the training split, `duplicates` its removed rows, which
    repeat another row or a text of the test split. `conflicts` counts the texts with more than one label. `labels` are
    the names of the classes, `revision` is the dataset's commit on the hub. `notes` describe unused, conflicting and
    similar data.
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
    conflicts: int = 0
    notes: tuple[str, ...] = ()

    def split_of(self, part: str) -> str:
        """The split of the dataset, a key of `splits`, that contains a part of a run."""
        return part if part == "ood" or (part == "test" and not self.held_out) else "train"


@dataclass(frozen=True)
class Reviews:
    """The texts of one run: tables with the columns `id`, `text` and `label`, drawn from `corpus`."""

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
    """A text with line breaks in place of `<br />` and of `SEPARATOR`."""
    return _BREAK.sub("\n", text).replace(SEPARATOR, "\n")


def joined(texts: Sequence[object]) -> str | None:
    """A text, or the two of a pair, cleaned and as one string; None where one is no text, or a text of a pair empty."""
    parts = [clean(text) for text in texts if isinstance(text, str)]
    missing = len(parts) < len(texts) or (len(parts) > 1 and not all(map(str.strip, parts)))
    return None if missing else SEPARATOR.join(parts)


def load_corpus(variant: Variant) -> Corpus:
    """Load, check, clean, deduplicate and order the texts of `variant`.

    Exact duplicates (after cleaning) of a row or of a text of the official test split are removed from the training
    split; the first row is kept. The official test split stays unchanged, to be comparable; without one, `test_size`
    texts are held out of the training split, of each class with more than one text.
    """
    name, train = variant.dataset, variant.train_split
    loaded = load_dataset(name, "dataset", variant.dataset_config, variant.encoding, variant.delimiter)
    tested = variant.test_split or ("test" if "test" in loaded.splits else train)
    for field, split in (("train_split", train), ("test_split", tested)):
        if split not in loaded.splits:
            raise StudyError(f"dataset = {name!r} has no split {split!r}; set {field} to one of {_listed(loaded)}")
    raw, named = _table(loaded.splits[train], f"the training split of {name!r}", variant)
    table, notes = raw.drop_duplicates("text"), [*loaded.notes]
    texts: dict[str, list[str]] = {"train": raw["text"].tolist()}
    labelled = [raw]
    if held_out := tested == train:
        if variant.test_size is None:
            raise StudyError(f"test_size = None: dataset {name!r} has no test split; set how many texts to hold out")
        repeated = table.groupby("label")["text"].transform("size") > 1  # else there were none to train on
        test = _sample(table[repeated], variant.test_size, "test_size", variant.data_seed, named.ranks)
        table = table.drop(test.index)
    else:
        remedy = _other_test_splits(variant, loaded, tested)
        whole, _ = _table(loaded.splits[tested], f"the split {tested!r} of {name!r}", variant, named, remedy)
        texts["test"] = whole["text"].tolist()
        labelled.append(whole)
        table = table[~table["text"].isin(texts["test"])]
        test = _sample(whole, variant.test_size, "test_size", variant.data_seed, named.ranks)
    if unused := [split for split in loaded.splits if split not in (train, tested)]:
        notes.append(f"unused splits: {', '.join(map(repr, unused))} (validation texts come out of each budget)")
    ood = None
    if variant.ood_dataset is not None:
        whole, ood_notes = _load_ood(variant.ood_dataset, variant, named)
        texts["ood"] = whole["text"].tolist()
        ood = _sample(whole, variant.ood_size, "ood_size", variant.data_seed, named.ranks)
        notes += ood_notes
        if known := int(ood["text"].isin(raw["text"]).sum()):
            notes.append(f"out-of-domain texts that are also texts of the training split: {known:,} of {len(ood):,}")
    conflicts = int((pd.concat(labelled).groupby("text")["label"].nunique() > 1).sum())
    return Corpus(
        pool=_in_order(table, variant.data_seed, named.ranks),
        test=test,
        ood=ood,
        splits=texts,
        held_out=held_out,
        unique=raw["text"].nunique(),
        duplicates=len(raw) - len(table) - held_out * len(test),
        fingerprint=_fingerprint(named.ranks, raw, test),
        labels=named.names,
        revision=revision(name),
        conflicts=conflicts,
        notes=(*notes, *_oddities(conflicts, named, raw, test)),
    )


def _load_ood(name: str, variant: Variant, named: Classes) -> tuple[pd.DataFrame, list[str]]:
    """The out-of-domain texts, and notes on how they were read."""
    loaded = load_dataset(name, "ood_dataset", variant.ood_dataset_config)
    split = variant.ood_split or ("test" if "test" in loaded.splits else next(iter(loaded.splits)))
    if split not in loaded.splits:
        raise StudyError(f"ood_dataset = {name!r} has no split {split!r}; set ood_split to one of {_listed(loaded)}")
    table, _ = _table(loaded.splits[split], f"ood_dataset = {name!r}", variant, named)
    return table, [f"ood_dataset: {note}" for note in loaded.notes]


def _oddities(conflicts: int, named: Classes, raw: pd.DataFrame, test: pd.DataFrame) -> list[str]:
    """Notes on empty and conflicting texts, and on labels that are assumed, similar or untested."""
    notes = []
    if empty := int((raw["text"].str.strip() == "").sum()):
        notes.append(f"empty texts of the training split: {empty:,} of {len(raw):,}")
    if named.labels == (0, 1) and not named.given:
        notes.append("labels 0 and 1 are taken as negative and positive; set label_names if they mean something else")
    if conflicts:
        notes.append(f"texts with more than one label: {conflicts:,} (the first training row of each is kept)")
    if alike := [quoted(label, 40) for label in near_equal(named.labels)]:
        notes.append(f"the labels {several(alike, 10)} differ only in case, spaces or Unicode form; each is a class")
    counts = np.bincount(test["label"], minlength=len(named.names))
    if few := [f"{quoted(name, 40)} ({n})" for name, n in zip(named.names, counts, strict=True) if n < FEWEST]:
        notes.append(f"classes with fewer than {FEWEST} test texts, whose scores are imprecise: {several(few, 5)}")
    return notes


def _listed(loaded: Splits) -> str:
    return ", ".join(map(repr, loaded.splits))


def _other_test_splits(variant: Variant, loaded: Splits, tested: str) -> str:
    """The remedy where the labels of the test split are withheld, as in a competition."""
    train = variant.train_split
    others = [split for split in loaded.splits if split not in (train, tested)]
    choices = [f"set test_split to {' or '.join(map(repr, others))}"] if others else []
    choices.append(f"set test_split: {train} (test_size texts are then held out of it)")
    return "where the labels are withheld, " + ", or ".join(choices)


def _table(
    split: Split,
    name: str,
    variant: Variant,
    named: Classes | None = None,
    remedy: str = "",
) -> tuple[pd.DataFrame, Classes]:
    """A split, called `name` in messages, as a table, and its classes: `named`, or those of the split.

    Raises `StudyError` for a missing column, rows without a text or a label, and invalid labels; `remedy` is the advice
    where labels are withheld.
    """
    columns = variant.text_columns
    for field, column in [*(("text_column", column) for column in columns), ("label_column", variant.label_column)]:
        if column not in split.columns:
            advice = [column_names(split), *[remedy] * bool(remedy and field == "label_column")]
            raise StudyError(f"{field} = {column!r}: {name} has no such column; {'; '.join(advice)}")
    values = list(zip(*(split.columns[column] for column in columns), strict=True))
    where = f"text_column = {variant.text_column!r}: {name}"
    if not values:
        raise StudyError(f"{where} has no rows")
    labels = read_labels(split, variant.label_column, name, remedy)
    named = named or classes(labels, variant.label_names)
    texts = list(map(joined, values))
    if odd := [row for row, text in enumerate(texts) if text is None]:
        kinds = [f" but a {type(value).__name__}" for value in values[odd[0]] if not isinstance(value, str | None)]
        fault = rows(odd, f"without a text{''.join(kinds[:1])}")
        raise StudyError(f"{where} has {fault}; remove them, or make them texts")
    table = pd.DataFrame({"id": np.arange(len(values)), "text": texts})
    return table.assign(label=np.array(named.encode(labels), dtype="int64")), named


def column_names(split: Split) -> str:
    """The column names of a split, for a message, unless they look like a row, which may hold a text or a label."""
    names = [name for name in split.columns if len(name) <= 40 and len(name.split()) <= 4]
    if len(names) < len(split.columns) or any(name in values for name, values in split.columns.items()):
        return "the first line of the file must name the columns, and looks like a row; add a line such as text,label"
    return f"it has {several(names, 20)}"


def _sample(table: pd.DataFrame, size: int | None, field: str, seed: int, ranks: np.ndarray) -> pd.DataFrame:
    """`size` texts, stratified by label, or all; in the order of the dataset."""
    if size is None:
        return table
    if size > len(table):
        raise StudyError(f"{field} = {size}: there are only {len(table)} texts; ask for fewer")
    return _in_order(table, seed, ranks, salt="test").iloc[:size].sort_index().drop(columns=["rank", "turn"])


def _in_order(table: pd.DataFrame, seed: int, ranks: np.ndarray, salt: str = "pool") -> pd.DataFrame:
    """The texts in an order that depends only on texts, labels (see `Classes.ranks`) and `seed`.

    Every prefix is stratified by label, with two classes to within one text. The columns `rank` within the class and
    `turn` of the class (0 to 1) are added.
    """
    keys = [blake2b(f"{salt}\0{seed}\0{text}".encode(), digest_size=8).digest() for text in table["text"]]
    ranked = table.iloc[np.argsort(np.array(keys, dtype="S8"), kind="stable")]
    rank = ranked.groupby("label").cumcount()
    share = (rank + 0.5) / ranked.groupby("label")["label"].transform("size")
    turn = (ranks[ranked["label"]] + 0.5) / len(ranks)
    return ranked.assign(rank=rank, turn=turn).iloc[np.lexsort((turn, share))]


def budget(corpus: Corpus, variant: Variant) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training and validation texts within `train_size` labels.

    Within each label, a text's place in the order fixes its part (training or validation), so both parts of a smaller
    budget are contained in those of a larger one. Labels start at different offsets, so that their shares do not all
    round down; the first text of a label always trains. A budget may count repeated rows (the whole training half of
    IMDb has 25,000), but no text trains twice.
    """
    if variant.train_size > (limit := len(corpus.pool) + corpus.duplicates):
        beside = f" beside the {len(corpus.test):,} that test_size holds out" * corpus.held_out
        raise StudyError(
            f"train_size = {variant.train_size}: the pool has {limit} labelled texts{beside}; ask for fewer"
        )
    taken = corpus.pool.iloc[: variant.train_size]
    fraction = variant.validation_fraction
    start = (1 - fraction) * taken["turn"]
    chosen = np.floor(start + (taken["rank"] + 1) * fraction) > np.floor(start + taken["rank"] * fraction)
    taken = taken.drop(columns=["rank", "turn"])
    parts = taken[~chosen], taken[chosen]
    if fraction and parts[1].empty:
        raise StudyError(
            f"train_size = {variant.train_size} with validation_fraction = {fraction} leaves no text for "
            "validation; raise one of them, or set validation_fraction to 0"
        )
    return parts


def load_reviews(variant: Variant) -> Reviews:
    """The texts of a run."""
    corpus = load_corpus(variant)
    return Reviews(corpus, *budget(corpus, variant), corpus.test, corpus.ood)


def _fingerprint(ranks: np.ndarray, *tables: pd.DataFrame) -> str:
    """A hash of the tables' texts and labels, independent of how labels are stored."""
    digest = blake2b(digest_size=8)
    for table in tables:
        digest.update("\0".join(table["text"]).encode())
        digest.update(ranks[table["label"]].tobytes())
    return digest.hexdigest()
