"""Label a table of texts with the model of a finished run, as `./run_all.sh label` does."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from peft_study.data.datasets import KINDS, load_dataset
from peft_study.data.reviews import column_names
from peft_study.data.tables import Split, suffix, write_table
from peft_study.errors import StudyError
from peft_study.files import replacing
from peft_study.records.classifier import Classifier, load_classifier
from peft_study.study.variant import Variant, describe
from peft_study.text import listed, several
from peft_study.training.prediction import Tell


def label_table(
    run: Path,
    table: Path,
    output: Path | None = None,
    text_column: Sequence[str] = (),
    encoding: str | None = None,
    delimiter: str | None = None,
    force: bool = False,
    tell: Tell = lambda what, done, total: None,
) -> list[str]:
    """Write `table` to `output` with the columns of `Classifier.label` by the run in the folder `run`.

    The table has one of the formats of a study; that of `output` follows from its suffix, and it is by default
    `texts.labelled.csv` beside `texts.csv`. `text_column` is the column of the texts or the two of pairs, by default as
    in the run; `encoding` and `delimiter` are detected. `output` appears when all texts are labelled. Returns lines
    that say how many texts have which class, how many were cut, and which rows hold no text. Raises `StudyError` before
    the first text is labelled, for whatever cannot be read or written, for an existing `output` unless `force`, and for
    a column that would be replaced.
    """
    output = output or table.with_name(re.sub(r"(\.[^.]+(\.gz)?)$", r".labelled\1", table.name, flags=re.IGNORECASE))
    _require_writable(table, output, force)
    split = _read(table, encoding, delimiter)
    classifier = load_classifier(run)
    own = classifier.variant.text_columns
    if len(columns := list(text_column) or own) != len(own):
        reads = f"the run reads {listed(own)}; give the option once for each"
        raise StudyError(f"--text-column: {several(columns, 3)}; {reads}")
    if absent := [column for column in columns if column not in split.columns]:
        fault = f"{table} has no column {absent[0]!r} of texts; {column_names(split)}"
        raise StudyError(f"{fault}; name that of the texts (--text-column)")
    if taken := [name for name in classifier.columns if name in split.columns]:
        raise StudyError(f"{table} has a column {taken[0]!r} already; rename it, or remove it")
    rows = pd.DataFrame(split.columns, dtype=object)
    with replacing(output) as partial:
        write_table(partial, rows)  # what cannot be written is known before the work
        labels = classifier.label(zip(*map(split.columns.__getitem__, columns), strict=True), tell)
        write_table(partial, pd.concat([rows, labels.round(6)], axis=1))
    return _summary(output, labels, classifier)


def _summary(output: Path, labels: pd.DataFrame, classifier: Classifier) -> list[str]:
    """How many texts have which class, how many were cut, and which rows were left out, in lines."""
    predicted, variant = labels["predicted_label"], classifier.variant
    classes = several([f"{count:,} {name}" for name, count in predicted.value_counts().items()], 12)
    lines = [
        f"{output}: {predicted.notna().sum():,} of {len(predicted):,} texts labelled ({classes or 'none'})",
        f"texts truncated to the window of {variant.max_length} tokens ({variant.truncation}): "
        f"{labels['truncated'].sum():,}; temperature of the probabilities: {classifier.temperature:.2f}",
    ]
    if rows := [f"{row + 1:,}" for row in predicted.index[predicted.isna()]]:
        lines.append(f"not labelled, because they hold no text: data row{'s' * (len(rows) > 1)} {several(rows, 20)}")
    return lines


def _require_writable(table: Path, output: Path, force: bool) -> None:
    """Refuse a `table` that is not there, and an `output` of no known format, or that would replace a file."""
    if not table.is_file():
        raise StudyError(f"there is no file {table}; name a table of texts ({', '.join(KINDS)}; text also with .gz)")
    if suffix(output) not in KINDS:
        raise StudyError(f"output = {str(output)!r}: its suffix names no known format; end it in {', '.join(KINDS)}")
    if output.exists() and output.samefile(table):
        raise StudyError(f"output = {str(output)!r} is the table itself; name another file")
    if output.exists() and not force:
        raise StudyError(f"{output} exists; name another output (-o), or replace it with --force")


def _read(table: Path, encoding: str | None, delimiter: str | None) -> Split:
    """The columns of a table, with errors that name the options of the command."""
    try:
        Variant(encoding=encoding, delimiter=delimiter)
        return load_dataset(name := str(table.resolve()), "dataset", None, encoding, delimiter).splits["train"]
    except ValidationError as error:
        raise StudyError("; ".join(describe(error, Variant))) from error
    except StudyError as error:
        fault = str(error).removeprefix(f"dataset = {name!r}: ")
        options = re.sub("`(encoding|delimiter)`", r"--\1", fault)
        raise StudyError(f"{table}: {options}") from error
