"""What a run leaves behind: the documented files, complete, and nothing of the run before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import REAL_RUNS, make_run, make_study

from peft_study.data import reviews as data
from peft_study.data.datasets import model_folder, origin
from peft_study.data.tokenization import load_tokenizer, tokenize
from peft_study.errors import StudyError
from peft_study.records.layout import label_names
from peft_study.records.read import load_runs
from peft_study.records.write import PACKAGES, save_merged, save_model, write_record
from peft_study.study.study import read_study
from peft_study.study.variant import Variant
from peft_study.training import model as models
from peft_study.training.cost import inference
from peft_study.training.prediction import pad_batch, predict
from peft_study.training.trainer import fit

FIGURES = {"confusion_matrix.png", "loss_per_steps.png", "loss_per_epochs.png", "time_per_step.png"}
PREDICTIONS = {f"{part}preds_and_labels.npz" for part in ("", "ood_", "validation_")}
LAYOUT = {"params.yaml", "train.ipynb", "metrics.json", "log_history.json", "training_args.json", "model"}
LAYOUT |= FIGURES | PREDICTIONS


@pytest.mark.parametrize("run_id", REAL_RUNS)
def test_a_real_run_leaves_exactly_the_documented_files(finished: Path, run_id: str) -> None:
    """The engine adds `train.log`, what the run prints."""
    assert {path.name for path in (finished / run_id).iterdir()} - {".lock", "train.log"} == LAYOUT
    assert not [path for path in finished.rglob("*partial*")]


def test_a_made_run_is_the_documented_layout_too() -> None:
    folder = make_run(make_study(), "full-n00250-s1")
    assert {path.name for path in folder.iterdir()} < LAYOUT


def test_the_metrics_have_their_blocks_and_no_empty_figure(finished: Path) -> None:
    folder = finished / "full-n00060-s1"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics) == ["run", "data", "parameters", "training", "evaluation", "cost", "environment"]
    assert metrics["run"] == {"id": "full-n00060-s1", "strategy": "full", "train_size": 60, "seed": 1}
    assert metrics["cost"]["model_bytes"] == (folder / "model" / "model.safetensors").stat().st_size
    assert all(value > 0 for value in metrics["training"].values() if isinstance(value, float))
    assert set(metrics["environment"]["packages"]) == set(PACKAGES)
    assert len(metrics["data"]["fingerprint"]) == 16 and metrics["environment"]["model"].startswith("sha256:")


def test_the_record_of_a_run_holds_what_validation_and_inference_measured(finished: Path) -> None:
    for run in REAL_RUNS:
        metrics = json.loads((finished / run / "metrics.json").read_text())
        log = json.loads((finished / run / "log_history.json").read_text())
        entries = [entry for entry in log if entry["step"] == metrics["training"]["selected_step"]]
        losses = {entry["eval_loss"] for entry in entries if "eval_loss" in entry}
        assert {metrics["evaluation"]["validation"]["loss"]} == losses
        assert 0 <= metrics["evaluation"]["validation"]["accuracy"] <= 1
        cost = metrics["cost"]
        assert cost["inference_seconds"] > 0 and cost["flops_per_step"] > 0
        if run.startswith("lora"):
            assert cost["inference_merged_seconds"] > 0 and cost["inference_merge_difference"] <= 1e-5
        else:
            assert cost["inference_merged_seconds"] is cost["inference_merge_difference"] is None


@pytest.mark.parametrize("run_id", REAL_RUNS[:2])
def test_a_saved_model_is_safetensors_only_and_predicts_the_same(finished: Path, run_id: str) -> None:
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder, variant = finished / run_id / "model", read_study("tiny").variants[run_id]
    assert {path.suffix for path in folder.iterdir()} - {".json", ".txt", ".md"} == {".safetensors"}
    full = run_id.startswith("full")
    load = AutoModelForSequenceClassification if full else AutoPeftModelForSequenceClassification
    loaded = models.load(folder, label_names(folder.parent))
    assert loaded.config.id2label == {0: "negative", 1: "positive"}  # type: ignore[union-attr]
    reviews, tokenizer = data.load_reviews(variant), AutoTokenizer.from_pretrained(folder)
    test = tokenize(reviews, tokenizer, variant)["test"]
    again = predict(load.from_pretrained(folder), test, reviews.test["id"].tolist(), tokenizer.pad_token_id)
    np.testing.assert_allclose(again.logits, load_runs("tiny").arrays(run_id)["logits"], atol=1e-5)


def test_an_adapter_is_merged_into_a_model_that_a_pipeline_loads_with_the_names_of_the_classes(
    finished: Path, tmp_path: Path
) -> None:
    from transformers import pipeline

    run = "lora-n00060-s1"
    save_merged(finished / run / "model", tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    classify = pipeline("text-classification", model=str(tmp_path / "merged"))
    test = data.load_corpus(read_study("tiny").variants[run]).test
    logits = load_runs("tiny").arrays(run)["logits"]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = classify(test["text"].tolist(), truncation=True, max_length=32)
    for answer, row in zip(answers, probabilities, strict=True):
        assert answer["label"] == ["negative", "positive"][row.argmax()]
        assert answer["score"] == pytest.approx(row.max(), abs=1e-5)


def test_a_saved_adapter_names_its_base_model_by_folder_or_by_hub_name_and_commit(
    tmp_path: Path, tiny: dict[str, Path], variant: Callable[..., Variant]
) -> None:
    lora = variant(strategy="lora")
    model = models.build(model_folder(lora.model), lora)
    save_model(tmp_path / "model", model, load_tokenizer(lora), lora)
    saved = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == (str(tiny["distilbert"]), None)
    snapshot = tmp_path / "snapshots" / "0123abc"
    snapshot.parent.mkdir()
    snapshot.symlink_to(tiny["distilbert"])
    assert origin("owner/name@main", snapshot) == ("owner/name", "0123abc")


def test_a_merged_adapter_has_the_classes_on_record(tmp_path: Path, variant: Callable[..., Variant]) -> None:
    from transformers import AutoModelForSequenceClassification

    lora, names = variant(strategy="lora"), ["no", "perhaps", "yes"]
    model = models.build(model_folder(lora.model), lora, names)
    save_model(tmp_path / "model", model, load_tokenizer(lora), lora)
    (tmp_path / "metrics.json").write_text(json.dumps({"data": {"labels": names}}))
    save_merged(tmp_path / "model", tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.config.id2label == dict(enumerate(names)) and merged.config.label2id["yes"] == 2
    with pytest.raises(StudyError, match="has no adapter to be merged"):
        save_merged(tmp_path / "merged", tmp_path / "again")


def test_a_disk_that_the_weights_fill_is_one_clear_error(tmp_path: Path, variant: Callable[..., Variant]) -> None:
    """safetensors has an exception of its own for what the file system says."""
    from safetensors import SafetensorError

    class Model:
        def save_pretrained(self, folder: str) -> None:
            Path(folder).mkdir()
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("old")
    with pytest.raises(StudyError, match=r"^no space left to write .*model; free some"):
        save_model(tmp_path / "model", Model(), None, variant())
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "model.safetensors").read_text() == "old"


def test_a_run_with_other_values_leaves_nothing_of_the_one_before(
    tmp_path: Path, variant: Callable[..., Variant]
) -> None:
    folder, head = tmp_path / "run", variant(strategy="head", epochs=1.0, checkpoint="last", evaluations=0)
    reviews, tokenizer = data.load_reviews(head), load_tokenizer(head)
    model = models.build(model_folder(head.model), head, reviews.labels)
    examples = tokenize(reviews, tokenizer, head)
    training = fit(model, tokenizer, examples, head, folder)
    pad = tokenizer.pad_token_id
    predictions = {
        part: predict(model, examples[part], reviews.parts[part]["id"].tolist(), pad)
        for part in ("test", "ood", "validation")
    }
    use = inference(model, pad_batch([examples["test"][0]["input_ids"]], pad), merges=False)

    def write(variant: Variant, *parts: str) -> dict[str, Any]:
        kept = {part: predictions[part] for part in parts}
        return write_record(folder, variant, reviews, model, tokenizer, training, kept, use)

    written = write(head, "test", "ood", "validation")
    with np.load(folder / "validation_preds_and_labels.npz", allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == reviews.validation["id"].tolist()
        assert arrays["labels"].tolist() == reviews.validation["label"].tolist()
        assert arrays["logits"].shape == (len(arrays["ids"]), 2)
    assert (folder / "model" / "model.safetensors").stat().st_size == written["cost"]["model_bytes"]
    written = write(head.model_copy(update={"save_model": False, "ood_dataset": None}), "test")
    left = {path.name for path in folder.iterdir()}
    assert left == LAYOUT - FIGURES - PREDICTIONS - {"model", "train.ipynb"} | {"preds_and_labels.npz"}
    assert written["cost"]["model_bytes"] is None and written["evaluation"]["ood"] is None
