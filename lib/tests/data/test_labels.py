"""Any dataset of texts and labels is a study: its columns, its classes and their names, whatever file it is in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_folders import reviews, save_reviews

from peft_study.data import reviews as data
from peft_study.errors import StudyError
from peft_study.study.variant import Variant

Make = Callable[..., Variant]
Write = Callable[[pd.DataFrame, Path], Any]

KINDS: dict[str, Write] = {
    ".csv": lambda table, file: table.to_csv(file, index=False),
    ".tsv": lambda table, file: table.to_csv(file, index=False, sep="\t"),
    ".json": lambda table, file: table.to_json(file, orient="records"),
    ".jsonl": lambda table, file: table.to_json(file, orient="records", lines=True),
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
}


def named(count: int = 200, names: tuple[str, ...] = ("None", "b", "NA", "a"), seed: int = 0) -> pd.DataFrame:
    """Reviews whose labels are the `names` in turn; some are what pandas would take for nothing."""
    return reviews(count, seed).assign(label=[names[i % len(names)] for i in range(count)])


def save_named(folder: Path, names: list[str], **splits: pd.DataFrame) -> Path:
    """A dataset folder whose labels are a `ClassLabel` with these names."""
    from datasets import ClassLabel, Dataset, Features, Value

    (folder / "plain_text").mkdir(parents=True)
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    for name, table in splits.items():
        made = Dataset.from_pandas(table, features=features, preserve_index=False)
        made.to_parquet(folder / "plain_text" / f"{name}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def load(variant: Make) -> Callable[..., data.Corpus]:
    """Loads a dataset, of which 40 reviews are held out where it has no test split."""
    return lambda place, **fields: data.load_corpus(
        variant(**{"dataset": str(place), "test_size": 40, "ood_dataset": None} | fields)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_any_kind_gives_the_same_reviews(kind: str, load: Any, tmp_path: Path) -> None:
    KINDS[kind](named(), tmp_path / f"texts{kind}")
    corpus, same = load(tmp_path / f"texts{kind}"), load(save_reviews(tmp_path / "folder", train=named()))
    assert corpus.labels == ("NA", "None", "a", "b") and corpus.held_out
    assert corpus.fingerprint == same.fingerprint and len(corpus.test) == 40
    pd.testing.assert_frame_equal(corpus.pool, same.pool)


def test_a_folder_of_files_with_an_official_test_split_holds_nothing_out(load: Any, tmp_path: Path) -> None:
    named().to_csv(tmp_path / "train.csv", index=False)
    named(60, seed=1).to_csv(tmp_path / "test.csv", index=False)
    corpus = load(tmp_path, test_size=None)
    assert not corpus.held_out and (len(corpus.pool), len(corpus.test)) == (200, 60)
    assert corpus.labels == ("NA", "None", "a", "b")


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([0, 1], None, ("negative", "positive")),
        (["spam", "ham"], None, ("ham", "spam")),
        (["spam", "ham"], ["spam", "ham"], ("spam", "ham")),
        ([1, 2, 3, 10], None, ("1", "2", "3", "10")),
        ([0, 1, 2], ["low", "middle", "high"], ("low", "middle", "high")),
    ],
)
def test_classes_are_called_what_the_study_or_else_the_dataset_calls_them(
    labels: list[Any], names: list[str] | None, expected: tuple[str, ...], load: Any, tmp_path: Path
) -> None:
    table = reviews(200).assign(label=[labels[i % len(labels)] for i in range(200)])
    corpus = load(save_reviews(tmp_path / "named", train=table), label_names=names)
    assert corpus.labels == expected
    order = {label: i for i, label in enumerate(sorted(labels))}
    if names and isinstance(labels[0], str):
        order = {name: i for i, name in enumerate(names)}
    rows = corpus.pool.sort_values("id")
    assert rows["label"].tolist() == [order[table["label"][i]] for i in rows["id"]]


def test_the_names_of_a_class_label_are_kept_in_its_order(load: Any, tmp_path: Path) -> None:
    table = reviews(200).assign(label=[i % 3 for i in range(200)])
    folder = save_named(tmp_path / "three", ["world", "sport", "art", "nobody"], train=table)
    assert load(folder).labels == ("world", "sport", "art")
    assert load(folder, label_names=["a", "b", "c"]).labels == ("a", "b", "c")


def test_another_kind_of_reviews_may_call_the_same_classes_otherwise(load: Any, tmp_path: Path) -> None:
    texts = reviews(40, seed=2)
    main = save_reviews(tmp_path / "main", train=reviews(200).assign(label=["bad", "good"] * 100))
    others = {
        "numbers": save_reviews(tmp_path / "numbers", test=texts),
        "names": save_reviews(tmp_path / "names", test=texts.assign(label=["bad", "good"] * 20)),
        "order": save_named(tmp_path / "order", ["good", "bad"], test=texts.assign(label=1 - texts["label"])),
        "words": save_named(tmp_path / "words", ["down", "up"], test=texts),
    }
    for folder in others.values():
        ood = load(main, ood_dataset=str(folder), ood_size=None).ood
        assert ood is not None and ood["label"].tolist() == texts["label"].tolist()
    strange = save_reviews(tmp_path / "strange", test=texts.assign(label=["bad", "ugly"] * 20))
    with pytest.raises(StudyError, match=r"ood_dataset = .* has labels that the training split lacks: 'ugly'"):
        load(main, ood_dataset=str(strange), ood_size=None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nfine,a\nbad,b,c,d\n", "cannot be read as a dataset .ParserError: .*line 3"),
        ("a.jsonl", '{"text": "fine"\nwhat', "cannot be read as a dataset .ArrowInvalid: JSON parse error"),
        ("a.parquet", "no parquet", "cannot be read as a dataset .ArrowInvalid: Parquet magic bytes"),
        (
            "a.xls",
            "text",
            "there is no folder .*a.xls, nor a dataset in a file of that name .*.csv, .tsv, .json, .jsonl, .parq",
        ),
    ],
)
def test_a_file_that_cannot_be_read_says_where_it_goes_wrong(
    name: str, content: str, message: str, load: Any, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(StudyError, match=message):
        load(tmp_path / name)


@pytest.mark.parametrize("names", [["one"], ["a", "a"], ["a", ""], "ab"])
def test_names_that_are_none_are_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="label_names"):
        Variant(label_names=names)
