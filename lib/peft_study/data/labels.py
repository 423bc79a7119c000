"""The classes of a dataset: their names, and the mapping of labels to 0, 1, 2, ...

Labels of different sources match by value, never by position: "1", 1, 1.0 and the class "1" of a `ClassLabel` are one
label, as are True and "true". The names of the classes are those of the study (`label_names`), else those of the
dataset (a `ClassLabel`, or the sorted labels). Labels 0 and 1 are called negative and positive.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_study.data.tables import Split
from peft_study.errors import StudyError, quoted
from peft_study.text import several

if TYPE_CHECKING:
    import numpy as np

LABELS = ("negative", "positive")  # of 0 and 1, where nothing else is said
FEW = 20  # classes; with more, a label must occur twice on average
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.0+)?")  # no code such as 007
_SHOWN = 40  # characters of a label that a message shows

Key = int | str  # the value of a label: within one column all are whole numbers, or all are texts


@dataclass(frozen=True)
class Column:
    """The labels of one split by row; `names` are those of a `ClassLabel` in its order, empty for other columns.

    In errors, `where` names the column and the split, `remedy` the advice where labels are withheld.
    """

    labels: list[Key]
    names: list[Key]
    where: str
    remedy: str


@dataclass(frozen=True)
class Classes:
    """The names of the classes 0, 1, ..., and the label of each in the training split.

    `numbers` maps each number stored in the training split, a label or that of a `ClassLabel` (`declared`), to its
    class. `given` means that the study named the classes.
    """

    names: tuple[str, ...]
    labels: tuple[Key, ...]
    numbers: Mapping[int, int]
    declared: bool
    given: bool

    @property
    def ranks(self) -> "np.ndarray":
        """The rank of each class among the sorted labels, independent of how they are stored."""
        import numpy as np

        order = _distinct(self.labels)
        return np.array([order.index(label) for label in self.labels], dtype="int64")

    def encode(self, column: Column) -> list[int]:
        """The class of each row. Raises `StudyError` for unknown and for ambiguous labels.

        A label matches the class with that label or name. Between numbers and a `ClassLabel`, which numbers its
        classes, it may also match the class with that number.
        """
        values = _distinct(column.labels)
        same = {text: i for texts in (map(str, self.labels), self.names) for i, text in enumerate(texts)}
        said = {_form(text): i for text, i in same.items()}
        by_name = {value: same.get(str(value), said.get(_form(str(value)))) for value in values}
        by_number = {value: self._numbered(value, column) for value in values}
        complete = [codes for codes in (by_name, by_number) if None not in codes.values()]
        if not complete:
            strange = [value for value in values if by_name[value] is None]
            renamable = self.declared or isinstance(self.labels[0], int)
            rename = (
                "set label_names, which renames those of the training split" if renamable else "rename them to match"
            )
            withheld = f"; {column.remedy}" * bool(column.remedy and len(values) == 1)  # such labels are all the same
            raise StudyError(
                f"{column.where} has labels that the training split lacks: {_quoted(strange)}; it has "
                f"{_quoted(self._described)}; {rename}, or remove these rows{withheld}"
            )
        if len(complete) == 2 and by_name != by_number and not self.given:
            raise StudyError(
                f"{column.where} has the labels {_quoted(values)}, which match different classes of the "
                f"training split by name and by number ({_quoted(self._described)}); set label_names, or rename them"
            )
        return [code for label in column.labels if (code := complete[0][label]) is not None]

    @property
    def _described(self) -> list[str]:
        """Each class by its label and, where that is another, its name."""
        pairs = zip(map(str, self.labels), self.names, strict=True)
        return [label if label == name else f"{label} ({name})" for label, name in pairs]

    def _numbered(self, value: Key, column: Column) -> int | None:
        """The class of the number under which `column` stores a label; two `ClassLabel`s number as they like."""
        if column.names:
            return None if self.declared else self.numbers.get(column.names.index(value))
        return self.numbers.get(value) if isinstance(value, int) else None


def read_labels(split: Split, field: str, name: str, remedy: str = "") -> Column:
    """The labels of a split, called `name` in messages. Raises `StudyError` for missing and invalid labels.

    Fractions, lists and mappings are invalid; -1 is a missing label in a `ClassLabel`, and a label elsewhere. `remedy`
    is the advice where labels are withheld.
    """
    where = f"label_column = {field!r}: {name}"
    names = _normalised(split.names.get(field, ()))
    values: list[Any] = list(split.columns[field])
    if names:
        values = [_class(value, names) for value in values]
    missing = [row for row, value in enumerate(values) if _is_missing(value)]
    if len(missing) == len(values):
        raise StudyError(f"{where} has no labels{f'; {remedy}' * bool(remedy)}")
    if missing:
        raise StudyError(f"{where} has {rows(missing, 'without a label')}; correct or remove them")
    if odd := [row for row, value in enumerate(values) if not _is_label(value)]:
        kind = repr(values[odd[0]]) if isinstance(values[odd[0]], float) else f"a {type(values[odd[0]]).__name__}"
        raise StudyError(
            f"{where} has {rows(odd, 'with an invalid label')} ({kind}); labels are texts or whole numbers"
        )
    return Column(_normalised(values), names, where, remedy)


def rows(numbers: Sequence[int], lacking: str) -> str:
    """How many rows are faulty, and which is the first, for a message; rows are counted from 1."""
    count = "1 row" if len(numbers) == 1 else f"{len(numbers):,} rows"
    return f"{count} {lacking}, the first being data row {numbers[0] + 1}"


def _class(value: Any, names: Sequence[Key]) -> Key | None:
    """The class of a row of a `ClassLabel`: by number, or in a text file also by name. None: missing."""
    if isinstance(value, str):
        texts = list(map(str, names))
        if value in texts:
            return names[texts.index(value)]
        value = int(value) if re.fullmatch(r"\d{1,9}", value) else None
    return names[int(value)] if value is not None and 0 <= value < len(names) else None


def _is_missing(value: Any) -> bool:
    """Whether a row has no label: None, NaN, or a blank text."""
    return (
        value is None or (isinstance(value, float) and value != value) or (isinstance(value, str) and not value.strip())
    )


def _is_label(value: Any) -> bool:
    """Whether a value can be a label."""
    return isinstance(value, int | str) or (isinstance(value, float) and value.is_integer())


def _normalised(values: Iterable[Any]) -> list[Key]:
    """Labels in one form: whole numbers if all are numbers, True and False if all are booleans, else texts."""
    values = list(values)
    texts = [str(int(value) if isinstance(value, float) else value) for value in values]
    distinct = set(texts)
    if all(map(_NUMBER.fullmatch, distinct)):
        return [int(text.partition(".")[0]) for text in texts]
    if {text.lower() for text in distinct} <= {"true", "false"}:
        return [text.capitalize() for text in texts]
    return list(texts)


def _form(text: str) -> str:
    """A canonical form of equal labels: 1 of 1.0, True of TRUE."""
    return str(_normalised([text])[0])


def classes(column: Column, names: Sequence[str] | None = None) -> Classes:
    """The classes of a training split. Raises `StudyError` for a single class, or `names` that do not match.

    `names` (a study's `label_names`) reorder the labels if they are the same, else rename them, in the order of the
    `ClassLabel` or of the numbers.
    """
    labels, given = _distinct(column.labels), names is not None
    if len(labels) < 2:
        raise StudyError(f"{column.where} has one class only, {_quoted(labels)}; name a column with at least two")
    if len(labels) > max(FEW, len(column.labels) / 2):
        raise StudyError(
            f"{column.where} has {len(labels):,} different labels in {len(column.labels):,} rows, too many to "
            "be classes; name the column of the classes"
        )
    if column.names:
        labels.sort(key=column.names.index)
    stored = {column.names.index(label) if column.names else label: label for label in labels}
    called = list(map(str, labels))
    if names is not None and set(names) == set(called):
        labels = [labels[called.index(name)] for name in names]
    elif names is not None:
        wrong = f"label_names = {_quoted(names)}: {column.where} has {len(labels)} classes, {_quoted(labels)}; "
        if len(names) != len(labels):
            raise StudyError(f"{wrong}give a name to each, in this order")
        if set(names) & set(called) or (isinstance(labels[0], str) and not column.names):
            raise StudyError(f"{wrong}name those, in the order you want")
    else:
        names = LABELS if labels == [0, 1] else called
    places = {number: labels.index(label) for number, label in stored.items() if isinstance(number, int)}
    return Classes(tuple(names), tuple(labels), places, bool(column.names), given)


def near_equal(labels: Iterable[Key]) -> list[str]:
    """The labels that differ from another only in case, spaces, invisible characters, or form (1 and 1.0)."""
    alike: dict[str, list[str]] = {}
    for label in map(str, labels):
        form = unicodedata.normalize("NFKC", _form(label)).casefold()
        form = "".join(c for c in form if c.isspace() or c.isprintable())
        alike.setdefault(" ".join(form.split()), []).append(label)
    return [label for group in alike.values() if len(group) > 1 for label in group]


def unnamed(count: int) -> tuple[str, ...]:
    """Names for `count` classes that have none."""
    return LABELS if count == len(LABELS) else tuple(f"class {i}" for i in range(count))


def _distinct(labels: Iterable[Key]) -> list[Key]:
    """The distinct labels: numbers ascending, then texts alphabetically."""
    return sorted(set(labels), key=lambda label: (isinstance(label, str), label))


def _quoted(labels: Sequence[Key]) -> str:
    """Labels in a message: the first ten, each shortened."""
    return several([quoted(label, _SHOWN) for label in labels], 10)
