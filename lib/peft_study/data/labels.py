"""The classes of a dataset: what they are called, and how a column of labels becomes 0, 1, 2, ...

Their names are those that a study gives (`label_names`), else those of the dataset (a `ClassLabel` of the hub, or the
sorted strings of the column). Whole numbers are named as they stand, but 0 and 1, which are negative and positive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_study.errors import StudyError

if TYPE_CHECKING:
    from datasets import Dataset

LABELS = ("negative", "positive")  # of 0 and 1, where nothing else is said
MOST = 100  # classes: a column of more values is hardly one of labels

Key = int | str  # a label as the dataset has it: a name, or a whole number that has none


@dataclass(frozen=True)
class Column:
    """The labels of one split, row by row; `names` are those of a `ClassLabel` in its order, empty for other columns.

    `where` says in errors which column of which split it is.
    """

    labels: list[Key]
    names: list[str]
    where: str


@dataclass(frozen=True)
class Classes:
    """The names of the classes 0, 1, ..., and the label that each has in the training split."""

    names: tuple[str, ...]
    labels: tuple[Key, ...]

    def encode(self, column: Column) -> list[int]:
        """The class of each row. Raises `StudyError` for labels that no class has.

        Where the labels of the training split are names, a whole number stands for the class of that number, and as
        many names, all of them other ones, for the same classes in the same order.
        """
        codes = {label: i for labels in (self.labels, self.names) for i, label in enumerate(labels)}
        if len(column.names) == len(self.names) and codes.keys().isdisjoint(column.names):
            codes |= {name: i for i, name in enumerate(column.names)}
        if not any(isinstance(label, int) for label in codes):
            codes |= {i: i for i in range(len(self.names))}
        if strange := _distinct(label for label in column.labels if label not in codes):
            raise StudyError(
                f"{column.where} has labels that the training split lacks: {_quoted(strange)}; it has "
                f"{_quoted(self.labels)}. Remove those rows, or add some of them to the training split"
            )
        return [codes[label] for label in column.labels]


def read_labels(split: "Dataset", field: str, name: str) -> Column:
    """The labels of a split, which messages call `name`. Raises `StudyError` for rows without one, and for no labels.

    True and False are 1 and 0; numbers with a fraction, lists and mappings are no labels.
    """
    from datasets import ClassLabel

    feature, where = split.features[field], f"label_column = {field!r}: {name}"
    labels: list[Any] = list(map(_whole, split[field][:]))
    if odd := [row for row, label in enumerate(labels) if not _is_label(label)]:
        raise StudyError(
            f"{where} has {rows(odd, 'without a label')} ({labels[odd[0]]!r}): a label is text or a whole number from "
            "0; correct or remove them"
        )
    names = list(feature.names) if isinstance(feature, ClassLabel) else []
    labels = [names[label] for label in labels] if names else labels
    return Column(labels, names, where)


def rows(numbers: Sequence[int], lacking: str) -> str:
    """How many rows are faulty, and which is the first, for a message."""
    count = "1 row" if len(numbers) == 1 else f"{len(numbers):,} rows"
    return f"{count} {lacking}, the first being row {numbers[0]} (counted from 0)"


def _is_label(value: object) -> bool:
    """Whether a value can be a label: no empty text, no negative number (on the hub -1 marks rows without one)."""
    return value >= 0 if isinstance(value, int) else isinstance(value, str) and value != ""


def _whole(label: object) -> object:
    """A whole number, however it is stored, as an `int`; anything else as it is."""
    return int(label) if isinstance(label, int | float) and float(label).is_integer() else label


def classes(column: Column, names: Sequence[str] | None = None) -> Classes:
    """The classes of a training split. Raises `StudyError` where there is only one, or where the `names` do not fit.

    `names` (a study's `label_names`) are in the order of the labels: that of the `ClassLabel`, or ascending. Labels
    that are text already have names, and `names` then says their order.
    """
    labels = _distinct(column.labels)
    if len(labels) < 2:
        raise StudyError(f"{column.where} has one class only, {_quoted(labels)}; at least two are needed to tell apart")
    if len(labels) > MOST:
        raise StudyError(
            f"{column.where} has {len(labels):,} different labels, and at most {MOST} classes are allowed; name the "
            "column of the labels"
        )
    if column.names:
        labels.sort(key=lambda label: column.names.index(str(label)))
    if names is None:
        names = LABELS if labels == [0, 1] else list(map(str, labels))
    elif isinstance(labels[0], str) and not column.names:
        if set(names) != set(labels):
            raise StudyError(
                f"label_names = {list(names)}: {column.where} has the labels {_quoted(labels)}; name those"
            )
        labels = list(names)
    elif len(names) != len(labels):
        raise StudyError(
            f"label_names = {list(names)}: {column.where} has {len(labels)} classes, {_quoted(labels)}; give a name to "
            "each, in this order"
        )
    return Classes(tuple(names), tuple(labels))


def unnamed(count: int) -> tuple[str, ...]:
    """Names for so many classes of which nobody says what they are called."""
    return LABELS if count == len(LABELS) else tuple(f"class {i}" for i in range(count))


def _distinct(labels: Iterable[Key]) -> list[Key]:
    """The different labels: numbers ascending, then texts in the order of the alphabet."""
    return sorted(set(labels), key=lambda label: (isinstance(label, str), label))


def _quoted(labels: Sequence[Key]) -> str:
    """Labels in a message, the first ten of many."""
    more = f" and {len(labels) - 10:,} more" if len(labels) > 10 else ""
    return ", ".join(repr(label) for label in labels[:10]) + more
