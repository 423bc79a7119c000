"""Runs that another program made: how little they must say, what is then left open, and that 03 stands all the same."""

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
import yaml
from made_runs import make_preds, make_runs, make_study

from peft_study import paths
from peft_study.analysis import accuracy as comparison_tables
from peft_study.engine import steps as batch
from peft_study.engine.status import status
from peft_study.errors import StudyError
from peft_study.records.layout import is_done, is_foreign
from peft_study.records.read import FIELDS, Runs, load_runs, require_runs
from peft_study.report import cost_claims as ledger_claims
from peft_study.report import method as comparison_method
from peft_study.report import provenance as comparison_provenance
from peft_study.study.study import read_study

FULL, LORA = "full-n00250-s1", "lora-n00250-s1"


def write_bare(run_id: str, accuracy: float = 0.9, count: int = 400, seed: int = 1) -> Path:
    """The least that another program must leave: predictions, and which run they are of."""
    strategy, size, _ = run_id.split("-")
    folder = paths.run_folder("made", run_id)
    folder.mkdir(parents=True)
    run = {"strategy": strategy, "train_size": int(size[1:]), "seed": seed}
    (folder / "metrics.json").write_text(json.dumps({"run": run}))
    preds = make_preds(run_id, accuracy, count)
    np.savez(folder / "preds_and_labels.npz", preds=preds, labels=np.arange(count) % 2, ids=np.arange(count))
    return folder


def bare_runs(accuracy: dict[str, float] | None = None, count: int = 400, **content: Any) -> Runs:
    study = make_study(**content)
    for run_id, variant in study.variants.items():
        write_bare(run_id, (accuracy or {}).get(variant.strategy, 0.9), count, variant.seed)
    return load_runs("made")


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


# --- The least that a run must say ------------------------------------------------------------------------------------


def test_predictions_and_the_name_of_the_run_are_enough_to_be_compared() -> None:
    runs = bare_runs({"lora": 0.8})
    assert list(runs.table.index) == list(runs.study.variants) and not runs.missing
    assert runs.table.loc[LORA, "test.accuracy"] == pytest.approx(0.8)
    assert runs.table[list(FIELDS)].isna().all(axis=None)
    assert comparison_tables.against_baseline(runs)["difference"].tolist() == pytest.approx([-10, -10])
    assert runs.log(LORA).empty and np.isnan(runs.arrays(LORA)["logits"]).all()


def test_params_may_say_which_run_it_is_instead_of_the_metrics() -> None:
    bare_runs()
    folder = paths.run_folder("made", LORA)
    (folder / "metrics.json").write_text('{"accuracy": 0.9, "f1": 0.9}')
    assert "nothing says its strategy, train_size, seed; write" in load_runs("made").missing[LORA]
    (folder / "params.yaml").write_text("strategy: lora\ntrain_size: 250\nseed: 1\n")
    assert LORA in load_runs("made").table.index


@pytest.mark.parametrize("field", ["strategy", "train_size", "seed"])
def test_a_record_of_another_run_is_refused(field: str) -> None:
    bare_runs()
    file = paths.run_folder("made", LORA) / "metrics.json"
    edit(file, lambda blocks: blocks["run"].update({field: 7}))
    assert load_runs("made").missing == {
        LORA: f"metrics.json is of another run ({field}: 7); put it into the folder of that run"
    }


def test_a_value_that_contradicts_the_study_is_refused_and_one_that_is_left_out_is_not() -> None:
    bare_runs(defaults={"dropout": 0.2})
    file = paths.run_folder("made", LORA) / "params.yaml"
    file.write_text(yaml.safe_dump({"dropout": 0.2, "lora_r": 8}))
    assert LORA in load_runs("made").table.index
    file.write_text(yaml.safe_dump({"dropout": 0.3}))
    assert re.search(r"other values .*\(params.yaml: dropout\)", load_runs("made").missing[LORA])


def arrays(folder: Path, **changes: Any) -> None:
    with np.load(folder / "preds_and_labels.npz") as archive:
        held = {name: archive[name] for name in archive.files} | changes
    np.savez(folder / "preds_and_labels.npz", **{name: array for name, array in held.items() if array is not None})


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no ids": (lambda folder: arrays(folder, ids=None), "it lacks ids; preds, labels, ids are needed"),
    "no predictions": (lambda folder: arrays(folder, preds=None), "it lacks preds"),
    "too few logits": (lambda folder: arrays(folder, logits=np.zeros((3, 2))), "shapes of its arrays"),
    "a third class": (lambda folder: arrays(folder, preds=np.full(400, 2)), "not all 0 or 1"),
    "metrics cut short": (lambda folder: (folder / "metrics.json").write_text('{"run": '), "metrics.json is corrupt"),
    "metrics as a list": (lambda folder: (folder / "metrics.json").write_text("[]"), "metrics.json is corrupt"),
    "a block of text": (lambda folder: edit(folder / "metrics.json", lambda b: b.update(cost="much")), "is corrupt"),
    "a corrupt log": (lambda folder: (folder / "log_history.json").write_text("[1]"), "log_history.json is corrupt"),
    "corrupt other predictions": (
        lambda folder: (folder / "ood_preds_and_labels.npz").write_bytes(b"PK"),
        "ood_preds_and_labels.npz is corrupt",
    ),
    "corrupt parameters": (lambda folder: (folder / "params.yaml").write_bytes(b"\xff"), "params.yaml is corrupt"),
    "the other predictions": (
        lambda folder: arrays(folder, logits=np.tile([0.0, 1.0], (400, 1))),
        r"its preds are not the largest logit of \d+ of 400 reviews",
    ),
    "other reviews": (
        lambda folder: arrays(folder, ids=np.arange(400) + 1),
        f"its ids in preds_and_labels.npz differ from those of {FULL};",
    ),
    "other labels": (
        lambda folder: arrays(folder, labels=np.zeros(400)),
        f"its labels in preds_and_labels.npz differ from those of {FULL};",
    ),
    "a value that contradicts": (lambda folder: (folder / "params.yaml").write_text("epochs: 7.0"), "values .*epochs"),
    "no metrics": (lambda folder: (folder / "metrics.json").unlink(), "not finished"),
    "a training of ours that goes on": (lambda folder: (folder / "train.log").touch(), "not finished"),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_what_is_there_and_damaged_is_refused_with_the_reason(damage: str) -> None:
    bare_runs()
    harm, reason = REFUSED[damage]
    harm(paths.run_folder("made", LORA))
    runs = load_runs("made")
    assert list(runs.missing) == [LORA] and re.search(reason, runs.missing[LORA]), runs.missing
    assert not re.search("delete|run the study", runs.missing[LORA]), "what we did not make, we cannot make again"


def test_of_two_runs_with_different_reviews_neither_is_said_to_be_of_the_few() -> None:
    bare_runs(matrix={"strategy": ["full", "lora"], "train_size": [250]}, defaults={"seed": 1})
    arrays(paths.run_folder("made", LORA), ids=np.arange(400) + 1)
    assert load_runs("made").missing == {
        LORA: f"it was tested on other reviews: its ids in preds_and_labels.npz differ from those of {FULL}; "
        "write them anew"
    }


def test_logits_that_tie_agree_with_either_class() -> None:
    bare_runs()
    arrays(paths.run_folder("made", LORA), logits=np.ones((400, 2)))
    assert LORA in load_runs("made").table.index


def test_runs_of_this_program_and_of_another_are_compared_together() -> None:
    make_runs()
    shutil.rmtree(paths.run_folder("made", LORA))
    write_bare(LORA)
    runs = load_runs("made")
    assert not runs.missing and runs.table["training.seconds"].notna().sum() == 3
    assert len(comparison_tables.against_baseline(runs)) == 2


# --- What is left open is named ---------------------------------------------------------------------------------------


def test_complete_records_leave_nothing_open() -> None:
    runs, texts = make_runs(), ("date", "precision", "system", "model")
    for run_id in runs.table.index:
        folder = paths.run_folder("made", run_id)
        edit(folder / "metrics.json", lambda blocks: blocks["training"].update(epochs=1.0))

        edit(folder / "metrics.json", lambda blocks: blocks["environment"].update(dict.fromkeys(texts, "")))
        edit(folder / "metrics.json", lambda blocks: blocks["parameters"].update(backbone=1, head=1))
        edit(folder / "metrics.json", lambda blocks: blocks["data"].update(unique=1))
    again = load_runs("made")
    assert again.unrecorded == {} and ledger_claims.gaps(again) == "The records of all compared runs are complete."


def test_what_another_program_left_out_is_named_once_for_the_runs_that_lack_it() -> None:
    bare_runs()
    edit(paths.run_folder("made", LORA) / "metrics.json", lambda blocks: blocks.update(training={"seconds": 3.0}))
    runs = load_runs("made")
    assert runs.table.loc[LORA, "training.seconds"] == 3.0
    assert "metrics.json: training" in runs.unrecorded[FULL] and "metrics.json: training.steps" in runs.unrecorded[LORA]
    told = ledger_claims.gaps(runs)
    assert told.startswith("**Not on record**") and told.count("`log_history.json`") == 1
    assert re.search(r"- all runs: .*`params.yaml`.*of `metrics.json`: `data`, .*`environment`", told)
    assert f"- `{LORA}`: of `metrics.json`: `training.tokens_per_second`, " in told
    assert told.endswith("What `params.yaml` leaves out is taken as `study.yaml` states it.")


def test_a_null_says_that_there_is_none_and_leaves_no_gap() -> None:
    bare_runs()
    null = {"evaluation": {"validation": None, "ood": None}, "cost": {"model_bytes": None}}
    edit(paths.run_folder("made", LORA) / "metrics.json", lambda blocks: blocks.update(null))
    gaps = load_runs("made").unrecorded
    assert {"metrics.json: validation", "ood_preds_and_labels.npz", "metrics.json: cost"} <= set(gaps[FULL])
    assert not {"metrics.json: validation", "ood_preds_and_labels.npz", "metrics.json: cost.model_bytes"} & set(
        gaps[LORA]
    )


def test_a_cost_may_stand_in_either_block() -> None:
    bare_runs()
    edit(paths.run_folder("made", LORA) / "metrics.json", lambda blocks: blocks.update(cost={"seconds": 3.0}))
    assert load_runs("made").table.loc[LORA, "training.seconds"] == 3.0


WRONG = {
    "seconds": ({"training": {"seconds": "12 s"}}, "training.seconds (is not a number)"),
    "a truth for a number": ({"training": {"steps": True}}, "training.steps (is not a number)"),
    "not a number": ({"cost": {"model_bytes": float("nan")}}, "cost.model_bytes (is not a number)"),
    "no end": ({"cost": {"seconds": float("inf")}}, "training.seconds (is not a number)"),
    "a list": ({"data": {"fingerprint": ["same"]}}, "data.fingerprint (is not text)"),
    "a number for text": ({"environment": {"device": 7}}, "environment.device (is not text)"),
    "packages": ({"environment": {"packages": "torch"}}, "environment.packages (is not a mapping)"),
    "a further figure": ({"data": {"duplicates": "few"}}, "data.duplicates (is not a number)"),
}


@pytest.mark.parametrize("told", WRONG)
def test_a_figure_of_a_wrong_kind_is_a_gap_that_is_named(told: str) -> None:
    bare_runs()
    blocks, gap = WRONG[told]
    edit(paths.run_folder("made", LORA) / "metrics.json", lambda content: content.update(blocks))
    runs = load_runs("made")
    assert f"metrics.json: {gap}" in runs.unrecorded[LORA] and f"`{gap}`" in ledger_claims.gaps(runs)
    assert pd.isna(runs.table.loc[LORA, gap.partition(" ")[0]])


def test_logits_that_are_not_numbers_are_counted_among_the_gaps() -> None:
    bare_runs()
    logits = np.stack([-make_preds(LORA, 0.9, 400), make_preds(LORA, 0.9, 400)], axis=1).astype(float)
    logits[:5, 0] = np.nan
    arrays(paths.run_folder("made", LORA), logits=logits)
    gaps = load_runs("made").unrecorded[LORA]
    some, every = "preds_and_labels.npz: logits (5 of 400 are not numbers)", "preds_and_labels.npz: logits"
    assert some in gaps and every not in gaps
    arrays(paths.run_folder("made", LORA), logits=np.full((400, 2), np.nan))
    assert every in load_runs("made").unrecorded[LORA]


def method(runs: Runs) -> str:
    """All that the report states of how the runs were made."""
    told = comparison_method
    parts = (told.data(runs), told.models(runs), told.training(runs), told.strategies(runs))
    return "\n".join([*parts, comparison_provenance.explored(runs, links=True)])


def test_the_method_states_no_default_as_if_it_were_on_record() -> None:
    runs = bare_runs()
    assert comparison_method.data(runs) == "**Data.** The test set has 400 reviews."
    assert comparison_method.models(runs) == "**Encoder.** What is fine-tuned is not on record."
    assert comparison_method.training(runs) == "**Training.** How they were trained is not on record."
    assert [line.endswith("| – |") for line in comparison_method.strategies(runs).splitlines()[2:]] == [True, True]
    assert "before any model was trained" not in method(runs), "01 was not executed"
    assert "The 4 runs were made from code that no record names." in comparison_provenance.reproducibility(runs)


def test_the_method_states_just_the_fields_that_are_on_record() -> None:
    bare_runs()
    file = paths.run_folder("made", LORA) / "params.yaml"
    file.write_text(yaml.safe_dump({"dropout": 0.0, "lora_r": 8, "learning_rate": None, "max_length": 128}))
    runs = load_runs("made")
    assert comparison_method.training(runs) == (
        "**Training.** Dropout is 0. Where a strategy has a rank, it is 8. How 3 of the 4 runs were trained is not on "
        "record."
    )
    rows = comparison_method.strategies(runs).splitlines()[2:]
    assert [row.split("|")[-2].strip() for row in rows] == ["–", f"{runs.study.variants[LORA].rate:g}"]
    assert "128" not in method(runs), "how reviews are cut takes both fields"


# --- The engine -------------------------------------------------------------------------------------------------------


def test_another_programs_result_is_done_and_not_to_be_trained_again() -> None:
    runs = bare_runs()
    for run_id, variant in runs.study.variants.items():
        folder = paths.run_folder("made", run_id)
        assert is_foreign(folder) and is_done(folder, variant)
    assert "4 of 4 runs are done" in status("made")
    (folder / ".lock").touch()
    assert not is_foreign(folder) and not is_done(folder, variant)


def test_a_field_that_is_newer_than_a_run_of_ours_had_its_default_there() -> None:
    make_runs()
    file = paths.run_folder("made", LORA) / "params.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(file.read_text()).items() if k != "max_steps"}))
    assert is_done(file.parent, read_study("made").variants[LORA])
    make_study_again(defaults={"max_steps": 5})
    assert not is_done(file.parent, read_study("made").variants[LORA])


def make_study_again(**content: Any) -> None:
    """Another `study.yaml` for the runs that are there."""
    file = paths.study_folder("made") / "study.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | content))


def test_without_any_run_every_reason_is_told() -> None:
    make_study()
    with pytest.raises(StudyError, match="not finished"):
        require_runs(load_runs("made"))


# --- Names of folders -------------------------------------------------------------------------------------------------


def rename(run_id: str, name: str) -> None:
    paths.run_folder("made", run_id).rename(paths.run_folder("made", name))


@pytest.mark.parametrize("name", ["full-n250-s1", "full_n00250_s1", "Full-n250-s01"])
def test_a_folder_whose_name_is_another_spelling_of_a_runs_is_named(name: str) -> None:
    bare_runs()
    rename(FULL, name)
    asked = f"{name} is no run of this study; did you mean {FULL}?"
    assert load_runs("made").missing == {FULL: f"not finished; {asked}"}
    assert f"{FULL}: not started: {asked}" in status("made")


def test_a_run_that_the_study_no_longer_has_is_not_taken_for_another() -> None:
    bare_runs()
    rename(FULL, "full-n00500-s1")
    assert load_runs("made").missing == {FULL: "not finished"}


def test_without_any_run_the_reasons_are_told_those_to_mend_first_and_no_more_than_five() -> None:
    runs = bare_runs(matrix={"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1, 2]})
    for run_id in runs.study.variants:
        rename(run_id, "x" + run_id) if run_id != LORA else arrays(paths.run_folder("made", LORA), ids=None)
    with pytest.raises(StudyError) as caught:
        require_runs(load_runs("made"))
    told = str(caught.value).splitlines()
    assert told[1] == f"  x{FULL} is no run of this study" and told[2].startswith(f"  {LORA}: preds_and_labels.npz")
    assert len(told) == 7 and told[-1] == "  and 4 more"


def test_a_study_without_full_is_told_that_it_is_the_default_baseline() -> None:
    with pytest.raises(StudyError, match="'full' is the default, so write `baseline: lora`"):
        make_study(matrix={"strategy": ["lora", "head"], "train_size": [250]})
    with pytest.raises(StudyError) as caught:
        make_study(matrix={"strategy": ["lora"], "train_size": [250]}, baseline="head")
    assert "default" not in str(caught.value)


# --- The notebook -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("told", ["bare", "a single strategy", "some costs"])
def test_03_stands_on_what_another_program_left(told: str) -> None:
    matrix = {"strategy": ["full"] if told == "a single strategy" else ["full", "lora"], "train_size": [250, 1000]}
    bare_runs({"lora": 0.8}, count=120, matrix=matrix | {"seed": [1]})
    if told == "some costs":
        costs = {"training": {"seconds": 3.0}, "parameters": {"trainable": 10}}
        edit(paths.run_folder("made", LORA) / "metrics.json", lambda blocks: blocks.update(costs))
    batch.compare("made")
    notebook = nbformat.read(paths.study_folder("made") / "compare.ipynb", as_version=4)
    outputs = [(cell, out) for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    text = "\n".join(
        str(out.get("data", {}).get(kind, "")) for _, out in outputs for kind in ("text/markdown", "text/html")
    )
    assert not re.search(r"\b(nan|NaN|NaT|<NA>|None|inf)\b|nan%", re.sub(r"<style.*?</style>", "", text, flags=re.S))
    assert "**Not on record**" in text and "No run left a log" in text
    drawn = {cell.source.split("\n")[0].removeprefix("#| label: ") for cell, out in outputs if "image/svg" in str(out)}
    assert "fig-size" in drawn and "fig-curves" not in drawn
    assert ("fig-tradeoff" in drawn) == (told == "some costs")
