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
from made_folders import WORDS, save_reviews
from made_studies import execute
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

from peft_study import paths
from peft_study.analysis import accuracy, calibration
from peft_study.records.read import Runs, load_runs
from peft_study.records.write import save_merged
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
    """A home where 01, 02 (twice) and 03 have run on the articles; others, with numbers for labels, test them too."""
    root = tmp_path_factory.mktemp("four")
    (root / "articles").mkdir()
    texts(240).to_json(root / "articles" / "train.jsonl", orient="records", lines=True)
    texts(72, seed=1).to_json(root / "articles" / "test.jsonl", orient="records", lines=True)
    other = texts(36, seed=2)
    save_reviews(root / "other", test=other.assign(topic=[NAMES.index(name) for name in other["topic"]]))
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


def outputs(file: Path) -> str:
    """All that a notebook's cells printed or displayed, as text."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    found = [
        output.get("data", {}).get("text/markdown") or output.get("text", "")
        for cell in cells
        for output in cell.get("outputs", ())
    ]
    return "\n".join("".join(part) for part in found)


def test_the_classes_are_called_by_their_names_in_every_notebook(runs: Runs) -> None:
    study = paths.study_folder("topics")
    for file in (study / "explore.ipynb", study / FULL / "train.ipynb", study / "compare.ipynb"):
        said = outputs(file)
        assert not re.search("positive|negative|sentiment|Internet Movie", said), file
    said = outputs(study / "explore.ipynb")
    assert sum(f"> **{markdown_escape(name)}**" in said for name in NAMES) >= 2, "of three reviews that are shown"


def test_names_of_classes_are_escaped_on_every_page(runs: Runs) -> None:
    report = paths.report_folder("topics")
    for page in (report / "explore.html", report / "runs" / f"{FULL}.html", report / "report.html"):
        html = page.read_text(encoding="utf-8")
        assert "<b>crafts" not in html and escape(NAMES[1]).split(" ")[0] in html, page


def test_the_record_holds_the_names_and_the_scores_of_all_classes(runs: Runs) -> None:
    assert runs.class_names == NAMES and not runs.missing and not runs.unrecorded
    for run_id in RUNS:
        metrics = json.loads((paths.run_folder("topics", run_id) / "metrics.json").read_text())
        found, scores = runs.arrays(run_id), metrics["evaluation"]["test"]
        exact = np.exp(found["logits"].astype(float))
        exact /= exact.sum(axis=1, keepdims=True)
        assert metrics["data"]["labels"] == list(NAMES) and found["logits"].shape == (72, 4)
        assert scores["accuracy"] == accuracy_score(found["labels"], found["preds"])
        assert scores["macro_f1"] == pytest.approx(f1_score(found["labels"], found["preds"], average="macro"))
        assert scores["log_loss"] == pytest.approx(log_loss(found["labels"], exact))
        row = calibration.measured(runs).set_index("strategy").loc[run_id.split("-")[0]]
        assert row["brier"] == pytest.approx(brier_score_loss(found["labels"], exact, labels=range(4)))
    assert runs.table.loc[FULL, "test.accuracy"] > 0.6, "most classes are easy to tell apart"
    assert runs.table.loc[FULL, "ood.accuracy"] > 0.6, "numbers stand for the same classes"


def test_the_comparison_scores_macro_f1_as_the_record_does(runs: Runs) -> None:
    table = accuracy.summary(runs, "macro_f1").set_index("strategy")
    for run_id in RUNS:
        assert table.loc[run_id.split("-")[0], "macro_f1"] == pytest.approx(runs.table.loc[run_id, "test.macro_f1"])


def test_runs_that_only_name_the_commonest_class_are_told(runs: Runs) -> None:
    table = accuracy.summary(runs)
    idle = replace(runs, table=runs.table.loc[[LORA]])
    vars(idle)["preds"] = pd.DataFrame({LORA: np.zeros_like(runs.labels)}, runs.preds.index)
    share = (runs.labels == 0).mean()
    said = sentences.untrained(idle, table[1:])
    assert f"majority-class baseline** ({share:.1%} of the test" in said


# --- The model card ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", RUNS)
def test_the_code_of_a_model_card_loads_the_model_with_the_names_of_its_classes(
    run_id: str, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = paths.run_folder("topics", run_id) / "model"
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(folder)
    space: dict[str, Any] = {}
    exec(code, space)
    test = texts(72, seed=1)["article"].tolist()
    said = space["classify"](test, truncation=True, max_length=32)
    assert [one["label"] for one in said] == [NAMES[i] for i in runs.preds[run_id]]


def test_a_model_card_says_what_is_on_record_with_intervals(runs: Runs) -> None:
    for run_id in RUNS:
        folder = paths.run_folder("topics", run_id)
        card = (folder / "model" / "README.md").read_text(encoding="utf-8")
        metrics = json.loads((folder / "metrics.json").read_text())
        (accuracy, low, high), *_ = re.findall(r"\| test \| 72 \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \|", card)
        assert accuracy == f"{100 * metrics['evaluation']['test']['accuracy']:.1f}"
        assert float(low) < float(accuracy) <= float(high)
        assert f"| {metrics['evaluation']['test']['log_loss']:.3f} |" in card
        for count in (metrics["parameters"]["total"], metrics["parameters"]["trainable_head"]):
            assert f"{count:,}" in card
        data = metrics["data"]
        assert f"{data['train']} texts to train on, {data['validation']} to validate with, 72 to test with" in card
        assert data["fingerprint"] in card and data["train"] + data["validation"] == 120
        assert markdown_escape(NAMES[1]) in card and "`articles`" in card


def test_the_header_of_a_model_card_is_what_the_hub_reads(runs: Runs) -> None:
    from huggingface_hub import ModelCard

    libraries = {FULL: "transformers", LORA: "peft"}
    for run_id, library in libraries.items():
        found = ModelCard.load(paths.run_folder("topics", run_id) / "model" / "README.md").data
        assert (found.library_name, found.pipeline_tag) == (library, "text-classification")
        assert found.base_model is None and found.datasets is None, "neither is on the hub"


def test_a_merged_adapter_keeps_the_names_of_its_classes(runs: Runs, tmp_path: Path) -> None:
    from transformers import pipeline

    save_merged(paths.run_folder("topics", LORA) / "model", tmp_path / "merged")
    said = pipeline("text-classification", model=str(tmp_path / "merged"))(texts(72, seed=1)["article"].tolist())
    assert [one["label"] for one in said] == [NAMES[i] for i in runs.preds[LORA]]
