"""What is read of a study's records, and what becomes of one that is missing, damaged or of another study."""

import dataclasses
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
from made_foreign import FULL, LORA, edit
from made_runs import make_preds, make_runs, make_scratch, write_arrays

from peft_study import paths
from peft_study.analysis.accuracy import summary, title
from peft_study.errors import StudyError
from peft_study.records.read import load_runs, read_arrays, with_scratch
from peft_study.report.numbers import write_aggregate
from peft_study.study.study import read_study
from peft_study.study.variant import Variant


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


def _arrays(folder: Path, **changes: Any) -> None:
    write_arrays(folder / PREDICTIONS, make_preds(folder.name, 0.9, 400), **changes)


PREDICTIONS, OTHER = "preds_and_labels.npz", "ood_preds_and_labels.npz"
CONTENTS = [("metrics.json", b"[" * 200_000), ("metrics.json", b"[]"), ("log_history.json", b"[1, 2]")]
CONTENTS += [("params.yaml", b"\xff\xfe\x00"), ("params.yaml", b"[]"), (PREDICTIONS, b""), (OTHER, b"PK\x03\x04 cut")]
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    **{
        f"{name} {i}": (
            lambda run, name=name, content=content: (run / name).write_bytes(content),
            f"^{name} cannot be r",
        )
        for i, (name, content) in enumerate(CONTENTS)
    },
    "no metrics": (
        lambda run: (run / "metrics.json").unlink(),
        "metrics.json cannot be read .No such.*; delete the ru",
    ),
    "no predictions": (lambda run: (run / PREDICTIONS).unlink(), f"^{PREDICTIONS} cannot be read .No such file"),
    "two lengths": (lambda run: _arrays(run, labels=np.zeros(3)), "shapes of its arrays"),
    "a third class": (lambda run: _arrays(run, preds=np.full(400, 2)), "not all 0 or 1"),
    "a review twice": (lambda run: _arrays(run, ids=np.zeros(400, dtype=int)), "names a text twice"),
    "other reviews": (lambda run: _arrays(run, ids=np.arange(400) + 1), f"texts: its ids or labels in {PREDICTIONS}"),
    "other labels": (lambda run: _arrays(run, labels=1 - np.arange(400) % 2), "texts: its ids or labels in pr"),
    "other OOD": (lambda run: write_arrays(run / OTHER, make_preds("x", 0.5, 99)), f"in {OTHER} differ .*; delete the"),
    "other data": (
        lambda run: edit(run.name, lambda blocks: blocks["data"].update(fingerprint="changed")),
        "tested on other texts: its data.fingerprint in",
    ),
    "an interrupted training": (
        lambda run: edit(run.name, lambda blocks: blocks["training"].update(interrupted=True)),
        "training was interrupted; run the study again",
    ),
    "other values": (
        lambda run: (run / "params.yaml").write_text("epochs: 7.0"),
        r"its params.yaml differs from study.yaml \(epochs\)",
    ),
    "a notebook that failed": (
        lambda run: (run / "train.ipynb").rename(run / "train.partial.ipynb"),
        "failed or was stopped: see train.log",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_named_with_the_reason_and_the_others_are_compared(damage: str) -> None:
    whole = make_runs()
    harm, reason = DAMAGE[damage]
    harm(paths.run_folder("made", LORA))
    runs = load_runs("made")
    assert list(runs.missing) == [LORA] and re.search(reason, runs.missing[LORA]), runs.missing
    assert "\n" not in runs.missing[LORA]
    assert list(runs.table.index) == [run_id for run_id in whole.table.index if run_id != LORA]


def test_runs_that_all_differ_in_some_way_do_not_exclude_one_another() -> None:
    whole = make_runs(matrix={"strategy": ["full", "lora", "head"], "train_size": [250], "seed": [1]})
    _arrays(paths.run_folder("made", LORA), labels=1 - np.arange(400) % 2)
    _arrays(paths.run_folder("made", "head-n00250-s1"), ids=np.arange(400) + 1, labels=1 - np.arange(400) % 2)
    assert list(load_runs("made").table.index) == [whole.table.index[0]] == [FULL]


class _Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


def test_a_pickle_among_the_predictions_is_never_loaded(tmp_path: Path) -> None:
    make_runs()
    _arrays(paths.run_folder("made", LORA), preds=np.array([_Bomb()] * 400, dtype=object))
    assert "preds_and_labels.npz cannot be read (Object arrays cannot be loaded" in load_runs("made").missing[LORA]
    (tmp_path / PREDICTIONS).write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(StudyError, match="File is not a zip file"):
        read_arrays(tmp_path / PREDICTIONS)


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


def test_the_aggregate_has_a_row_for_every_run() -> None:
    runs = make_runs(without="lora-n01000")
    write_aggregate(runs)
    table = pd.read_csv(paths.study_folder("made") / "aggregated_metrics.csv", index_col="run_id")
    assert list(table.index) == list(runs.table.index)
    assert table["test.accuracy"].tolist() == pytest.approx(runs.table["test.accuracy"].tolist())


def test_runs_of_ones_own_stand_beside_those_of_a_study_on_the_same_texts() -> None:
    runs = make_runs(ood=None)
    assert with_scratch(runs) == (runs, {})
    make_scratch("mine", 0.8, strategy="head", train_size=500)
    make_scratch("stopped", interrupted=True)
    make_scratch("other", test_size=7, dataset="bundled:rotten-tomatoes", ood_dataset=None)
    write_arrays(paths.run_folder("scratch", "other") / "preds_and_labels.npz", make_preds("other", 0.8, 7))
    (make_scratch("damaged") / "preds_and_labels.npz").write_text("no")
    merged, left_out = with_scratch(runs)
    assert list(merged.table.index) == [*runs.table.index, "scratch/mine"]
    assert merged.table["run"].tolist() == ["–"] * 4 + ["scratch/mine"]
    assert merged.table.loc["scratch/mine", ["strategy", "train_size", "test.accuracy"]].tolist() == ["head", 500, 0.8]
    assert merged.right("scratch/mine").mean() == 0.8
    assert left_out.keys() == {"scratch/damaged", "scratch/other"}
    assert left_out["scratch/other"].startswith("tested on other texts: it differs in dataset, test_size")
    scores = summary(merged).set_index("run")
    assert scores.loc["–", "accuracy"].tolist() == summary(runs)["accuracy"].tolist(), "no seeds of the study's"
    assert title(scores.loc["scratch/mine"].to_dict() | {"run": "scratch/mine"}) == "scratch/mine"
