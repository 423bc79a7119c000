"""A study of four classes with text labels, from files to the report: notebooks, record, model card, figures."""

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from made_folders import WORDS, save_reviews
from made_studies import execute
from sklearn.metrics import accuracy_score, f1_score, log_loss
from transformers import pipeline

from peft_study import paths
from peft_study.analysis import accuracy
from peft_study.records.classifier import load_classifier, save_merged
from peft_study.records.read import Runs, load_runs
from peft_study.report import sentences
from peft_study.text import markdown_escape

NAMES = ("$5 *deals*", "<b>crafts</b> & arts", "sport", "world_news")
SPEAKS = (("cheap", "sale"), ("clay", "loom"), ("goal", "match"), ("treaty", "envoy"))
RUNS = ("full-n00120-s1", "lora-n00120-s1")
FULL, LORA = RUNS


def texts(count: int, seed: int = 0) -> pd.DataFrame:
    """Articles whose class shows in two of their words, but of every eleventh is another.

    The first class is as common as the three others together.
    """
    rng = np.random.default_rng(seed)
    kinds = [(0, 1, 0, 2, 0, 3)[i % 6] for i in range(count)]
    bodies = [
        " ".join(rng.permutation([*rng.choice(WORDS, rng.integers(3, 20)), *rng.choice(SPEAKS[kind], 2)])) + f" {i}"
        for i, kind in enumerate(kinds)
    ]
    return pd.DataFrame(
        {"article": bodies, "topic": [NAMES[(kind + (i % 11 == 0)) % 4] for i, kind in enumerate(kinds)]}
    )


@pytest.fixture(scope="module")
def home(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where 01, 02 (twice) and 03 have run on the articles; others, of another format, test them too."""
    root = tmp_path_factory.mktemp("four")
    (root / "articles").mkdir()
    texts(240).to_json(root / "articles" / "train.jsonl", orient="records", lines=True)
    texts(72, seed=1).to_json(root / "articles" / "test.jsonl", orient="records", lines=True)
    save_reviews(root / "other", test=texts(36, seed=2))
    study = {
        "title": "Topics",
        "question": "Which topic is it?",
        "defaults": {
            **{"model": str(tiny["distilbert"]), "dataset": "articles", "ood_dataset": "other"},
            **{"text_column": "article", "label_column": "topic", "test_size": None, "ood_size": None},
            **{"train_size": 120, "max_length": 32, "truncation": "head", "epochs": 6.0, "evaluations": 2},
            **{"precision": "fp32"},
        },
        "strategies": {"full": {"learning_rate": 1e-2}, "lora": {"learning_rate": 5e-3}},
        "matrix": {"strategy": ["full", "lora"], "train_size": [120], "seed": [1]},
    }
    execute(root, "topics", study, RUNS)
    return root


@pytest.fixture
def runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The runs of that study, whose home is this test's; to be read only."""
    monkeypatch.setenv("PEFT_STUDY_HOME", str(home))
    monkeypatch.setenv("PEFT_STUDY_CACHE", str(home / "cache"))
    return load_runs("topics")


def test_the_classes_are_called_by_their_names_and_these_are_escaped(runs: Runs) -> None:
    study, report = paths.study_folder("topics"), paths.report_folder("topics")
    for file in (study / "explore.ipynb", study / FULL / "train.ipynb", study / "compare.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        displayed = [output for cell in cells for output in cell.get("outputs", ())]
        text = "".join("".join(out.get("data", {}).get("text/markdown") or out.get("text", "")) for out in displayed)
        assert not re.search("positive|negative|sentiment|Internet Movie", text), file
        if file.stem == "explore":
            assert sum(f"> **{markdown_escape(name)}**" in text for name in NAMES) >= 2, "of three reviews shown"
    for page in (report / "explore.html", report / "runs" / f"{FULL}.html", report / "report.html"):
        html = page.read_text(encoding="utf-8")
        assert "<b>crafts" not in html and escape(NAMES[1]).split(" ")[0] in html, page


def test_the_record_holds_the_names_and_the_scores_of_all_classes(runs: Runs) -> None:
    assert runs.class_names == NAMES and not runs.missing and not runs.unrecorded
    table = accuracy.summary(runs).set_index("strategy")
    for run_id in RUNS:
        metrics = json.loads((paths.run_folder("topics", run_id) / "metrics.json").read_text())
        found, scores = runs.arrays(run_id), metrics["evaluation"]["test"]
        exact = np.exp(found["logits"].astype(float))
        exact /= exact.sum(axis=1, keepdims=True)
        assert metrics["data"]["labels"] == list(NAMES) and found["logits"].shape == (72, 4)
        assert scores["accuracy"] == accuracy_score(found["labels"], found["preds"])
        assert scores["macro_f1"] == pytest.approx(f1_score(found["labels"], found["preds"], average="macro"))
        assert scores["log_loss"] == pytest.approx(log_loss(found["labels"], exact))
        row = table.loc[run_id.split("-")[0]]
        assert row["macro_f1"] == pytest.approx(scores["macro_f1"])
    assert runs.table.loc[FULL, "test.accuracy"] > 0.6, "most classes are easy to tell apart"
    assert runs.table.loc[FULL, "ood.accuracy"] > 0.6, "what is named alike is the same class"


def test_runs_that_only_name_the_commonest_class_are_told(runs: Runs) -> None:
    table = accuracy.summary(runs)
    commonest = runs.arrays(LORA) | {"preds": np.zeros_like(runs.labels)}
    idle = replace(runs, table=runs.table.loc[[LORA]], _predictions={(LORA, ""): commonest})
    said = sentences.untrained(idle, table[1:])
    assert f"majority-class baseline** (accuracy {(runs.labels == 0).mean():.1%})" in said


@pytest.mark.parametrize("run_id", RUNS)
def test_the_code_of_a_model_card_and_a_merged_adapter_know_the_names_of_the_classes(
    run_id: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, articles = paths.run_folder("topics", run_id), texts(72, seed=1)["article"].tolist()
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "model" / "README.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(folder / "model")
    space: dict[str, Any] = {}
    exec(code, space)
    save_merged(folder, tmp_path / "merged")
    classify = pipeline("text-classification", model=str(tmp_path / "merged"))
    found = [
        [max(chances := space["classify"](text), key=chances.__getitem__) for text in articles],
        [entry["label"] for entry in classify(articles, truncation=True, max_length=32)],
        load_classifier(folder).label(articles)["predicted_label"].tolist(),
    ]
    assert found == [[NAMES[i] for i in runs.preds[run_id]]] * 3


def test_a_model_card_says_what_is_on_record_with_intervals_under_the_header_that_the_hub_reads(runs: Runs) -> None:
    for run_id, library in {FULL: "transformers", LORA: "peft"}.items():
        folder = paths.run_folder("topics", run_id)
        card = (folder / "model" / "README.md").read_text(encoding="utf-8")
        header = ModelCard(card).data
        assert (header.library_name, header.pipeline_tag) == (library, "text-classification")
        assert header.base_model is None and header.datasets is None, "neither is on the hub"
        metrics = json.loads((folder / "metrics.json").read_text())
        (accuracy, low, high), *_ = re.findall(r"\| test \| 72 \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \|", card)
        assert accuracy == f"{100 * metrics['evaluation']['test']['accuracy']:.1f}"
        assert float(low) < float(accuracy) <= float(high)
        assert f"| {metrics['evaluation']['test']['log_loss']:.3f} |" in card
        assert f"{metrics['parameters']['total']:,}" in card
        data = metrics["data"]
        assert f"{data['train']} training texts, {data['validation']} validation texts and 72 test texts" in card
        assert data["fingerprint"] in card and data["train"] + data["validation"] == 120
        assert markdown_escape(NAMES[1]) in card and "`articles`" in card
