"""Read files of tables as columns, and write them; files that can be read in two ways are refused.

Values of CSV and TSV files are texts, unchanged; JSON, parquet and Arrow keep their types. Faults are `ValueError`s
that name the line and never quote a row's text.
"""

import codecs
import csv
import gzip
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from peft_study.errors import quoted

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")  # also with .gz
DELIMITED = {".csv": ",", ".tsv": "\t"}
ARROW = (".parquet", ".arrow")
DELIMITERS = (",", ";", "\t", "|")
_MAGIC = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip (or spreadsheet)", b"PAR1": "parquet"}  # how such files begin
# Bytes above ASCII that are one character in both Windows-1252 and Windows-1250; without the letters below 0xA0, which
# differ on a Macintosh.
_WESTERN = {
    byte
    for byte in range(0x80, 0x100)
    for character in bytes([byte]).decode("cp1252", "ignore")
    if character == bytes([byte]).decode("cp1250", "ignore") and not (byte < 0xA0 and character.isalpha())
}

_SURROGATE = re.compile("[\ud800-\udfff]")
_BREAK = re.compile("\r\n|\r|\n")
# The first line in which spreadsheets declare the delimiter:
_SEPARATOR = re.compile('"?sep=(.)"?(?:\r\n|\r|\n)', re.IGNORECASE)

Columns = dict[str, Sequence[Any]]


@dataclass(frozen=True)
class Split:
    """The columns of a split; `names` maps a column that is a `ClassLabel` to the names of its classes."""

    columns: Columns
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


def suffix(file: str | Path) -> str:
    """The suffix that determines a file's format, in lower case and without `.gz`."""
    return Path(str(file).lower().removesuffix(".gz")).suffix


def read_table(file: Path, encoding: str | None = None, delimiter: str | None = None) -> tuple[Columns, list[str]]:
    """The columns of a file with one of `SUFFIXES`, and notes on how it was read.

    `encoding` and `delimiter` (of CSV and TSV) are detected unless they are given. Raises `ValueError` where the file
    cannot be read, or is ambiguous.
    """
    raw = file.read_bytes()
    if file.name.lower().endswith(".gz"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise ValueError("is a truncated or invalid gzip file") from error
    if kind := next((kind for magic, kind in _MAGIC.items() if raw.startswith(magic)), None):
        raise ValueError(
            f"is a {kind} file, not text, whatever its name; unpack it, rename it to its kind, or save it as CSV"
        )
    text, notes = _decode(raw, encoding)
    text = text.removeprefix("\ufeff")
    delimited = suffix(file) in DELIMITED
    columns = _read_delimited(text, delimiter) if delimited else _read_json(text, lines=suffix(file) != ".json")
    if not any(columns.values()):
        raise ValueError("holds no rows")
    return columns, notes


def read_arrow(file: Path) -> Split:
    """The columns of a parquet file, or of one written by `save_to_disk` of `datasets`. Raises `ValueError`."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with pa.OSFile(str(file)) as opened:
            parquet = suffix(file) == ".parquet"
            table = ParquetFile(opened).read() if parquet else pa.ipc.open_stream(opened).read_all()
        columns: Columns = {name: table.column(name).to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"is a truncated or invalid {suffix(file)[1:]} file; copy or download it again") from error
    if not table.num_rows:
        raise ValueError("holds no rows")
    described = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = (described.get("info") or {}).get("features") or {}
    classes = {name: kind for name, kind in features.items() if isinstance(kind, dict) and "names" in kind}
    return Split(columns, {name: kind["names"] for name, kind in classes.items()})


def write_table(file: Path, table: pd.DataFrame) -> None:
    """Write `table`, without its index, in the format of the file's suffix (`SUFFIXES` or parquet), as UTF-8."""
    kind = suffix(file)
    if kind == ".parquet":
        table.to_parquet(file, index=False)
    elif kind in DELIMITED:  # texts in quotes: with fewer, a lone carriage return would be the end of a row
        table.to_csv(file, sep=DELIMITED[kind], index=False, quoting=csv.QUOTE_NONNUMERIC)
    else:
        table.to_json(
            file, orient="records", lines=kind != ".json", force_ascii=False, double_precision=15, date_format="iso"
        )


def _decode(raw: bytes, encoding: str | None) -> tuple[str, list[str]]:
    """The text of a file in UTF-8, or in the encoding that its bytes determine, and notes on the encoding."""
    named = encoding or ("utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None)
    if named is None and raw.count(0) > len(raw) / 4:  # of UTF-16, every second byte of plain English is zero
        named = "utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be"
    try:
        text = raw.decode(named or "utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        at = f"line {line} (byte 0x{raw[error.start]:02X})"
        if named:
            raise ValueError(f"is not {named}, see {at}; set another `encoding`, or save it as UTF-8") from error
        if _is_western(raw):
            return raw.decode("cp1252"), ["is not UTF-8 and was read as Windows-1252"]
        raise ValueError(
            f"is not UTF-8, see {at}; save it as UTF-8, or set `encoding` (cp1252 is that of Windows in Western Europe)"
        ) from error
    with suppress(UnicodeDecodeError):
        if encoding and not raw.isascii() and raw.decode() not in (text, f"\ufeff{text}"):
            return text, [f"is valid UTF-8, and was read as {encoding}"]
    return text, []


def _is_western(raw: bytes) -> bool:
    """Whether bytes that are not UTF-8 must be Windows-1252, or a code page that agrees with it on them.

    All bytes above ASCII must be among those on which European code pages agree. Words of three letters or more with
    such letters must be mostly ASCII, unlike Cyrillic or Greek words.
    """
    if not _WESTERN.issuperset(byte for byte in set(raw) if byte >= 0x80):
        return False
    words = "".join(c if c.isalpha() else " " for c in raw.decode("cp1252")).split()
    foreign = [word for word in set(words) if not word.isascii()]
    proving = [2 * sum(not c.isascii() for c in word) < len(word) for word in foreign if len(word) > 2]
    return all(proving) and (bool(proving) or not foreign)


# --- CSV and TSV


def _read_delimited(text: str, delimiter: str | None) -> Columns:
    """The columns of delimited text with a header line."""
    if declared := _SEPARATOR.match(text):
        delimiter, text = delimiter or declared[1], text[declared.end() :]
    head = _BREAK.split(text.lstrip("\r\n"), maxsplit=1)[0]
    candidates = [delimiter] if delimiter else [mark for mark in DELIMITERS if mark in head] or [","]
    readings, faults = {}, {}
    for mark in candidates:
        try:
            readings[mark] = _records(text, mark)
        except ValueError as error:
            faults[mark] = error
    if not readings:
        raise faults[candidates[0]]
    if len(readings) > 1:
        raise ValueError(f"can be read with the delimiters {' and '.join(map(repr, readings))}; set `delimiter` to one")
    (names, *rows) = next(iter(readings.values())) or [[""]]
    names = [name.strip() for name in names]
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise ValueError(f"names the column {quoted(twice[0], 40)} twice; rename one")
    if names in rows:
        raise ValueError(f"repeats the names of the columns in data row {rows.index(names) + 1}; remove that row")
    return {name: [row[i] for row in rows] for i, name in enumerate(names) if name}


def _records(text: str, delimiter: str) -> list[list[str]]:
    """The records of delimited text, all with as many fields as the first.

    Quotes follow RFC 4180. A TSV file that violates it, because texts begin with a quotation mark, is read with all
    quotation marks as plain characters.
    """
    try:
        numbered = _parse(text, delimiter, csv.QUOTE_MINIMAL)
    except ValueError:
        if delimiter == "\t":
            with suppress(ValueError):
                plain = [fields for _, fields in _parse(text, delimiter, csv.QUOTE_NONE)]
                if not any(len(field) > 1 and field[0] == field[-1] == '"' for row in plain for field in row):
                    return plain
        raise
    if swallowed := _swallowed(text, numbered, delimiter):
        raise ValueError(
            f"has a quotation mark in line {swallowed} that merges several rows into one; double it and put quotation "
            'marks around that text ("" within "..."), or save the table as JSON lines'
        )
    return [fields for _, fields in numbered]


def _parse(text: str, delimiter: str, quoting: int) -> list[tuple[int, list[str]]]:
    """Each record with its first line; blank lines are skipped."""
    csv.field_size_limit(sys.maxsize)
    mark = re.escape(delimiter)
    # A space after each delimiter ("a", "b") is skipped if all column names, or one quotation mark, follow one.
    spaced = re.search(f'[^ ]{mark} +"[^"\r\n{mark}]|\\A[^"\r\n{mark}]+({mark} [^"\r\n{mark}]+)+[\r\n]', text)
    stream, how = io.StringIO(text, newline=""), {"quoting": quoting, "skipinitialspace": spaced is not None}
    reader = csv.reader(stream, delimiter=delimiter, strict=True, **how)  # type: ignore[arg-type]
    records, line = [], 1
    try:
        for fields in reader:
            if fields:
                records.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"has a quotation mark in the row that begins in line {line} which is not closed, or closed within a field;"
            ' put quotation marks around that text and double those within it ("")'
        ) from error
    for line, fields in records:
        if len(fields) != (width := len(records[0][1])):
            raise ValueError(
                f"has {len(fields)} field{'s' * (len(fields) > 1)} in line {line} and {width} in its first line, "
                f"delimited by {delimiter!r}; put quotation marks around texts that contain the delimiter, or set "
                "`delimiter`"
            )
    return records


def _swallowed(text: str, numbered: list[tuple[int, list[str]]], delimiter: str) -> int | None:
    """The first line of a multi-line record whose lines all look like records, as after a stray quotation mark.

    They do if all lines of the file have the same number of fields, or if each line has at least that number and its
    label, counted from the left or the right, is a value of the label column. Texts with line breaks rarely have such
    lines.
    """
    if not any("\n" in field or "\r" in field for _, fields in numbered for field in fields):
        return None
    lines = [line.split(delimiter) for line in _BREAK.split(text)]
    width = len(numbered[0][1])
    plain = all(len(line) == width for line in lines if line != [""])
    values = [set(column) - {""} for column in zip(*(fields for _, fields in numbered), strict=True)]
    ends = [line for line, _ in numbered[1:]] + [len(lines) + 1]
    for (first, _), end in zip(numbered, ends, strict=True):
        own = [line for line in lines[first - 1 : end - 1] if line != [""]]
        if len(own) < 2 or any(len(line) < width for line in own):
            continue
        places = range(-width, width)
        if plain or any(all(line[place].strip('"') in values[place] for line in own) for place in places):
            return first
    return None


# --- JSON


def _read_json(text: str, lines: bool) -> Columns:
    """The columns of JSON lines, of a list of objects (possibly under a key), or of an object of columns."""
    try:
        rows = _read_lines(text) if lines else _rows(json.loads(text))
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):  # one object after another: lines, whatever the file is called
            raise ValueError(f"is no valid JSON in line {error.lineno} ({error.msg})") from error
        rows = _read_lines(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    columns: Columns = {
        name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)
    }
    for name, column in columns.items():
        if broken := [row for row, value in enumerate(column) if isinstance(value, str) and _SURROGATE.search(value)]:
            raise ValueError(
                f"holds half a character (a lone surrogate) in data row {broken[0] + 1} of {quoted(name, 40)}"
            )
    return columns


def _read_lines(text: str) -> list[Mapping[str, Any]]:
    """The objects of JSON lines."""
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(_BREAK.split(text), start=1):
        try:
            row = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError as error:
            raise ValueError(f"is no valid JSON in line {number} ({error.msg})") from error
        if not isinstance(row, dict):
            raise ValueError(f"has no object in line {number}; each line must be one, with a key for each column")
        rows += [row] if row else []
    return rows


def _rows(content: Any) -> list[Mapping[str, Any]]:
    """The rows of a JSON document. Raises `ValueError` for an unknown layout."""
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        nested = [rows for rows in lists if rows and isinstance(rows[0], dict)]
        if len(nested) == 1:
            return _rows(nested[0])
        with suppress(ValueError):  # of lists that differ in length, and of values that are no columns
            return pd.DataFrame(content, dtype=object).to_dict("records")
    raise ValueError(
        "has an unknown layout; it must be JSON lines, a list of objects, one such list under a key, or an object of "
        'columns, such as [{"text": "...", "label": "..."}, ...]'
    )
