"""Records of another program: how little they must hold, what is then unrecorded, and that 03 stands all the same."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from made_foreign import FULL, LORA, bare_runs, edit, replace_arrays, write_bare
from made_runs import MATRIX, make_preds, make_runs, write_arrays

from peft_study import paths
from peft_study.analysis.accuracy import against_baseline
from peft_study.analysis.protocol import described, selected_on_test
from peft_study.engine.steps import compare, explore
from peft_study.records.read import FIELDS, load_runs
from peft_study.statistics.calibration import losses

# --- The least that a record must hold --------------------------------------------------------------------------------


def test_predictions_and_the_name_of_the_run_are_enough_to_be_compared() -> None:
    runs = bare_runs({"lora": 0.8})
    assert list(runs.table.index) == list(runs.study.variants) and not runs.missing
    assert runs.table.loc[LORA, "test.accuracy"] == pytest.approx(0.8)
    assert runs.table[list(FIELDS)].isna().all(axis=None)
    assert against_baseline(runs)["difference"].tolist() == pytest.approx([-10, -10])
    assert runs.log(LORA).empty and np.isnan(runs.arrays(LORA)["logits"]).all()


def test_scores_are_those_of_the_predictions_whatever_another_program_says_of_them() -> None:
    bare_runs({"lora": 0.8})
    edit(LORA, lambda blocks: blocks.update(evaluation={"test": {"accuracy": 0.123, "macro_f1": 0.123}}))
    assert (load_runs("made").table.loc[LORA, ["test.accuracy", "test.macro_f1"]] > 0.7).all()


def test_params_may_say_which_run_it_is_instead_of_the_metrics() -> None:
    bare_runs()
    folder = paths.run_folder("made", LORA)
    (folder / "metrics.json").write_text('{"accuracy": 0.9, "f1": 0.9}')
    assert "its strategy, train_size, seed is not recorded; add" in load_runs("made").missing[LORA]
    (folder / "params.yaml").write_text("strategy: lora\ntrain_size: 250\nseed: 1\n")
    assert LORA in load_runs("made").table.index


def test_a_record_of_another_run_is_refused() -> None:
    bare_runs()
    edit(LORA, lambda blocks: blocks["run"].update(seed=7))
    assert load_runs("made").missing == {
        LORA: "metrics.json belongs to another run (seed: 7); move it to the folder of that run"
    }


def _write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no ids": (lambda _: replace_arrays(LORA, ids=None), "ids is not a file in the archive"),
    "a block of text": (lambda _: edit(LORA, lambda b: b.update(cost="much")), "block 'cost' is str, and must be a"),
    "the other predictions": (
        lambda _: replace_arrays(LORA, logits=np.tile([0.0, 1.0], (400, 1))),
        r"its preds are not the largest logit of \d+ of 400 texts",
    ),
    "other reviews": (
        lambda _: replace_arrays(LORA, ids=np.arange(400) + 1),
        f"other texts: its ids or labels in preds_and_labels.npz differ from those of {FULL}; rewrite it",
    ),
    "ids with fractions": (
        lambda _: replace_arrays(LORA, ids=np.arange(400) + 0.5),
        "its ids are not all whole numbers",
    ),
    "no metrics": (lambda folder: (folder / "metrics.json").unlink(), "not finished"),
    "a training of ours that goes on": (_write("train.log", b""), "not finished"),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_what_is_there_and_damaged_is_refused_with_the_reason(damage: str) -> None:
    bare_runs()
    harm, reason = REFUSED[damage]
    harm(paths.run_folder("made", LORA))
    runs = load_runs("made")
    assert list(runs.missing) == [LORA] and re.search(reason, runs.missing[LORA]), runs.missing
    assert not re.search("delete|run the study", runs.missing[LORA]), "what we did not write, we cannot write again"


def test_only_what_a_record_states_is_known_of_its_variant_beside_the_axes_of_the_study() -> None:
    bare_runs(defaults={"model": "some/model", "label_names": ["down", "up"]}, matrix=MATRIX | {"epochs": [2]})
    runs = load_runs("made")
    assert runs.table["epochs"].tolist() == [2.0] * 4 and runs.class_names == ("down", "up")
    assert runs.table[["model", "max_length", "checkpoint", "learning_rate"]].isna().all(axis=None)
    assert runs.foreign == list(runs.table.index) and described(runs) == ""
    own = make_runs()
    assert own.foreign == [] and "validation texts count towards the budget" in described(own)
    assert described(own).startswith("Label budgets are nested")
    one = make_runs(defaults={"validation_fraction": 0}, matrix=MATRIX | {"train_size": [250]})
    assert "nested" not in described(one) and "validation" not in described(one)


@pytest.mark.parametrize(
    ("log", "metrics", "used"),
    [
        ([(10, 0.8, 0.5), (20, 0.9, 0.3)], {}, True),
        ([(10, 0.9, None), (20, 0.8, None)], {"training": {"selected_step": 10}}, True),
        ([(10, 0.9, None), (20, 0.8, None)], {"training": {"selected_step": 20}}, False),
        ([(10, 0.85, 0.5), (20, 0.7, 0.3)], {}, False),
        ([], {}, False),
    ],
)
def test_a_log_whose_evaluation_equals_the_test_scores_has_selected_on_the_test_set(
    log: list[tuple[int, float, float | None]], metrics: dict[str, Any], used: bool
) -> None:
    bare_runs()
    names = ("step", "eval_accuracy", "eval_loss")
    entries = [dict(zip(names, values, strict=True)) for values in log]
    (paths.run_folder("made", LORA) / "log_history.json").write_text(json.dumps(entries))
    edit(LORA, lambda blocks: blocks.update(metrics))
    assert selected_on_test(load_runs("made")) == [LORA] * used
    assert described(load_runs("made")).startswith("**Selection on the test set.** In 1 of 4 records" * used)


def test_where_both_losses_are_known_an_equal_accuracy_is_not_enough() -> None:
    bare_runs()
    preds = make_preds(LORA, 0.9, 400)
    write_arrays(paths.run_folder("made", LORA) / "preds_and_labels.npz", preds)
    loss = float(losses((arrays := load_runs("made").arrays(LORA))["logits"], arrays["labels"]).mean())
    for factor, used in ((1.001, True), (1.1, False)):
        entry = {"step": 10, "eval_accuracy": 0.9, "eval_loss": factor * loss}
        (paths.run_folder("made", LORA) / "log_history.json").write_text(json.dumps([entry]))
        assert (selected_on_test(load_runs("made")) == [LORA]) == used


def test_runs_of_this_program_and_of_another_are_compared_together() -> None:
    make_runs()
    shutil.rmtree(paths.run_folder("made", LORA))
    write_bare(LORA)
    runs = load_runs("made")
    assert not runs.missing and runs.table["training.seconds"].notna().sum() == 3
    assert len(against_baseline(runs)) == 2


# --- What is unrecorded is named --------------------------------------------------------------------------------------


def test_a_complete_record_leaves_nothing_unrecorded() -> None:
    for run_id in make_runs().table.index:
        texts = dict.fromkeys(("date", "precision", "system", "model"), "")
        further = {"training": {"epochs": 1.0}, "parameters": {"backbone": 1, "head": 1}, "data": {"unique": 1}}
        for block, fields in (further | {"environment": texts}).items():
            edit(str(run_id), lambda blocks, block=block, fields=fields: blocks[block].update(fields))  # type: ignore[misc]
    assert load_runs("made").unrecorded == {}


def test_what_another_program_left_out_is_named_by_file_and_field_or_block() -> None:
    bare_runs()
    edit(LORA, lambda blocks: blocks.update(training={"seconds": 3.0, "steps": 9}))
    (paths.run_folder("made", LORA) / "params.yaml").write_text("dropout: 0.0\n")
    runs = load_runs("made")
    assert runs.table.loc[LORA, "training.seconds"] == 3.0
    blocks = [f"metrics.json: {name}" for name in ("data", "parameters", "training", "validation", "cost")]
    files = ["log_history.json", "ood_preds_and_labels.npz", "preds_and_labels.npz: logits of 400 texts"]
    assert runs.unrecorded[FULL] == ["params.yaml", *blocks, "metrics.json: environment", *files]
    missing = {"params.yaml: lora_r", "metrics.json: training.epochs", "log_history.json"}
    recorded = {"params.yaml: dropout", "params.yaml: seed", "metrics.json: training", "metrics.json: training.steps"}
    assert missing <= set(runs.unrecorded[LORA]) and not recorded & set(runs.unrecorded[LORA])
    assert list(runs.stated("dropout").index) == [LORA] and runs.stated("dropout", "lora_r").empty


def test_a_null_says_that_there_is_none_and_is_not_unrecorded() -> None:
    bare_runs()
    null = {"evaluation": {"validation": None, "ood": None}, "cost": {"model_bytes": None}, "environment": None}
    edit(LORA, lambda blocks: blocks.update(null))
    unrecorded = {run_id: set(names) for run_id, names in load_runs("made").unrecorded.items()}
    evaluation = {"metrics.json: validation", "ood_preds_and_labels.npz", "metrics.json: environment"}
    assert evaluation | {"metrics.json: cost"} <= unrecorded[FULL]
    assert not (evaluation | {"metrics.json: cost.model_bytes"}) & unrecorded[LORA]


def test_a_cost_may_stand_in_either_block() -> None:
    bare_runs()
    edit(LORA, lambda blocks: blocks.update(cost={"seconds": 3.0}))
    assert load_runs("made").table.loc[LORA, "training.seconds"] == 3.0


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "seconds": ({"training": {"seconds": "12 s"}}, "training.seconds (is not a number)"),
    "a truth for a number": ({"training": {"steps": True}}, "training.steps (is not a number)"),
    "no end": ({"cost": {"seconds": float("inf")}}, "training.seconds (is not a number)"),
    "a number for a truth": ({"data": {"held_out": 1}}, "data.held_out (is not true or false)"),
    "a number for text": ({"environment": {"device": 7}}, "environment.device (is not text)"),
    "packages": ({"environment": {"packages": "torch"}}, "environment.packages (is not a mapping)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_value_of_a_wrong_kind_is_dropped_and_named(kind: str) -> None:
    bare_runs()
    blocks, name = WRONG[kind]
    edit(LORA, lambda content: content.update(blocks))
    runs = load_runs("made")
    assert f"metrics.json: {name}" in runs.unrecorded[LORA]
    assert pd.isna(runs.table.loc[LORA, name.partition(" ")[0]])


def test_logits_that_are_not_numbers_are_counted_among_the_unrecorded() -> None:
    bare_runs()
    logits = np.stack([-make_preds(LORA, 0.9, 400), make_preds(LORA, 0.9, 400)], axis=1).astype(float)
    logits[:5, 0] = np.nan
    replace_arrays(LORA, logits=logits)
    assert "preds_and_labels.npz: logits of 5 texts" in load_runs("made").unrecorded[LORA]


# --- The notebook -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("records", ["bare", "a single strategy", "some costs"])
def test_03_stands_on_what_another_program_left(records: str) -> None:
    matrix = {"strategy": ["full"] if records == "a single strategy" else ["full", "lora"], "train_size": [250, 1000]}
    absent = {"dataset": "absent/dataset", "model": "absent/model"}
    runs = bare_runs({"lora": 0.8}, count=120, matrix=matrix | {"seed": [1]}, defaults=absent)
    for run_id in runs.table.index if records == "some costs" else ():
        edit(str(run_id), lambda blocks: blocks.update(training={"seconds": 3.0}, parameters={"trainable": 10}))
    compare("made")
    notebook = nbformat.read(paths.study_folder("made") / "compare.ipynb", as_version=4)
    outputs = [(cell, out) for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    text = "\n".join(
        str(out.get("data", {}).get(kind, "")) for _, out in outputs for kind in ("text/markdown", "text/html")
    )
    assert not re.search(r"\b(nan|NaN|NaT|<NA>|None|inf)\b|nan%", re.sub(r"<style.*?</style>", "", text, flags=re.S))
    drawn = {cell.id for cell, out in outputs if "image/svg" in str(out)}
    assert "absent/" not in text, "what study.yaml says and no record"
    assert "fig-size" in drawn and "fig-curves" not in drawn
    assert ("fig-shares" in drawn) == (records == "some costs")


def test_without_their_dataset_the_exploration_is_left_out_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    bare_runs(defaults={"dataset": "absent/dataset", "model": "absent/model"})
    explore("made")
    notebook = nbformat.read(paths.study_folder("made") / "explore.ipynb", as_version=4)
    assert "Left out: the exploration of the texts (" in capsys.readouterr().out
    assert "absent" in notebook.cells[-1].source and "# What is in the texts" in notebook.cells[0].source
