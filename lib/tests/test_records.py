"""What a run leaves behind, and what is made of it when some of it is missing, damaged or of another study."""

import errno
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from made_runs import REAL_RUNS, make_preds, make_run, make_runs, make_study, write_arrays

from peft_study.data import tokenization
from peft_study.errors import StudyError
from peft_study.files import replacing, write_json
from peft_study.records import write as records
from peft_study.records.read import load_runs, require_runs, write_aggregate
from peft_study.study.study import read_study
from peft_study.study.variant import Variant
from peft_study.training import model as models

FULL, LORA = "full-n00250-s1", "lora-n00250-s1"


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_runs_that_another_program_wrote_are_loaded() -> None:
    runs = make_runs({"lora": 0.8})
    assert list(runs.table.index) == list(runs.study.variants) and not runs.missing
    assert runs.table.loc[LORA, "test.accuracy"] == pytest.approx(0.8)
    assert runs.table.loc[FULL, "parameters.trainable"] == 22_000_770
    assert runs.table.loc[FULL, "strategy"] == "full"
    assert list(runs.log(FULL).columns) == ["step", "epoch", "loss", "eval_loss", "eval_accuracy"]
    assert (runs.preds[LORA].to_numpy() == runs.labels).mean() == pytest.approx(0.8)


def test_the_order_in_which_another_program_wrote_the_reviews_does_not_matter() -> None:
    runs, order = make_runs({"lora": 0.8}), np.random.default_rng(0).permutation(400)
    folder = records.paths.run_folder("made", LORA)
    with np.load(folder / "preds_and_labels.npz") as archive:
        arrays = {name: archive[name][order] for name in archive.files}
    np.savez(folder / "preds_and_labels.npz", **arrays)
    again = load_runs("made")
    assert not again.missing
    pd.testing.assert_frame_equal(again.preds, runs.preds)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "corrupt metrics": (lambda folder: (folder / "metrics.json").write_text('{"run": '), "metrics.json is corrupt"),
    "metrics that are a list": (lambda folder: (folder / "metrics.json").write_text("[]"), "metrics.json is corrupt"),
    "no metrics": (lambda folder: (folder / "metrics.json").unlink(), "metrics.json is missing"),
    "binary metrics": (
        lambda folder: (folder / "metrics.json").write_bytes(b"\xff\xfe\x00"),
        "metrics.json is corrupt",
    ),
    "a folder for metrics": (lambda folder: _folder_instead(folder / "metrics.json"), "metrics.json cannot be read"),
    "truncated predictions": (
        lambda folder: _truncate(folder / "preds_and_labels.npz"),
        "preds_and_labels.npz is corrupt",
    ),
    "empty predictions": (
        lambda folder: (folder / "preds_and_labels.npz").write_bytes(b""),
        "preds_and_labels.npz is corrupt",
    ),
    "no predictions": (lambda folder: (folder / "preds_and_labels.npz").unlink(), "preds_and_labels.npz is missing"),
    "arrays of two lengths": (lambda folder: _arrays(folder, labels=np.zeros(3)), "shapes of its arrays"),
    "an array without a length": (lambda folder: _arrays(folder, preds=np.array(1)), "shapes of its arrays"),
    "one logit a review": (lambda folder: _arrays(folder, logits=np.zeros(400)), "shapes of its arrays"),
    "a third class": (lambda folder: _arrays(folder, preds=np.full(400, 2)), "not all 0 or 1"),
    "undefined classes": (lambda folder: _arrays(folder, preds=np.full(400, np.nan)), "not all 0 or 1"),
    "a review twice": (lambda folder: _arrays(folder, ids=np.zeros(400, dtype=int)), "names a review twice"),
    "truncated other predictions": (
        lambda folder: _truncate(folder / "ood_preds_and_labels.npz"),
        "ood_preds_and_labels.npz",
    ),
    "other reviews": (lambda folder: _arrays(folder, ids=np.arange(400) + 1), "tested on other reviews"),
    "other labels": (lambda folder: _arrays(folder, labels=1 - np.arange(400) % 2), "tested on other reviews"),
    "other data": (lambda folder: _edit_metrics(folder, "data", fingerprint="changed"), "tested on other reviews"),
    "other strange reviews": (
        lambda folder: write_arrays(folder / "ood_preds_and_labels.npz", make_preds("x", 0.5, 99)),
        "tested on other reviews",
    ),
    "a corrupt log": (lambda folder: (folder / "log_history.json").write_text("[1, 2]"), "log_history.json is corrupt"),
    "a notebook that failed": (
        lambda folder: (folder / "train.ipynb").rename(folder / "train.partial.ipynb"),
        "failed or was stopped: see train.log",
    ),
    "binary parameters": (
        lambda folder: (folder / "params.yaml").write_bytes(b"\xff\xfe\x00"),
        "params.yaml is corrupt",
    ),
    "other parameters": (lambda folder: _edit_params(folder, epochs=7.0), r"other values.*\(params.yaml: epochs\)"),
    "a parameter too many": (lambda folder: _edit_params(folder, rank=7), r"other values.*\(params.yaml: rank\)"),
}


@pytest.mark.parametrize("run_id", [FULL, LORA])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_named_with_the_reason_and_the_others_are_compared(damage: str, run_id: str) -> None:
    whole = make_runs()
    harm, reason = DAMAGE[damage]
    harm(records.paths.run_folder("made", run_id))
    runs = load_runs("made")
    assert list(runs.missing) == [run_id]
    assert re.search(reason, runs.missing[run_id])
    assert "\n" not in runs.missing[run_id]
    assert list(runs.table.index) == [other for other in whole.table.index if other != run_id]


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _arrays(folder: Path, **changes: Any) -> None:
    write_arrays(folder / "preds_and_labels.npz", make_preds(folder.name, 0.9, 400), **changes)


def _edit_metrics(folder: Path, block: str, **changes: Any) -> None:
    content = json.loads((folder / "metrics.json").read_text())
    content[block] |= changes
    (folder / "metrics.json").write_text(json.dumps(content))


def _edit_params(folder: Path, **changes: Any) -> None:
    content = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(content | changes))


class _Bomb:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_among_the_predictions_is_never_loaded(tmp_path: Path) -> None:
    make_runs()
    mark = tmp_path / "exploded"
    bomb = np.array([_Bomb(mark)] * 400, dtype=object)
    pickle.loads(pickle.dumps(_Bomb(mark)))
    assert mark.exists(), "the bomb itself must work"
    mark.unlink()
    _arrays(records.paths.run_folder("made", LORA), preds=bomb)
    told = load_runs("made").missing[LORA]
    assert "preds_and_labels.npz is corrupt (Object arrays cannot be loaded" in told
    assert not mark.exists()


@settings(max_examples=25, deadline=None)
@given(where=some.floats(0, 1, exclude_max=True), byte=some.integers(1, 255))
def test_no_flipped_byte_of_the_predictions_stops_the_comparison(where: float, byte: int) -> None:
    make_runs(count=40)
    file = records.paths.run_folder("made", LORA) / "preds_and_labels.npz"
    content = bytearray(file.read_bytes())
    content[int(where * len(content))] ^= byte
    file.write_bytes(content)
    runs = load_runs("made")
    assert FULL in runs.table.index and (LORA in runs.table.index) != (LORA in runs.missing)


def test_the_order_of_the_missing_runs_is_that_of_the_study() -> None:
    runs = make_runs(without="lora")
    assert list(runs.missing) == [run_id for run_id in runs.study.variants if "lora" in run_id]
    assert set(runs.missing.values()) == {"not finished"}


def test_no_run_at_all_is_one_error_with_every_reason() -> None:
    runs = make_runs(without="n")
    assert runs.table.empty
    with pytest.raises(StudyError, match=r"./run_all.sh made makes them\n  full-n00250-s1: not finished\n"):
        require_runs(runs)


def test_the_aggregate_has_a_row_for_every_run() -> None:
    runs = make_runs(without="lora-n01000")
    table = pd.read_csv(write_aggregate(runs), index_col="run_id")
    assert list(table.index) == list(runs.table.index)
    assert table["test.accuracy"].tolist() == pytest.approx(runs.table["test.accuracy"].tolist())


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_a_written_file_replaces_the_old_one_and_leaves_no_other(tmp_path: Path) -> None:
    for content in ({"accuracy": 0.5}, {"accuracy": np.float64(0.9), "n": np.int64(3)}):
        write_json(tmp_path / "new" / "metrics.json", content)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["metrics.json"]
    assert json.loads((tmp_path / "new" / "metrics.json").read_text()) == {"accuracy": 0.9, "n": 3}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, stop: type[BaseException]) -> None:
    (tmp_path / "metrics.json").write_text("old")
    with pytest.raises(stop), replacing(tmp_path / "metrics.json") as partial:
        partial.write_text("half of the n")
        raise stop
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def _full_disk(file: Path) -> None:
    """Make the temporary name of `file` one that no byte can be written to."""
    file.with_name(f".{file.stem}.partial-{os.getpid()}{file.suffix}").symlink_to("/dev/full")


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")


@needs_dev_full
def test_a_full_disk_is_one_clear_error_and_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("old")
    _full_disk(tmp_path / "metrics.json")
    with pytest.raises(StudyError, match=r"^no space left to write .*metrics.json; free some"):
        write_json(tmp_path / "metrics.json", {"accuracy": 0.9})
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_disk_that_the_weights_fill_is_the_same_clear_error(tmp_path: Path) -> None:
    """safetensors has an exception of its own for what the file system says."""
    from safetensors import SafetensorError

    class Model:
        def save_pretrained(self, folder: str) -> None:
            Path(folder).mkdir()
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("old")
    prepared: Any = type("Prepared", (), {"model": Model(), "tokenizer": None})
    with pytest.raises(StudyError, match=r"^no space left to write .*model; free some"):
        records.save_model(tmp_path / "model", prepared)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "model.safetensors").read_text() == "old"


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Nobody, not even root, can write to `folder` meanwhile."""
    folder.chmod(0o500)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_read_only_folder_is_one_clear_error(tmp_path: Path) -> None:
    with (
        _read_only(tmp_path),
        pytest.raises(StudyError, match=r"cannot be written .* make it writable, or set PEFT_STUDY_HOME"),
    ):
        write_json(tmp_path / "metrics.json", {})
    assert not list(tmp_path.iterdir())


def test_other_faults_of_the_file_system_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "file" / "metrics.json", {})
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)


# --- A real run -------------------------------------------------------------------------------------------------------


LAYOUT = {
    "params.yaml",
    "train.ipynb",
    "metrics.json",
    "log_history.json",
    "preds_and_labels.npz",
    "ood_preds_and_labels.npz",
    "validation_preds_and_labels.npz",
    "training_args.json",
    "confusion_matrix.png",
    "loss_per_steps.png",
    "loss_per_epochs.png",
    "time_per_step.png",
    "model",
    "train.log",
}


@pytest.mark.parametrize("run_id", REAL_RUNS)
def test_a_real_run_leaves_exactly_the_documented_files(finished: Path, run_id: str) -> None:
    assert {path.name for path in (finished / run_id).iterdir()} - {".lock"} == LAYOUT
    assert not [path for path in finished.rglob("*partial*")]


def test_what_a_real_run_wrote_is_what_is_loaded(finished: Path) -> None:
    runs = load_runs("tiny")
    assert list(runs.table.index) == ["full-n00060-s1", "full-n00100-s1", "lora-n00060-s1"]
    assert runs.missing == {"lora-n00100-s1": "not finished"}
    for run_id, row in runs.table.iterrows():
        arrays = runs.arrays(str(run_id))
        assert row["test.accuracy"] == pytest.approx((arrays["preds"] == arrays["labels"]).mean())
        assert (arrays["preds"] == arrays["logits"].argmax(axis=1)).all()
        assert row["ood.n"] == len(runs.arrays(str(run_id), "ood_")["preds"]) == 40
        assert row["data.train"] + row["data.validation"] == row["train_size"]
        asked = yaml.safe_load((finished / str(run_id) / "params.yaml").read_text())
        assert Variant(**asked) == read_study("tiny").variants[str(run_id)]


def test_the_metrics_have_their_blocks_and_no_empty_figure(finished: Path) -> None:
    metrics = json.loads((finished / "full-n00060-s1" / "metrics.json").read_text())
    assert list(metrics) == ["run", "data", "parameters", "training", "evaluation", "cost", "environment"]
    assert metrics["run"] == {"id": "full-n00060-s1", "strategy": "full", "train_size": 60, "seed": 1}
    assert (
        metrics["cost"]["model_bytes"] == (finished / "full-n00060-s1" / "model" / "model.safetensors").stat().st_size
    )
    assert all(value > 0 for value in metrics["training"].values() if isinstance(value, float))
    assert set(metrics["environment"]["packages"]) == set(records.PACKAGES)
    assert len(metrics["data"]["fingerprint"]) == 16 and metrics["environment"]["model"].startswith("sha256:")


@pytest.mark.parametrize("run_id", REAL_RUNS[:2])
def test_a_saved_model_is_safetensors_only_and_predicts_the_same(finished: Path, run_id: str) -> None:
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from peft_study.data import reviews as data
    from peft_study.training.prediction import predict

    folder = finished / run_id / "model"
    kinds = {path.suffix for path in folder.iterdir()} - {".json", ".txt", ".md"}
    assert kinds == {".safetensors"}
    full = run_id.startswith("full")
    load = AutoModelForSequenceClassification if full else AutoPeftModelForSequenceClassification
    model, variant = load.from_pretrained(folder), read_study("tiny").variants[run_id]
    assert models.load(folder).config.id2label == {0: "negative", 1: "positive"}  # type: ignore[union-attr]
    corpus, tokenizer = data.load_corpus(variant), AutoTokenizer.from_pretrained(folder)
    examples = tokenization.examples(
        corpus.test, tokenization.tokenize_texts(corpus.splits["test"], tokenizer), variant
    )
    again = predict(model, examples, corpus.test["id"].tolist(), tokenizer.pad_token_id)
    np.testing.assert_allclose(again.logits, load_runs("tiny").arrays(run_id)["logits"], atol=1e-5)


def test_an_adapter_is_merged_into_a_model_that_a_pipeline_loads_with_the_names_of_the_classes(
    finished: Path, tmp_path: Path
) -> None:
    from transformers import pipeline

    from peft_study.data import reviews as data

    run = "lora-n00060-s1"
    models.save_merged(finished / run / "model", tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    classify = pipeline("text-classification", model=str(tmp_path / "merged"))
    test = data.load_corpus(read_study("tiny").variants[run]).test
    logits = load_runs("tiny").arrays(run)["logits"]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for said, chance in zip(classify(test["text"].tolist(), truncation=True, max_length=32), chances, strict=True):
        assert said["label"] == ["negative", "positive"][chance.argmax()]
        assert said["score"] == pytest.approx(chance.max(), abs=1e-5)


def test_the_record_of_a_run_holds_what_validation_and_inference_measured(finished: Path) -> None:
    for run in REAL_RUNS:
        metrics = json.loads((finished / run / "metrics.json").read_text())
        log = json.loads((finished / run / "log_history.json").read_text())
        selected = {entry["eval_loss"] for entry in log if entry["step"] == metrics["training"]["selected_step"]
                    and "eval_loss" in entry}  # fmt: skip
        assert {metrics["evaluation"]["validation"]["loss"]} == selected
        assert 0 <= metrics["evaluation"]["validation"]["accuracy"] <= 1
        cost = metrics["cost"]
        assert cost["inference_seconds"] > 0 and cost["flops_per_step"] > 0
        if run.startswith("lora"):
            assert cost["inference_merged_seconds"] > 0 and cost["inference_merge_difference"] <= 1e-5
        else:
            assert cost["inference_merged_seconds"] is cost["inference_merge_difference"] is None


def test_a_saved_adapter_names_its_base_model_by_folder_or_by_hub_name_and_commit(
    tmp_path: Path, tiny: dict[str, Path], variant: Callable[..., Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft_study.training.trainer import prepare

    prepared = prepare(variant(strategy="lora"))
    records.save_model(tmp_path / "model", prepared)
    saved = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == (str(tiny["distilbert"]), None)
    snapshot = tmp_path / "snapshots" / "0123abc"
    snapshot.parent.mkdir()
    snapshot.symlink_to(tiny["distilbert"])
    assert records.assets.origin("owner/name@main", snapshot) == ("owner/name", "0123abc")


def test_a_run_with_other_values_leaves_nothing_of_the_one_before(
    tmp_path: Path, variant: Callable[..., Variant]
) -> None:
    from peft_study.training.trainer import prepare, train

    folder = tmp_path / "run"
    first = prepare(variant(strategy="head", epochs=1.0, checkpoint="last", evaluations=0))
    trained = train(first, folder)
    use = first.inference(4)
    test, ood, validation = map(first.predict, ("test", "ood", "validation"))
    written = records.write_run(folder, first, trained, test, ood, validation, use)
    with np.load(folder / "validation_preds_and_labels.npz", allow_pickle=False) as arrays:
        assert arrays["ids"].tolist() == first.tables["validation"]["id"].tolist()
        assert arrays["labels"].tolist() == first.tables["validation"]["label"].tolist()
        assert arrays["logits"].shape == (len(arrays["ids"]), 2)
    assert (folder / "model" / "model.safetensors").stat().st_size == written["cost"]["model_bytes"]
    bare = first.variant.model_copy(update={"save_model": False, "ood_dataset": None})
    second = type(first)(**{**vars(first), "variant": bare})
    written = records.write_run(folder, second, trained, first.predict("test"), None, None, use)
    assert {path.name for path in folder.iterdir()} == LAYOUT - {
        "ood_preds_and_labels.npz",
        "validation_preds_and_labels.npz",
        "model",
        "train.ipynb",
        "train.log",
        *(f"{name}.png" for name in ("confusion_matrix", "loss_per_steps", "loss_per_epochs", "time_per_step")),
    }
    assert written["cost"]["model_bytes"] is None and written["evaluation"]["ood"] is None


def test_a_made_run_is_the_documented_layout_too() -> None:
    folder = make_run(make_study(), FULL)
    assert {path.name for path in folder.iterdir()} < LAYOUT
