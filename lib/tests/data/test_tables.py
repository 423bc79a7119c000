"""Text files are read exactly as they are, or refused: every row, every value, whatever quotes, marks and encodings."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from peft_study.data.datasets import load_dataset
from peft_study.data.tables import DELIMITERS, read_table
from peft_study.errors import StudyError

FAST = examples(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
AWKWARD = st.text("ab \"',;\t|\n\r", max_size=12)
LABELS = st.sampled_from(["a", "b", "007", "1", "1.0", ""])
FLAT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0\ufeff"), max_size=20)
ROWS = st.lists(st.tuples(ANYTHING | AWKWARD, LABELS), min_size=1, max_size=12)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "cp1251", "latin-1"]


def read(folder: Path, name: str, content: str | bytes, **how: Any) -> list[tuple[Any, Any]]:
    """The rows of a file with the columns text and label."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    columns, _ = read_table(folder / name, **how)
    return list(zip(columns["text"], columns["label"], strict=True))


def written(rows: list[tuple[str, str]], **how: Any) -> str:
    """A table as Python's csv module writes it."""
    stream = io.StringIO()
    csv.writer(stream, **how).writerows([("text", "label"), *rows])
    return stream.getvalue()


@FAST
@given(rows=ROWS, delimiter=st.sampled_from(DELIMITERS), quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_what_a_csv_writer_wrote_is_read_row_by_row(
    rows: list[tuple[str, str]], delimiter: str, quoting: Any, tmp_path: Path
) -> None:
    content = written(rows, delimiter=delimiter, quoting=quoting)
    try:
        assert read(tmp_path, "a.csv", content) == rows
    except ValueError as error:  # rows that could as well be others
        assert "merges several rows into one" in str(error) and any(set("\n\r") & set(text) for text, _ in rows)


@FAST
@given(lines=st.lists(st.tuples(st.text('ab "', max_size=6), st.sampled_from("xy")), min_size=2, max_size=8))
@pytest.mark.parametrize(("name", "mark"), [("a.tsv", "\t"), ("a.csv", ",")])
def test_a_row_is_never_swallowed_by_a_quotation_mark_that_nobody_closed(
    name: str, mark: str, lines: list[tuple[str, str]], tmp_path: Path
) -> None:
    content = "\n".join(["text" + mark + "label", *(mark.join(line) for line in lines)]) + "\n"
    try:
        rows = read(tmp_path, name, content)
    except ValueError as error:
        assert "line" in str(error) and '"' in content
    else:
        assert len(rows) == len(lines)


@FAST
@given(rows=st.lists(st.tuples(FLAT, LABELS), min_size=1, max_size=12), encoding=st.sampled_from(ENCODINGS))
def test_an_encoding_is_read_right_or_refused(rows: list[tuple[str, str]], encoding: str, tmp_path: Path) -> None:
    controls = {chr(code) for code in range(0x80, 0xA0)}  # their bytes in Latin-1 are letters and marks of Windows-1252
    assume(encoding != "latin-1" or not any(controls & set(text) for text, _ in rows))
    try:
        content = written(rows).encode(encoding)
    except UnicodeEncodeError:
        return
    with suppress(UnicodeDecodeError):  # bytes of a code page that are UTF-8 of something else, too
        assume(encoding.startswith("utf-") or content.decode() == written(rows))
    try:
        recognised = read(tmp_path, "a.csv", content)
    except ValueError:
        assert encoding not in ("utf-8", "utf-8-sig", "utf-16")
    else:
        assert recognised == rows or encoding == "utf-16-le", "read as something else"
    assert read(tmp_path, "a.csv", content, encoding=encoding) == rows


@pytest.mark.parametrize(
    ("content", "encoding", "read_as"),
    [
        ("text,label\nmüde – die Tür klemmt,a\ngut,b\n", "cp1252", True),
        ("text,label\nплохо,a\nхорошо,b\n", "cp1251", False),
        ("text,label\nκακό,a\nκαλό,b\n", "cp1253", False),
        ("text,label\npříliš žluťoučký,a\nkůň,b\n", "cp1250", False),
        ("text,label\nmüde,a\ngut,b\n", "mac-roman", False),
        ("text,label\nmüde,a\ngut,b\n", "cp850", False),
        ("text,label\n悪い,a\n良い,b\n", "shift-jis", False),
        ("text,label\nbad,a\ngood,b\n", "utf-16-be", True),
    ],
)
def test_a_code_page_is_recognised_where_it_is_certain_and_else_the_field_is_named(
    content: str, encoding: str, read_as: bool, tmp_path: Path
) -> None:
    rows = [tuple(line.split(",")) for line in content.splitlines()[1:]]
    if read_as:
        assert read(tmp_path, "a.csv", content.encode(encoding)) == rows
    else:
        with pytest.raises(
            ValueError, match=r"is not UTF-8, see line [23] \(byte 0x..\); save it as UTF-8, or set `enc"
        ):
            read(tmp_path, "a.csv", content.encode(encoding))
    assert read(tmp_path, "a.csv", content.encode(encoding), encoding=encoding) == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "text,label\nfine,a\nbad,b,c,d\n",
            "has 4 fields in line 3 and 2 in its first line, delimited by ','",
        ),
        (
            "a.csv",
            'text,label\n"fine,a\nbad,b\n',
            "a quotation mark in the row that begins in line 2 which is not closed",
        ),
        (
            "a.csv",
            'text,label\n"5 inch,a\nfine,b\n6 inch",a\nbad,b\n',
            "quotation mark in line 2 that merges several rows",
        ),
        (
            "a.csv",
            'text,label\n"5 inch, or so,a\nfine,b\n6 inch",a\nbad,b\n',
            "quotation mark in line 2 that merges several rows",
        ),
        (
            "a.csv",
            "text,label\nfine,a\ntext,label\nbad,b\n",
            "repeats the names of the columns in data row 2; remove that row",
        ),
        (
            "a.csv",
            gzip.compress(b"text,label\n", mtime=0),
            "is a gzip file, not text, whatever its name; unpack it, rename",
        ),
        ("a.jsonl", b"PK\3\4" + b"\0" * 99, r"is a zip \(or spreadsheet\) file, not text, whatever its name"),
        ("a.csv", "text;label,x\na;b,c\n", "can be read with the delimiters ',' and ';'; set `delimiter` to one"),
        ("a.csv", "text,text,label\na,b,c\n", "names the column 'text' twice"),
        ("a.jsonl", '{"text": "fine"\nwhat', r"is no valid JSON in line 1 \(Expecting ',' delimiter\)"),
        ("a.jsonl", '{"text": "fine"}\n3\n', "has no object in line 2; each line must be one"),
        (
            "a.json",
            '{"text": 3}',
            "has an unknown layout; it must be JSON lines, a list of objects, one such list under",
        ),
        (
            "a.json",
            '[{"text": "\\ud83d", "label": "a"}]',
            r"holds half a character \(a lone surrogate\) in data row 1 of 'te",
        ),
        ("a.csv.gz", "text,label\n", "is a truncated or invalid gzip file"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", "text,label\n", "holds no rows"),
        ("a.jsonl", "\n", "holds no rows"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line_that_names_the_place(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, name, content)
    assert len(str(error.value)) < 400


def test_quotation_marks_in_a_tsv_file_may_be_plain_characters(tmp_path: Path) -> None:
    assert read(tmp_path, "a.tsv", 'text\tlabel\n"5 inch\ta\nfine\tb\n') == [('"5 inch', "a"), ("fine", "b")]


def test_the_first_line_of_a_spreadsheets_export_may_tell_the_delimiter(tmp_path: Path) -> None:
    for first in ("\ufeffsep=;\r\n", '"sep=;"\n', "SEP=;\r"):
        assert read(tmp_path, "a.csv", f"{first}text;label\r\na,b;c\r\n", encoding="utf-8") == [("a,b", "c")]


def test_a_space_after_each_delimiter_belongs_to_no_value_and_one_within_quotation_marks_does(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv", 'label, text\n1, "a, b"\n2, c\n') == [("a, b", "1"), ("c", "2")]
    assert read(tmp_path, "a.csv", 'text,label\n"a", "1"\n"b", "2"\n') == [("a", "1"), ("b", "2")]
    rows = [(' "a" b', "x"), ('b, "c" d', "y"), ("e, ", " z")]
    assert read(tmp_path, "a.csv", written(rows)) == rows


def test_an_encoding_that_contradicts_the_bytes_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nmüde,a\ngut,b\n")
    assert read_table(tmp_path / "a.csv", "cp1252")[1] == ["is valid UTF-8, and was read as cp1252"]
    assert read_table(tmp_path / "a.csv", "utf-8")[1] == []


def test_a_text_of_several_lines_is_one_row(tmp_path: Path) -> None:
    rows = [("Good, at first.\nThen, not so.", "neg"), ("fine", "pos"), ("bad", "neg"), ("x\n\ny", "pos")]
    assert read(tmp_path, "a.csv", written(rows)) == rows


ROW = {"text": "a", "label": 1}
LAYOUTS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "list": json.dumps,
    "lines": lambda rows: "\n\n".join(map(json.dumps, rows)),
    "under a key": lambda rows: json.dumps({"version": "1", "data": rows}),
    "columns": lambda rows: json.dumps({name: [row[name] for row in rows] for name in ROW}),
    "columns by row": lambda rows: json.dumps(
        {name: {str(i): row[name] for i, row in enumerate(rows)} for name in ROW}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_usual_layout_of_json_gives_the_same_rows(layout: str, tmp_path: Path) -> None:
    rows = [ROW, {"text": "b", "label": 2.0}, {"text": "c", "label": "d"}]
    expected = [(row["text"], row["label"]) for row in rows]
    names = ["a.jsonl", "a.ndjson", "a.json"] if layout == "lines" else ["a.json"]
    for name in names:
        assert read(tmp_path, name, LAYOUTS[layout](rows)) == expected
        assert read(tmp_path, f"{name}.gz".upper(), gzip.compress(LAYOUTS[layout](rows).encode())) == expected


@pytest.mark.parametrize("name", ["texts [v2] {x} 'q' ü.csv", "-a.TSV", "a b.CSV.GZ"])
def test_a_name_with_brackets_and_the_like_is_an_ordinary_one(name: str, tmp_path: Path) -> None:
    content = written([("fine", "a")], delimiter="\t" if "TSV" in name else ",").encode()
    folder = tmp_path / "[x] {y} 'z' \"ä\""
    folder.mkdir()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    for place in (folder, folder / name):
        splits = load_dataset(str(place)).splits
        assert splits["train"].columns == {"text": ["fine"], "label": ["a"]}


def test_pointers_of_git_lfs_and_files_that_no_split_takes_are_named(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv", ".backup/train.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(written([("fine", "a")]))
    assert load_dataset(str(tmp_path)).notes == ("ignored files, which belong to no split: .backup/train.csv",)
    assert set(load_dataset(str(tmp_path / ".backup")).splits) == {"train"}
    (tmp_path / "test.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")
    with pytest.raises(StudyError, match=r"test\.csv is a pointer of git-lfs, not the data; run `git lfs pull`"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "nowhere.csv"], r"nowhere.csv is a link to a file that is not there; restore or remove it"),
        (["train.csv.zip"], "holds train.csv.zip, which is no parquet, CSV or JSON file; unpack or convert it"),
        (["train/good/1.txt"], "holds train/good/1.txt, which is no parquet, CSV or JSON file; unpack or convert it"),
        (["train.parquet"], "train.parquet is a truncated or invalid parquet file; copy or download it again"),
    ],
)
def test_a_folder_of_files_that_nobody_reads_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name == "nowhere.csv":
            (tmp_path / name).symlink_to("gone.csv")
        else:
            (tmp_path / name).write_text("text,label\nfine,a\n")
    with pytest.raises(StudyError, match=message):
        load_dataset(str(tmp_path))


def test_a_shard_that_is_missing_is_told(tmp_path: Path) -> None:
    for i in (0, 2):
        (tmp_path / f"train-0000{i}-of-00003.csv").write_text(written([("fine", "a")]))
    assert load_dataset(str(tmp_path)).notes == ("the split 'train' has 2 of its 3 shards",)


def test_capitals_in_the_names_of_files_change_no_split_and_several_files_of_one_are_named(tmp_path: Path) -> None:
    for name in ("Train.csv", "TEST.csv", "train_2.CSV"):
        (tmp_path / name).write_text(written([("fine", "a")]))
    loaded = load_dataset(str(tmp_path))
    assert {split: len(table.columns["text"]) for split, table in loaded.splits.items()} == {"train": 2, "test": 1}
    assert loaded.notes == ("the split 'train' combines several files: Train.csv, train_2.CSV",)


def test_a_field_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(StudyError, match=r"a\.jsonl has no delimiter; leave `delimiter` out"):
        load_dataset(str(tmp_path / "a.jsonl"), delimiter=";")
    with pytest.raises(StudyError, match=r"dataset_config = 'x': .* has no configurations; leave it out"):
        load_dataset(str(tmp_path / "a.jsonl"), config="x")
