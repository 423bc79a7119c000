"""Any dataset of texts and labels is a study: its columns, its classes and their names, whatever file it is in."""

import csv
import json
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
    ".NDJSON": lambda table, file: table.to_json(file, orient="records", lines=True),
    ".csv.gz": lambda table, file: table.to_csv(file, index=False, encoding="utf-16"),
    ".tsv.gz": lambda table, file: table.to_csv(file, index=False, sep=";", quoting=csv.QUOTE_ALL),
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
}


def named(count: int = 200, names: tuple[Any, ...] = ("None", "b", "NA", "a"), seed: int = 0) -> pd.DataFrame:
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
@pytest.mark.parametrize("names", [("None", "b", "NA", "a"), (0.0, 1.0), (True, False), ("007", "7", "é ")])
def test_a_file_of_any_kind_gives_the_same_reviews(
    kind: str, names: tuple[Any, ...], load: Any, tmp_path: Path
) -> None:
    table = named(names=names)
    KINDS[kind](table, tmp_path / f"texts{kind}")
    corpus, same = load(tmp_path / f"texts{kind}"), load(save_reviews(tmp_path / "folder", train=table))
    expected = ("negative", "positive") if names == (0.0, 1.0) else tuple(sorted(map(str, names)))
    assert corpus.labels == expected and corpus.held_out
    assert [note[:24] for note in corpus.notes] == ["labels 0 and 1 are taken"] * (expected[0] == "negative")
    assert corpus.fingerprint == same.fingerprint and len(corpus.test) == 40
    pd.testing.assert_frame_equal(corpus.pool, same.pool)


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


# --- labels of several sources


SAID = {  # the same labels of two classes, as sources may store them
    "numbers": {
        "numbers": lambda i: i,
        "floats": float,
        "texts": str,
        "texts of floats": lambda i: f"{i}.0",
        "classes": lambda i: ("0", "1"),
    },
    "words": {"texts": lambda i: ("bad", "good")[i], "classes": lambda i: ("bad", "good")},
    "truths": {"truths": bool, "texts": lambda i: str(bool(i)), "lower case": lambda i: str(bool(i)).lower()},
}
PAIRS = [(kind, one, other) for kind, ways in SAID.items() for one in ways for other in ways]


def save_said(folder: Path, split: str, table: pd.DataFrame, way: Callable[[int], Any]) -> Path:
    """Reviews whose labels are stored in one of these ways; a `ClassLabel` where that is a tuple of names."""
    values = [way(label) for label in table["label"]]
    if isinstance(values[0], tuple):
        return save_named(folder, list(values[0]), **{split: table})
    return save_reviews(folder, **{split: table.assign(label=values)})


@pytest.mark.parametrize(("kind", "one", "other"), PAIRS)
def test_labels_are_the_same_where_they_say_the_same(
    kind: str, one: str, other: str, load: Any, tmp_path: Path
) -> None:
    table, texts = reviews(200), reviews(40, seed=2)
    main = save_said(tmp_path / "main", "train", table, SAID[kind][one])
    second = save_said(tmp_path / "second", "test", texts, SAID[kind][other])
    corpus = load(main, ood_dataset=str(second), ood_size=None)
    assert corpus.ood["label"].tolist() == texts["label"].tolist()
    assert corpus.labels == {"numbers": ("negative", "positive"), "words": ("bad", "good")}.get(kind, ("False", "True"))
    first = load(save_said(tmp_path / "first", "train", table, next(iter(SAID[kind].values()))))
    assert corpus.pool.equals(first.pool) and corpus.fingerprint == first.fingerprint


def test_the_order_of_a_class_label_changes_neither_the_reviews_of_a_split_nor_the_fingerprint(
    load: Any, tmp_path: Path
) -> None:
    table = reviews(200).assign(label=[i % 3 for i in range(200)])
    one = load(save_named(tmp_path / "one", ["a", "b", "c"], train=table))
    other = load(save_named(tmp_path / "other", ["c", "a", "b"], train=table.assign(label=(table["label"] + 1) % 3)))
    assert one.labels == ("a", "b", "c") and other.labels == ("c", "a", "b")
    assert one.fingerprint == other.fingerprint
    for part in ("pool", "test"):
        rows, others = getattr(one, part), getattr(other, part)
        assert rows["text"].tolist() == others["text"].tolist()
        assert [one.labels[i] for i in rows["label"]] == [other.labels[i] for i in others["label"]]


def test_numbers_are_those_of_a_class_label_on_the_other_side_unless_names_say_otherwise(
    load: Any, tmp_path: Path
) -> None:
    texts = reviews(40, seed=2)
    numbers = save_reviews(tmp_path / "numbers", train=reviews(200), test=texts)
    classes = save_named(tmp_path / "classes", ["down", "up"], train=reviews(200), test=texts)
    turned = save_named(tmp_path / "turned", ["positive", "negative"], test=texts)
    for main, second in ((numbers, classes), (classes, numbers)):
        assert load(main, ood_dataset=str(second), ood_size=None).ood["label"].tolist() == texts["label"].tolist()
    with pytest.raises(StudyError, match="which match different classes of the training split by name and by number"):
        load(numbers, ood_dataset=str(turned), ood_size=None)
    corpus = load(numbers, ood_dataset=str(turned), ood_size=None, label_names=["negative", "positive"])
    assert corpus.ood["label"].tolist() == (1 - texts["label"]).tolist()


def test_labels_that_say_something_else_are_refused_and_never_matched_by_their_places(
    load: Any, tmp_path: Path
) -> None:
    texts = reviews(40, seed=2)
    main = save_reviews(tmp_path / "main", train=reviews(200).assign(label=["bad", "good"] * 100))
    others = {
        "numbers": save_reviews(tmp_path / "numbers", test=texts),
        "words": save_named(tmp_path / "words", ["down", "up"], test=texts),
        "strange": save_reviews(tmp_path / "strange", test=texts.assign(label=["bad", "ugly"] * 20)),
    }
    for name, said in (("numbers", "0, 1"), ("words", "'down', 'up'"), ("strange", "'ugly'")):
        with pytest.raises(
            StudyError, match=f"ood_dataset = .* has labels that the training split lacks: {said}; it has"
        ):
            load(main, ood_dataset=str(others[name]), ood_size=None)
    renamed = load(save_named(tmp_path / "named", ["no", "yes"], train=reviews(200)), label_names=["down", "up"])
    assert renamed.labels == ("down", "up")


def test_minus_one_is_a_label_but_in_a_class_label(load: Any, tmp_path: Path) -> None:
    table = reviews(200).assign(label=[-1, 0, 1, 1] * 50)
    folder = save_reviews(tmp_path / "polarity", train=table)
    assert load(folder).labels == ("-1", "0", "1")
    corpus = load(folder, label_names=["negative", "neutral", "positive"])
    assert [corpus.labels[i] for i in corpus.test["label"].head(3)]
    assert corpus.labels == ("negative", "neutral", "positive") and set(corpus.pool["label"]) == {0, 1, 2}
    with pytest.raises(
        StudyError, match=r"has 50 rows without a label, the first being data row 1; correct or remove them"
    ):
        load(save_named(tmp_path / "named", ["a", "b"], train=table))


def test_what_is_assumed_of_labels_and_empty_texts_are_told(load: Any, tmp_path: Path) -> None:
    table = reviews(200)
    table.loc[[0, 1, 2], "text"] = ["", " ", "\n"]
    corpus = load(save_reviews(tmp_path / "plain", train=table))
    assert "empty texts of the training split: 3 of 200" in corpus.notes
    assert (
        "labels 0 and 1 are taken as negative and positive; set label_names if they mean something else" in corpus.notes
    )
    assert not any("taken as" in note for note in load(tmp_path / "plain", label_names=["ham", "spam"]).notes)


def test_one_text_with_two_labels_is_told_and_so_are_labels_much_alike(load: Any, tmp_path: Path) -> None:
    table = reviews(200).assign(label=["spam", "ham"] * 100)
    table.loc[[0, 2], "label"] = ["Spam", "spam "]
    table.loc[[4], "label"] = "sp\u200bam"
    corpus = load(save_reviews(tmp_path / "untidy", train=pd.concat([table, table.head(30).assign(label="ham")])))
    assert corpus.conflicts == 15
    text = " | ".join(corpus.notes)
    assert "texts with more than one label: 15 (the first training row of each is kept)" in text
    assert (
        "the labels 'Spam', 'spam', 'spam ', 'sp\\u200bam' differ only in case, spaces or Unicode form; each is a class"
        in text
    )
    first = table.drop_duplicates("text").set_index("text")["label"]
    kept = corpus.pool.assign(named=[corpus.labels[i] for i in corpus.pool["label"]])
    assert (first[kept["text"]].to_numpy() == kept["named"].to_numpy()).all()


def test_labels_with_fractions_or_other_words_in_training_alone_are_the_same_in_the_test_split(
    load: Any, tmp_path: Path
) -> None:
    for train, test in ((["0.5", "1.0", "2.0"], ["1.0", "2.0"]), (["TRUE", "FALSE", "maybe"], ["TRUE", "FALSE"])):
        (folder := tmp_path / train[0]).mkdir()
        for split, names in (("train", train), ("test", test)):
            named(120, tuple(names), seed=len(names)).to_csv(folder / f"{split}.csv", index=False)
        corpus = load(folder)
        assert corpus.labels == tuple(sorted(train))
        assert {corpus.labels[label] for label in corpus.test["label"]} == set(test)


@pytest.mark.parametrize("disk", [False, True])
def test_the_files_of_a_folder_keep_their_own_types_and_the_order_of_their_classes(
    disk: bool, load: Any, tmp_path: Path
) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    def save(place: Path, **labels: Any) -> Path:
        """A folder with these splits: the names of a `ClassLabel`, or a function of 0 and 1."""
        splits = DatasetDict()
        for name, kind in labels.items():
            table = reviews(200 if name == "train" else 60, seed=len(name))
            if isinstance(kind, list):
                table["label"] = [kind.index(("bad", "good")[label]) for label in table["label"]]
            else:
                table["label"] = list(map(kind, table["label"]))
            kinds = Features({"text": Value("string"), "label": ClassLabel(names=kind)}) if type(kind) is list else None
            splits[name] = Dataset.from_pandas(table, features=kinds, preserve_index=False)
        place.mkdir()
        if disk:
            splits.save_to_disk(str(place))
        else:
            for name, table in splits.items():
                table.to_parquet(place / f"{name}.parquet")
        return place

    def word(label: int) -> str:
        return ("bad", "good")[label]

    expected = load(save(tmp_path / "plain", train=["bad", "good"], test=["bad", "good"]))
    for name, test in (("turned", ["good", "bad"]), ("words", word)):
        corpus = load(save(tmp_path / name, train=["bad", "good"], test=test))
        assert corpus.fingerprint == expected.fingerprint and corpus.test.equals(expected.test)
    with pytest.raises(StudyError, match="has labels that the training split lacks: '01', '02'"):
        load(save(tmp_path / "codes", train=lambda i: i + 1, test=lambda i: f"0{i + 1}"))
    if not disk:
        shards = {"train-1": ["bad", "good"], "train-2": ["good", "bad"]}
        with pytest.raises(
            StudyError, match=r"train-2.parquet numbers the classes of 'label' otherwise than the files"
        ):
            load(save(tmp_path / "shards", **shards))


def test_one_dataset_that_was_saved_to_disk_is_a_training_split(load: Any, tmp_path: Path) -> None:
    from datasets import Dataset

    table = named()
    Dataset.from_pandas(table, preserve_index=False).save_to_disk(str(tmp_path / "saved"), num_shards=3)
    assert load(tmp_path / "saved").fingerprint == load(save_reviews(tmp_path / "same", train=table)).fingerprint


def test_out_of_domain_texts_that_are_trained_on_are_counted(load: Any, tmp_path: Path) -> None:
    main = save_reviews(tmp_path / "main", train=reviews(200))
    other = save_reviews(tmp_path / "other", test=pd.concat([reviews(200).head(7), reviews(30, seed=3)]))
    corpus = load(main, ood_dataset=str(other), ood_size=None)
    assert "out-of-domain texts that are also texts of the training split: 7 of 37" in corpus.notes


# --- splits


def test_a_split_whose_labels_are_withheld_is_explained_and_another_can_be_tested_on(load: Any, tmp_path: Path) -> None:
    train, test, hidden = reviews(200), reviews(60, seed=1), reviews(60, seed=2).assign(label=-1)
    folder = save_named(tmp_path / "glue", ["down", "up"], train=train, validation=test, test=hidden)
    with pytest.raises(
        StudyError, match=r"has no labels; where .* test_split to 'validation', or set test_split: train"
    ):
        load(folder, test_size=None)
    corpus = load(folder, test_size=None, test_split="validation")
    assert not corpus.held_out and len(corpus.test) == 60
    assert any("unused splits: 'test'" in note for note in corpus.notes)
    corpus = load(folder, test_split="train")
    assert corpus.held_out and (len(corpus.test), len(corpus.pool)) == (40, 160)
    with pytest.raises(StudyError, match="has no split 'dev'; set test_split to one of 'train', 'validation', 'test'"):
        load(folder, test_split="dev")


def test_a_competition_whose_test_file_has_no_labels_says_which_line_to_write(load: Any, tmp_path: Path) -> None:
    reviews(200).to_csv(tmp_path / "train.csv", index=False)
    reviews(60, seed=1).drop(columns="label").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(StudyError, match=r"no such column; it has text; where .* set test_split: train"):
        load(tmp_path)
    assert load(tmp_path / "train.csv").pool.equals(load(tmp_path, test_split="train").pool)


def test_one_of_several_configurations_is_named_by_a_field(load: Any, tmp_path: Path) -> None:
    for name, labels in (("desks", ["a", "b"]), ("urgency", ["high", "low"])):
        (tmp_path / name).mkdir()
        reviews(200).assign(label=labels * 100).to_csv(tmp_path / name / "train.csv", index=False)
    configs = [{"config_name": name, "data_files": f"{name}/train.csv"} for name in ("desks", "urgency")]
    (tmp_path / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    with pytest.raises(StudyError, match="configurations: desks, urgency; set dataset_config to one"):
        load(tmp_path)
    assert load(tmp_path, dataset_config="urgency").labels == ("high", "low")
    assert load(tmp_path / "desks" / "train.csv", ood_dataset=str(tmp_path), ood_dataset_config="desks").ood is not None


def test_a_class_with_a_single_text_is_trained_on_and_the_test_set_is_said_to_lack_it(
    load: Any, tmp_path: Path
) -> None:
    table = reviews(100).assign(label=["a", "b"] * 50)
    table.loc[0, "label"] = "rare"
    corpus = load(save_reviews(tmp_path / "tail", train=table), test_size=90)
    assert corpus.pool["label"].nunique() == 3 and any("'rare' (0)" in note for note in corpus.notes)


@pytest.mark.parametrize("names", [["one"], ["a", "a"], ["a", ""], "ab"])
def test_names_that_are_none_are_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="label_names"):
        Variant(label_names=names)
