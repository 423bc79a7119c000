"""What is read of a study's records, and what becomes of one that is missing, damaged or of another study."""

import dataclasses
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from made_runs import make_preds, make_runs, write_arrays

from peft_study import paths
from peft_study.errors import StudyError
from peft_study.records.read import load_runs, read_arrays, require_runs, write_aggregate
from peft_study.study.study import read_study
from peft_study.study.variant import Variant

FULL, LORA = "full-n00250-s1", "lora-n00250-s1"


def test_the_records_of_a_study_are_one_table() -> None:
    runs = make_runs({"lora": 0.8})
    assert list(runs.table.index) == list(runs.study.variants) and not runs.missing
    assert runs.table.loc[LORA, "test.accuracy"] == pytest.approx(0.8)
    assert runs.table.loc[FULL, "parameters.trainable"] == 22_000_770
    assert runs.table.loc[FULL, "strategy"] == "full"
    assert list(runs.log(FULL).columns) == ["step", "epoch", "loss", "eval_loss", "eval_accuracy"]
    assert (runs.preds[LORA].to_numpy() == runs.labels).mean() == pytest.approx(0.8)


def test_what_a_real_run_wrote_is_what_is_read(finished: Path) -> None:
    runs = load_runs("tiny")
    assert list(runs.table.index) == ["full-n00060-s1", "full-n00100-s1", "lora-n00060-s1"]
    assert runs.missing == {"lora-n00100-s1": "not finished"} and runs.unrecorded == {}
    for run_id, row in runs.table.iterrows():
        arrays = runs.arrays(str(run_id))
        assert row["test.accuracy"] == pytest.approx((arrays["preds"] == arrays["labels"]).mean())
        assert (arrays["preds"] == arrays["logits"].argmax(axis=1)).all()
        assert row["ood.n"] == len(runs.arrays(str(run_id), "ood_")["preds"]) == 40
        assert row["data.train"] + row["data.validation"] == row["train_size"]
        params = yaml.safe_load((finished / str(run_id) / "params.yaml").read_text())
        assert Variant(**params) == read_study("tiny").variants[str(run_id)]


def test_the_order_of_the_reviews_in_a_file_does_not_matter() -> None:
    runs, order = make_runs({"lora": 0.8}), np.random.default_rng(0).permutation(400)
    file = paths.run_folder("made", LORA) / "preds_and_labels.npz"
    with np.load(file) as archive:
        arrays = {name: archive[name][order] for name in archive.files}
    np.savez(file, **arrays)
    again = load_runs("made")
    assert not again.missing
    pd.testing.assert_frame_equal(again.preds, runs.preds)


def test_predictions_are_read_once_and_cannot_be_changed() -> None:
    runs = make_runs(validation=0.8)
    validation = runs.arrays(LORA, "validation_")
    shutil.rmtree(paths.run_folder("made", LORA))
    assert runs.arrays(LORA, "validation_") is validation and len(runs.arrays(LORA, "ood_")["ids"]) == 100
    assert len(runs.preds[LORA]) == 400
    part = dataclasses.replace(runs, table=runs.table.loc[[LORA]])
    assert part.arrays(LORA) is runs.arrays(LORA) and list(part.preds) == [LORA]
    with pytest.raises(ValueError, match="read-only"):
        runs.arrays(LORA)["preds"][0] = 1


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


PREDICTIONS, OTHER = "preds_and_labels.npz", "ood_preds_and_labels.npz"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "corrupt metrics": (lambda run: (run / "metrics.json").write_text('{"run": '), "metrics.json is corrupt"),
    "metrics that are a list": (lambda run: (run / "metrics.json").write_text("[]"), "metrics.json is corrupt"),
    "no metrics": (lambda run: (run / "metrics.json").unlink(), "metrics.json is missing"),
    "binary metrics": (lambda run: (run / "metrics.json").write_bytes(b"\xff\xfe\x00"), "metrics.json is corrupt"),
    "deep metrics": (lambda run: (run / "metrics.json").write_text("[" * 200_000), "metrics.json is corrupt"),
    "a folder for metrics": (lambda run: _folder_instead(run / "metrics.json"), "metrics.json cannot be read"),
    "truncated predictions": (lambda run: _truncate(run / PREDICTIONS), f"^{PREDICTIONS} is corrupt"),
    "empty predictions": (lambda run: (run / PREDICTIONS).write_bytes(b""), f"^{PREDICTIONS} is corrupt"),
    "no predictions": (lambda run: (run / PREDICTIONS).unlink(), f"^{PREDICTIONS} is missing; delete the run's folder"),
    "arrays of two lengths": (lambda run: _arrays(run, labels=np.zeros(3)), "shapes of its arrays"),
    "an array without a length": (lambda run: _arrays(run, preds=np.array(1)), "shapes of its arrays"),
    "one logit a review": (lambda run: _arrays(run, logits=np.zeros(400)), "shapes of its arrays"),
    "a third class": (lambda run: _arrays(run, preds=np.full(400, 2)), "not all 0 or 1"),
    "undefined classes": (lambda run: _arrays(run, preds=np.full(400, np.nan)), "not all 0 or 1"),
    "a review twice": (lambda run: _arrays(run, ids=np.zeros(400, dtype=int)), "names a review twice"),
    "truncated other predictions": (lambda run: _truncate(run / OTHER), f"^{OTHER} is corrupt"),
    "other reviews": (lambda run: _arrays(run, ids=np.arange(400) + 1), f"on other reviews: its ids in {PREDICTIONS}"),
    "other labels": (lambda run: _arrays(run, labels=1 - np.arange(400) % 2), f"reviews: its labels in {PREDICTIONS}"),
    "other data": (lambda run: _edit_metrics(run, "data", fingerprint="changed"), "reviews: its data.fingerprint in"),
    "other strange reviews": (
        lambda run: write_arrays(run / OTHER, make_preds("x", 0.5, 99)),
        f"tested on other reviews: its ids in {OTHER} differ from those of .*; delete its folder",
    ),
    "a corrupt log": (lambda run: (run / "log_history.json").write_text("[1, 2]"), "log_history.json is corrupt"),
    "a notebook that failed": (
        lambda run: (run / "train.ipynb").rename(run / "train.partial.ipynb"),
        "failed or was stopped: see train.log",
    ),
    "an interrupted training": (lambda run: _edit_metrics(run, "training", interrupted=True), "was interrupted; run"),
    "binary parameters": (lambda run: (run / "params.yaml").write_bytes(b"\xff\xfe\x00"), "params.yaml is corrupt"),
    "parameters as a list": (lambda run: (run / "params.yaml").write_text("[]"), "params.yaml is corrupt .*a mapping"),
    "other parameters": (lambda run: _edit_params(run, epochs=7.0), r"other values.*\(params.yaml: epochs\)"),
    "a parameter too many": (lambda run: _edit_params(run, rank=7), r"other values.*\(params.yaml: rank\)"),
}


@pytest.mark.parametrize("run_id", [FULL, LORA])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_named_with_the_reason_and_the_others_are_compared(damage: str, run_id: str) -> None:
    whole = make_runs()
    harm, reason = DAMAGE[damage]
    harm(paths.run_folder("made", run_id))
    runs = load_runs("made")
    assert list(runs.missing) == [run_id]
    assert re.search(reason, runs.missing[run_id])
    assert "\n" not in runs.missing[run_id]
    assert list(runs.table.index) == [other for other in whole.table.index if other != run_id]


def test_runs_that_all_differ_in_some_way_do_not_exclude_one_another() -> None:
    whole = make_runs(matrix={"strategy": ["full", "lora", "head"], "train_size": [250], "seed": [1]})
    _arrays(paths.run_folder("made", LORA), labels=1 - np.arange(400) % 2)
    _arrays(paths.run_folder("made", "head-n00250-s1"), ids=np.arange(400) + 1, labels=1 - np.arange(400) % 2)
    assert list(load_runs("made").table.index) == [whole.table.index[0]] == [FULL]


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
    _arrays(paths.run_folder("made", LORA), preds=bomb)
    assert "preds_and_labels.npz is corrupt (Object arrays cannot be loaded" in load_runs("made").missing[LORA]
    (tmp_path / "preds_and_labels.npz").write_bytes(pickle.dumps(_Bomb(mark)))
    with pytest.raises(StudyError, match="it is no NumPy archive"):
        read_arrays(tmp_path / "preds_and_labels.npz")
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"])
def test_predictions_that_are_no_archive_are_refused_in_words_of_our_own(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "preds_and_labels.npz"
    file.write_bytes(content)
    with pytest.raises(StudyError, match=r"is corrupt \(it is no NumPy archive \(\.npz\), or one that was cut off\)"):
        read_arrays(file)


@settings(max_examples=25, deadline=None)
@given(where=some.floats(0, 1, exclude_max=True), byte=some.integers(1, 255))
def test_no_flipped_byte_of_the_predictions_stops_the_comparison(where: float, byte: int) -> None:
    make_runs(count=40)
    file = paths.run_folder("made", LORA) / "preds_and_labels.npz"
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
