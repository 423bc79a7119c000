"""The classes of a dataset: what they are called, and how a column of labels becomes 0, 1, 2, ...

Their names are those that a study gives (`label_names`), else those of the dataset (a `ClassLabel` of the hub, or the
sorted strings of the column). Whole numbers are named as they stand, but 0 and 1, which are negative and positive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peft_study.errors import StudyError

if TYPE_CHECKING:
    from datasets import Dataset

LABELS = ("negative", "positive")  # of 0 and 1, where nothing else is said
MOST = 100  # classes: a column of more values is hardly one of labels
_IN_FULL = {"neg": "negative", "pos": "positive"}  # what datasets of reviews, IMDB first, write for short

Key = int | str  # a label as the dataset has it: a name, or a whole number that has none


@dataclass(frozen=True)
class Column:
    """The labels of one split: `keys` in the order of its rows, and who they are, for errors.

    `order` lists the names of a `ClassLabel`, whether or not a row has them; it is empty for other columns.
    """

    keys: list[Key]
    order: list[str]
    field: str
    split: str

    @property
    def where(self) -> str:
        """The column and the split, as the beginning of a message."""
        return f"label_column = {self.field!r}: {self.split}"


@dataclass(frozen=True)
class Classes:
    """The names of the classes 0, 1, ..., and the class of every label: those of the training split, then the names."""

    names: tuple[str, ...]
    codes: dict[Key, int]

    def encode(self, column: Column) -> list[int]:
        """The class of each row. Raises `StudyError` for labels that no class has.

        Where those of the training split are names, a whole number stands for the class of that number, and as many
        names, all of them other ones, for the same classes in the same order.
        """
        known = dict(self.codes)
        if column.order and known.keys().isdisjoint(column.order) and len(column.order) == len(self.names):
            known |= {name: place for place, name in enumerate(column.order)}  # other words for the same classes
        if not any(isinstance(key, int) for key in known):
            known |= {place: place for place in range(len(self.names))}
        if strange := _distinct(key for key in column.keys if key not in known):
            raise StudyError(
                f"{column.where} has labels that the training split lacks: {_quoted(strange)}; it has "
                f"{_quoted(list(self._given))}. Remove those rows, or add some of them to the training split"
            )
        return [known[key] for key in column.keys]

    @property
    def _given(self) -> list[Key]:
        """The labels as the training split has them."""
        return list(self.codes)[: len(self.names)]


def read(split: "Dataset", field: str, name: str) -> Column:
    """The labels of a split, which messages call `name`. Raises `StudyError` for rows without one, and for no labels.

    True and False are 1 and 0; numbers with a fraction, lists and mappings are no labels.
    """
    from datasets import ClassLabel

    feature, values = split.features[field], split[field][:]
    order = list(feature.names) if isinstance(feature, ClassLabel) else []
    full = _in_full({*order, *(value for value in values if isinstance(value, str))})
    order = [str(full.get(text, text)) for text in order]
    keys = [_key(value, order) for value in values]
    keys = [full.get(key, key) if isinstance(key, str) else key for key in keys]
    column = Column(keys, order, field, name)
    bare = [row for row, value in enumerate(values) if _is_missing(value)]
    if bare:
        count = "1 row" if len(bare) == 1 else f"{len(bare):,} rows"
        raise StudyError(
            f"{column.where} has {count} without a label, the first being row {bare[0]} (counted from 0; -1 stands for "
            "none); remove them or label them"
        )
    if odd := [value for value, key in zip(values, column.keys, strict=True) if not isinstance(key, int | str)]:
        raise StudyError(f"{column.where} has labels that are neither text nor whole numbers, such as {odd[0]!r}")
    return column


def _key(value: object, order: Sequence[str]) -> Key:
    """A value of the column as a name or a whole number; whatever else it is stays as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not _is_missing(value) and float(value).is_integer():
        return order[int(value)] if order else int(value)
    return value  # type: ignore[return-value]  # which `read` refuses


def _in_full(names: set[str]) -> dict[Key, Key]:
    """How to write out the names of a column, if these are all: among others, `pos` may be short for anything."""
    both = any({short, long} <= names for short, long in _IN_FULL.items())
    return {} if both or not names <= {*_IN_FULL, *_IN_FULL.values()} else dict(_IN_FULL.items())


def _is_missing(value: object) -> bool:
    """Whether a value stands for no label: nothing, an empty text, or a negative number, as the hub marks such rows."""
    return value is None or value == "" or value != value or (isinstance(value, int | float) and value < 0)


def classes(column: Column, names: Sequence[str] | None = None) -> Classes:
    """The classes of a training split. Raises `StudyError` where there is only one, or where the `names` do not fit.

    `names` (a study's `label_names`) are in the order of the labels: that of the `ClassLabel`, or ascending. Labels
    that are text already have names, and `names` then says their order.
    """
    found = _distinct(column.keys)
    if len(found) < 2:
        raise StudyError(f"{column.where} has one class only, {_quoted(found)}; at least two are needed to tell apart")
    if len(found) > MOST:
        raise StudyError(
            f"{column.where} has {len(found):,} different labels, and at most {MOST} classes are allowed; name the "
            "column of the labels"
        )
    if column.order:
        found.sort(key=lambda key: column.order.index(str(key)))
    if names is None:
        return _classes(LABELS if found == [0, 1] else [str(key) for key in found], found)
    if isinstance(found[0], str) and not column.order:
        keys = [name if name in found else _IN_FULL.get(name, name) for name in names]
        if set(keys) != set(found):
            raise StudyError(f"label_names = {list(names)}: {column.split} has the labels {_quoted(found)}; name those")
        return _classes(names, keys)
    if len(names) != len(found):
        raise StudyError(
            f"label_names = {list(names)}: {column.split} has {len(found)} classes, {_quoted(found)}; give a name to "
            "each, in this order"
        )
    return _classes(names, found)


def _classes(names: Sequence[str], keys: Sequence[Key]) -> Classes:
    """The classes of these names, which their names stand for as well as the labels `keys` of the training split."""
    return Classes(tuple(names), {label: i for labels in (keys, names) for i, label in enumerate(labels)})


def unnamed(count: int) -> tuple[str, ...]:
    """Names for so many classes of which nobody says what they are called."""
    return LABELS if count == len(LABELS) else tuple(f"class {i}" for i in range(count))


def _distinct(keys: Iterable[Key]) -> list[Key]:
    """The different labels: numbers ascending, then texts in the order of the alphabet."""
    return sorted(set(keys), key=lambda key: (isinstance(key, str), key))


def _quoted(labels: Sequence[Key]) -> str:
    """Labels in a message, the first ten of many."""
    more = f" and {len(labels) - 10:,} more" if len(labels) > 10 else ""
    return ", ".join(repr(label) for label in labels[:10]) + more
