"""What a run leaves behind: the documented files, complete, and nothing of the run before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import REAL_RUNS

from peft_study.data import reviews as data
from peft_study.data.datasets import model_folder
from peft_study.data.tokenization import load_tokenizer, tokenize
from peft_study.errors import StudyError
from peft_study.records.layout import recorded_labels
from peft_study.records.read import load_runs
from peft_study.records.write import PACKAGES, save_model, write_record
from peft_study.study.study import read_study
from peft_study.study.variant import Variant
from peft_study.training import model as models
from peft_study.training.cost import inference
from peft_study.training.prediction import pad_batch, predict
from peft_study.training.trainer import fit

FIGURES = {"confusion_matrix.png", "loss_per_steps.png", "loss_per_epochs.png", "time_per_step.png"}
PREDICTIONS = {f"{part}preds_and_labels.npz" for part in ("", "ood_", "validation_")}
OTHER = "other_checkpoint_preds_and_labels.npz"
LAYOUT = {"params.yaml", "train.ipynb", "metrics.json", "log_history.json", "training_args.json", "model"}
LAYOUT |= FIGURES | PREDICTIONS


@pytest.mark.parametrize("run_id", REAL_RUNS)
def test_a_real_run_leaves_exactly_the_documented_files(finished: Path, run_id: str) -> None:
    """The engine adds `train.log`, what the run prints."""
    training = json.loads((finished / run_id / "metrics.json").read_text())["training"]
    other = {OTHER} if training["other_step"] != training["selected_step"] else set()
    assert {path.name for path in (finished / run_id).iterdir()} - {".lock", "train.log"} == LAYOUT | other
    assert not [path for path in finished.rglob("*partial*")]


@pytest.mark.parametrize("run_id", REAL_RUNS)
def test_the_metrics_hold_what_training_validation_and_inference_measured(finished: Path, run_id: str) -> None:
    metrics = json.loads((finished / run_id / "metrics.json").read_text())
    log = json.loads((finished / run_id / "log_history.json").read_text())
    assert list(metrics) == ["run", "data", "parameters", "training", "evaluation", "cost", "environment"]
    assert metrics["run"]["id"] == run_id and len(metrics["data"]["fingerprint"]) == 16
    assert all(value > 0 for value in metrics["training"].values() if isinstance(value, float))
    chosen = [e for e in log if e["step"] == metrics["training"]["selected_step"] and "eval_loss" in e][-1]
    assert metrics["evaluation"]["validation"] == {"loss": chosen["eval_loss"], "accuracy": chosen["eval_accuracy"]}
    cost, environment = metrics["cost"], metrics["environment"]
    assert cost["model_bytes"] == sum(file.stat().st_size for file in finished.glob(f"{run_id}/model/*.safetensors"))
    assert cost["inference_seconds"] > 0 and cost["flops_per_step"] > 0
    if run_id.startswith("lora"):
        assert cost["inference_merged_seconds"] > 0 and cost["inference_merge_difference"] <= 1e-5
    else:
        assert cost["inference_merged_seconds"] is cost["inference_merge_difference"] is None
    assert set(environment["packages"]) == set(PACKAGES) and environment["model"].startswith("sha256:")
    assert len(environment["commit"] or 40 * "0") == 40


@pytest.mark.parametrize("run_id", REAL_RUNS[:2])
def test_a_saved_model_is_safetensors_only_and_predicts_the_same(finished: Path, run_id: str) -> None:
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder, variant = finished / run_id / "model", read_study("tiny").variants[run_id]
    assert {path.suffix for path in folder.iterdir()} - {".json", ".txt", ".md"} == {".safetensors"}
    full = run_id.startswith("full")
    load = AutoModelForSequenceClassification if full else AutoPeftModelForSequenceClassification
    loaded = models.load(folder, recorded_labels(folder.parent))
    assert loaded.config.id2label == {0: "negative", 1: "positive"}  # type: ignore[union-attr]
    reviews, tokenizer = data.load_reviews(variant), AutoTokenizer.from_pretrained(folder)
    test = tokenize(reviews, tokenizer, variant)["test"]
    again = predict(load.from_pretrained(folder), test, reviews.test["id"].tolist(), tokenizer.pad_token_id)
    np.testing.assert_allclose(again.logits, load_runs("tiny").arrays(run_id)["logits"], atol=1e-5)


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
    folder, head = tmp_path / "run", variant(strategy="head", epochs=1.0, evaluations=0)
    reviews, tokenizer = data.load_reviews(head), load_tokenizer(head)
    model = models.build(model_folder(head.model), head, reviews.labels)
    examples = tokenize(reviews, tokenizer, head)
    training = fit(model, tokenizer, examples, head, folder)
    pad = tokenizer.pad_token_id
    predictions = {
        part: predict(model, examples[part], reviews.parts[part]["id"].tolist(), pad)
        for part in ("test", "ood", "validation")
    }
    use = inference(model, pad_batch(examples["test"][:1], pad), merges=False)

    def write(variant: Variant, *parts: str) -> dict[str, Any]:
        kept = {part: predictions[part] for part in parts}
        return write_record(folder, variant, reviews, model, tokenizer, training, kept, use)

    written = write(head, "test", "ood", "validation")
    with np.load(folder / "validation_preds_and_labels.npz", allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == reviews.validation["id"].tolist()
    assert (folder / "model" / "model.safetensors").stat().st_size == written["cost"]["model_bytes"]
    written = write(head.model_copy(update={"save_model": False, "ood_dataset": None}), "test")
    left = {path.name for path in folder.iterdir()}
    assert left == LAYOUT - FIGURES - PREDICTIONS - {"model", "train.ipynb"} | {"preds_and_labels.npz"}
    assert written["cost"]["model_bytes"] is None and written["evaluation"]["ood"] is None
