"""What a run's folder says before anything is read: whether it is done, who wrote it, which run it may be of."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_foreign import FULL, LORA, bare_runs, replace_arrays
from made_runs import make_runs, make_scratch, make_study

from peft_study import paths
from peft_study.__main__ import main
from peft_study.engine.status import status
from peft_study.errors import StudyError
from peft_study.records import layout
from peft_study.records.read import load_runs, require_runs
from peft_study.study.study import read_study
from peft_study.study.variant import Variant


def test_what_asks_whether_runs_are_done_imports_nothing_heavy() -> None:
    code = "import sys, peft_study.records.layout; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], cwd=paths.LIB, capture_output=True, text=True, check=True)
    assert not {"numpy", "pandas", "torch", "transformers", "datasets"} & set(modules.stdout.split())


def test_another_programs_result_is_done_and_not_to_be_trained_again() -> None:
    runs = bare_runs()
    for run_id, variant in runs.study.variants.items():
        folder = paths.run_folder("made", run_id)
        assert layout.is_foreign(folder) and layout.is_done(folder, variant)
    assert "4 of 4 runs are done" in status("made")
    (folder / ".lock").touch()
    assert not layout.is_foreign(folder) and not layout.is_done(folder, variant)


def test_a_field_that_is_newer_than_a_run_of_ours_had_its_default_there() -> None:
    make_runs()
    file = paths.run_folder("made", LORA) / "params.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(file.read_text()).items() if k != "max_steps"}))
    assert layout.is_done(file.parent, read_study("made").variants[LORA])
    study = paths.study_folder("made") / "study.yaml"
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | {"defaults": {"max_steps": 5}}))
    assert not layout.is_done(file.parent, read_study("made").variants[LORA])
    assert layout.outdated(file.parent, read_study("made").variants[LORA]) == ["max_steps"]


def test_the_classes_are_named_as_on_record(tmp_path: Path) -> None:
    assert layout.recorded_labels(tmp_path) is None
    for labels, names in ((["no", 1, "yes"], ("no", "1", "yes")), ("yes", None)):
        (tmp_path / "metrics.json").write_text(json.dumps({"data": {"labels": labels}}))
        assert layout.recorded_labels(tmp_path) == names


# --- Runs of one's own ------------------------------------------------------------------------------------------------


def test_a_run_of_ones_own_has_a_folder_where_no_finished_run_and_no_run_of_other_values_is() -> None:
    make_runs()
    variant = Variant(strategy="lora", train_size=250, seed=1)
    first = layout.new_record(variant)
    assert first == paths.run_folder("scratch", "lora-n00250-s1") and layout.new_record(variant) == first
    assert layout.recorded_params(first) == variant.model_dump()
    shutil.rmtree(first)
    make_scratch("lora-n00250-s1", **variant.model_dump())
    second = layout.new_record(variant)
    assert second.name == "lora-n00250-s1-2", "a finished run stays"
    third = layout.new_record(variant.model_copy(update={"epochs": 3.0}))
    assert third.name == "lora-n00250-s1-3", "so do checkpoints of other values"
    shutil.rmtree(second)
    make_scratch(second.name, interrupted=True, **variant.model_dump())
    assert layout.new_record(variant) == second, "one that was interrupted is trained again"
    with pytest.raises(StudyError, match="lora-n00250-s1 holds a finished run; set `folder` to another one"):
        layout.new_record(variant, str(first))
    assert layout.new_record(variant, str(second)) == second


# --- Names of folders -------------------------------------------------------------------------------------------------


def rename(run_id: str, name: str) -> None:
    paths.run_folder("made", run_id).rename(paths.run_folder("made", name))


def test_a_folder_that_is_no_run_of_the_study_is_named_and_taken_for_none() -> None:
    bare_runs()
    rename(FULL, "full-n250-s1")
    assert load_runs("made").missing == {FULL: "not finished"}
    assert f"{FULL}: not started" in status("made") and "full-n250-s1 is no run of this study" in status("made")


def test_without_any_run_the_reasons_that_can_be_mended_are_told_and_no_more_than_five() -> None:
    runs = bare_runs(matrix={"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1, 2]})
    for run_id in runs.study.variants:
        rename(run_id, "x" + run_id) if run_id == FULL else replace_arrays(run_id, ids=None)
    with pytest.raises(StudyError, match="can be compared yet") as caught:
        require_runs(load_runs("made"))
    lines = str(caught.value).splitlines()
    assert ": preds_and_labels.npz" in lines[1] and "not finished" not in str(caught.value)
    assert len(lines) == 7 and lines[-1] == "  and 2 more"


# --- Files that mean harm ---------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder() -> Path:
    """The folder of a run whose files a test writes."""
    folder = paths.run_folder(make_study().name, FULL)
    folder.mkdir()
    return folder


@pytest.mark.parametrize("text", ["[" * 20_000, "x: !!python/name:os.system ''", "a: &a [*a]", "\0"])
def test_hostile_files_of_a_run_are_as_good_as_none(run_folder: Path, text: str) -> None:
    (run_folder / "params.yaml").write_text(text)
    (run_folder / "metrics.json").write_text("[" * 200_000)
    assert layout.recorded_params(run_folder) is None and layout.recorded_metrics(run_folder) is None
    assert "0 of 4 runs are done" in status("made")


def test_another_programs_run_is_never_trained_over(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = run_folder / "metrics.json"
    metrics.write_text(json.dumps({"run": {"strategy": "lora", "train_size": 7, "seed": 99}}))  # contradicts the study
    assert main(["train", "made", run_folder.name]) == 1
    assert "was made elsewhere" in capsys.readouterr().err
    target = [f"{run_folder.name}/train.ipynb", "--forcerun", f"{run_folder.name}/train.ipynb", "--cores", "1"]
    options = ["--snakefile", str(paths.LIB / "Snakefile"), "--directory", str(run_folder.parent), "--nolock", *target]
    result = subprocess.run([sys.executable, "-m", "snakemake", *options], capture_output=True, text=True)
    assert result.returncode == 1 and "MissingRuleException" in result.stderr
    assert json.loads(metrics.read_text())["run"]["seed"] == 99 and len(list(run_folder.iterdir())) == 1
