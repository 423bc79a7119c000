"""Labelling one's own texts: as the run did, or not at all, with one error."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_folders import edit_json, reviews, save_reviews
from made_trainings import make_run
from scipy.special import softmax

from peft_study.__main__ import main
from peft_study.data.tables import Columns, read_table
from peft_study.records.classifier import load_classifier, save_merged
from peft_study.records.labelling import label_table
from peft_study.records.model_card import write_card
from peft_study.records.read import read_arrays
from peft_study.records.write import write_record
from peft_study.statistics.calibration import temperature
from peft_study.study.variant import Variant

RUNS = ("full", "lora", "prompt")
TEST = reviews(60, seed=1).assign(text=lambda table: table["text"].str.replace("the", "the<br />"))


@pytest.fixture(scope="module")
def trained(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the records of three strategies, whose window keeps the start and the end of a text."""
    home = tmp_path_factory.mktemp("labelling")
    base = shutil.copytree(tiny["bert"], home / "encoder")
    data = save_reviews(home / "reviews", train=reviews(200), test=TEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_STUDY_HOME", str(home))
        patch.setenv("PEFT_STUDY_CACHE", str(home / "cache"))
        for strategy in RUNS:
            variant = Variant(
                **{"model": str(base), "dataset": str(data), "strategy": strategy, "max_length": 24, "epochs": 3.0},
                **{"train_size": 200, "test_size": None, "learning_rate": 5e-3, "precision": "fp32"},
            )
            run, folder = make_run(variant), home / "runs" / "own" / strategy
            training = run.train(folder)
            predictions = {part: run.predict(part) for part in ("test", "validation")}
            write_record(folder, variant, run.reviews, run.model, run.tokenizer, training, predictions, {})
            write_card(folder)
    return home


@pytest.fixture
def home(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of that home, in which a test may break what it likes."""
    shutil.copytree(trained / "runs", tmp_path / "home" / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_labels_and_probabilities_are_those_of_the_record_for_texts_within_the_window_and_beyond(
    home: Path, strategy: str
) -> None:
    folder, rng = home / "runs" / "own" / strategy, np.random.default_rng(0)
    held = {"labels": (labels := rng.integers(0, 2, 400)), "logits": rng.normal(0, 4, (400, 2)) + np.eye(2)[labels]}
    validation = folder / "validation_preds_and_labels.npz"
    np.savez(validation, **held, preds=held["logits"].argmax(axis=1), ids=np.arange(400))
    record, classifier = read_arrays(folder / "preds_and_labels.npz"), load_classifier(folder)
    assert classifier.temperature == temperature(held["logits"], labels) > 2
    logits, cut = classifier.logits(classifier.read(TEST["text"]))
    np.testing.assert_allclose(logits, record["logits"], atol=1e-4)
    assert 5 < cut.sum() < 55 and record["preds"].mean() == pytest.approx(0.5, abs=0.3)
    TEST.assign(id=range(60)).to_csv("texts.csv", index=False)
    label_table(folder, Path("texts.csv"))
    labelled = pd.read_csv("texts.labelled.csv")
    assert labelled["text"].tolist() == TEST["text"].tolist() and labelled["id"].tolist() == list(range(60))
    assert (labelled["predicted_label"] == np.array(["negative", "positive"])[record["preds"]]).all()
    assert (labelled["truncated"] == cut).all()
    chances = labelled[["probability_negative", "probability_positive"]].to_numpy()
    np.testing.assert_allclose(chances, softmax(record["logits"] / classifier.temperature, axis=1), atol=1e-4)
    validation.unlink()
    assert load_classifier(folder).temperature == 1


def test_rows_without_a_text_are_named_and_the_others_labelled(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts: list[Any] = ["a good film", "", None, 5, " <br /> ", "a dull plot"]
    Path("texts.jsonl").write_text("".join(json.dumps({"text": text, "n": 2**60}) + "\n" for text in texts))
    assert main(["label", "own/lora", "texts.jsonl", "-o", "out.json"]) == 0
    said, progress = capsys.readouterr()
    assert "2 of 6 texts labelled" in said and said.endswith("no text: data rows 2, 3, 4, 5\n")
    assert progress == "", "in a log a short labelling has none"
    rows = json.loads(Path("out.json").read_text())
    assert [row["text"] for row in rows] == texts and {row["n"] for row in rows} == {2**60}
    assert [row["predicted_label"] is None for row in rows] == [False, True, True, True, True, False]


def spoil(home: Path, how: str) -> None:
    """Damage the run `own/lora`."""
    folder = home / "runs" / "own" / "lora"
    if how == "interrupted":
        edit_json(folder / "metrics.json", training={"interrupted": True})
    elif how == "half-written":
        (folder / "metrics.json").write_text('{"run": {')
    elif how == "base":
        edit_json(folder / "model" / "adapter_config.json", base_model_name_or_path=str(home / "encoder"))
    else:
        (folder / how).rename(folder / "gone")


@pytest.mark.parametrize(
    ("how", "words", "fault"),
    [
        ("", ["own/lroa", "texts.csv"], r"unknown run 'own/lroa'; did you mean 'own/lora'\? .*own/full, .*own/prompt"),
        ("", ["own/lora"], "name a table of texts, or a folder for the model"),
        ("", ["own/lora", "no.csv"], "there is no file no.csv"),
        ("", ["own/lora", "texts.csv", "--text-column", "body"], "no column 'body' of texts; it has text, label; name"),
        ("", ["own/lora", "empty.csv"], "empty.csv: empty.csv holds no rows"),
        ("", ["own/lora", "two.csv"], "read with the delimiters ',' and ';'; set --delimiter to one"),
        ("", ["own/lora", "texts.csv", "--encoding", "utf-9"], "encoding = 'utf-9': it is not an encoding"),
        ("", ["own/lora", "texts.csv", "-o", "two.csv"], "two.csv exists; .* or replace it with --force"),
        ("", ["own/lora", "texts.csv", "-o", "texts.csv", "--force"], "is the table itself"),
        ("", ["own/lora", "texts.csv", "-o", "out.xlsx"], r"its suffix names no known format; end it in \.csv"),
        ("", ["own/lora", "taken.csv"], "has a column 'probability_positive' already"),
        (
            "model",
            ["own/lora", "texts.csv"],
            "the run 'own/lora' kept no model; to train it again, set save_model: true",
        ),
        ("metrics.json", ["own/lora", "texts.csv"], "the run 'own/lora' is not finished"),
        ("params.yaml", ["own/lora", "texts.csv"], r"the run 'own/lora': params.yaml cannot be read \(No such file"),
        ("half-written", ["own/lora", "texts.csv"], "the run 'own/lora': metrics.json cannot be read"),
        ("interrupted", ["own/lora", "texts.csv"], "the training of 'own/lora' was interrupted"),
        ("base", ["own/lora", "texts.csv"], "this folder of its base model is gone; restore it"),
        ("", ["own/prompt", "--merged", "plain"], "the adapter of Prompt tuning cannot be merged"),
        ("", ["own/lora", "--merged", "home"], "home exists; name another folder"),
    ],
)
def test_what_cannot_be_labelled_is_one_error_before_anything_is_written(
    home: Path, capsys: pytest.CaptureFixture[str], how: str, words: list[str], fault: str
) -> None:
    reviews(4).to_csv("texts.csv", index=False)
    Path("empty.csv").write_text("text,label\n")
    Path("two.csv").write_text("text,a;b\nfine,1;2\n")
    Path("taken.csv").write_text("text,probability_positive\nfine,1\n")
    if how:
        spoil(home, how)
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir()}
    assert main(["label", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and re.match(f"error: .*{fault}", said.err), said.err
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir()} == before


def test_a_stopped_labelling_leaves_the_old_file_and_nothing_else(home: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    reviews(4).to_csv("texts.csv", index=False)
    Path("out.csv").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        label_table(home / "runs" / "own" / "lora", Path("texts.csv"), Path("out.csv"), force=True, tell=stop)
    assert Path("out.csv").read_text() == "old" and {path.name for path in Path().iterdir()} >= {"texts.csv", "out.csv"}
    assert not list(Path().glob(".*"))


def test_a_run_is_found_by_its_path_and_its_texts_by_the_column_that_it_was_trained_on(home: Path) -> None:
    params = home / "runs" / "own" / "lora" / "params.yaml"
    params.write_text(params.read_text().replace("text_column: text", "text_column: body"))
    pd.DataFrame({"body": ["a good film"]}).to_csv("texts.tsv.gz", sep="\t", index=False)
    assert main(["label", "runs/own/lora/", "texts.tsv.gz"]) == 0
    columns, _ = read_table(Path("texts.labelled.tsv.gz"))
    assert list(columns) == ["body", *load_classifier(params.parent).columns]


@pytest.mark.parametrize("strategy", RUNS)
def test_the_code_of_a_model_card_gives_the_recorded_predictions_beside_an_adapter_and_once_merged(
    home: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "runs" / "own" / strategy
    record, places = read_arrays(folder / "preds_and_labels.npz"), [folder / "model"]
    if strategy != "prompt":
        save_merged(folder, home / "merged")
        assert not list((home / "merged").glob("adapter*"))
        places.append(home / "merged")
    for place in places:
        assert len({file.stat().st_mode for file in place.iterdir()}) == 1, "colleagues can read the weights, too"
        card = (place / "README.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        assert ("peft" in code) == (place.name == "model" and strategy != "full")
        monkeypatch.chdir(place)
        space: dict[str, Any] = {}
        exec(code, space)
        chances = [list(space["classify"](text).values()) for text in TEST["text"]]
        np.testing.assert_allclose(chances, softmax(record["logits"], axis=1), atol=1e-4)
        assert "to its first 6 and its last 16 tokens" in card


ODD: Columns = {
    "text": ["plain", 'a "quote", a comma; a tab\t', "two\nlines", "a lone\rreturn", "", "ünïcödé 🎬"],
    "n": ["1", "2", "", "4", "5", "6"],
}


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.json", "t.jsonl", "t.parquet"])
def test_what_is_written_is_read_again_unchanged_in_every_format(home: Path, name: str) -> None:
    Path("in.jsonl").write_text(
        "".join(json.dumps(dict(zip(ODD, row, strict=True))) + "\n" for row in zip(*ODD.values(), strict=True))
    )
    label_table(home / "runs" / "own" / "lora", Path("in.jsonl"), Path(name))
    columns = pd.read_parquet(name).to_dict("list") if name.endswith("parquet") else read_table(Path(name))[0]
    assert {key: list(columns[key]) for key in ODD} == ODD
    assert len(columns["truncated"]) == 6 and str(columns["truncated"][0]) == "False"
