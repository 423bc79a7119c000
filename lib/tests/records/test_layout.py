"""What a run's folder says before anything is read: whether it is done, who wrote it, which run it may be of."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_foreign import FULL, LORA, bare_runs, replace_arrays
from made_runs import make_runs, make_study

from peft_study import paths
from peft_study.__main__ import main
from peft_study.engine.status import status
from peft_study.errors import StudyError
from peft_study.records import layout
from peft_study.records.read import load_runs, require_runs
from peft_study.study.study import read_study

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


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


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"labels": ["no", "perhaps", "yes"]}, ("no", "perhaps", "yes")),
        ({"labels": [0, 1]}, ("0", "1")),
        ({"labels": "yes"}, ("negative", "positive")),
        (None, ("negative", "positive")),
    ],
)
def test_the_classes_are_named_as_on_record(tmp_path: Path, data: Any, names: tuple[str, ...]) -> None:
    assert layout.label_names(tmp_path) == ("negative", "positive")
    (tmp_path / "metrics.json").write_text(json.dumps({"data": data}))
    assert layout.label_names(tmp_path) == names


# --- Names of folders -------------------------------------------------------------------------------------------------


def rename(run_id: str, name: str) -> None:
    paths.run_folder("made", run_id).rename(paths.run_folder("made", name))


@pytest.mark.parametrize("name", ["full-n250-s1", "full_n00250_s1", "Full-n250-s01"])
def test_a_folder_whose_name_is_another_spelling_of_a_runs_is_named(name: str) -> None:
    bare_runs()
    rename(FULL, name)
    hint = f"{name} is no run of this study; did you mean {FULL}?"
    assert load_runs("made").missing == {FULL: f"not finished; {hint}"}
    assert f"{FULL}: not started: {hint}" in status("made")


def test_a_run_that_the_study_no_longer_has_is_not_taken_for_another() -> None:
    bare_runs()
    rename(FULL, "full-n00500-s1")
    assert load_runs("made").missing == {FULL: "not finished"}


def test_without_any_run_the_reasons_are_told_those_to_mend_first_and_no_more_than_five() -> None:
    runs = bare_runs(matrix={"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1, 2]})
    for run_id in runs.study.variants:
        rename(run_id, "x" + run_id) if run_id != LORA else replace_arrays(LORA, ids=None)
    with pytest.raises(StudyError) as caught:
        require_runs(load_runs("made"))
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  x{FULL} is no run of this study" and lines[2].startswith(f"  {LORA}: preds_and_labels.npz")
    assert len(lines) == 7 and lines[-1] == "  and 4 more"


def test_a_study_without_full_is_told_that_it_is_the_default_baseline() -> None:
    with pytest.raises(StudyError, match="'full' is the default, so write `baseline: lora`"):
        make_study(matrix={"strategy": ["lora", "head"], "train_size": [250]})
    with pytest.raises(StudyError) as caught:
        make_study(matrix={"strategy": ["lora"], "train_size": [250]}, baseline="head")
    assert "default" not in str(caught.value)


# --- Files that mean harm ---------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder() -> Path:
    """The folder of a run whose files a test writes."""
    folder = paths.run_folder(make_study().name, FULL)
    folder.mkdir()
    return folder


@pytest.mark.parametrize("text", [BOMB, "[" * 20_000, "x: !!python/name:os.system ''", "a: &a [*a]", "\0"])
def test_hostile_values_of_a_run_are_as_good_as_none(run_folder: Path, text: str) -> None:
    (run_folder / "params.yaml").write_text(text)
    assert layout.recorded_params(run_folder) is None


def test_a_metrics_file_nested_without_end_is_as_good_as_none(run_folder: Path) -> None:
    (run_folder / "metrics.json").write_text("[" * 200_000)
    assert not layout.is_done(run_folder, read_study("made").variants[run_folder.name])
    assert main(["status", "made"]) == 0


def test_another_programs_run_is_never_trained_over(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = run_folder / "metrics.json"
    metrics.write_text(json.dumps({"run": {"strategy": "lora", "train_size": 7, "seed": 99}}))  # contradicts the study
    assert main(["train", "made", run_folder.name]) == 1
    assert "another program left the run" in capsys.readouterr().err
    target = [f"{run_folder.name}/train.ipynb", "--forcerun", f"{run_folder.name}/train.ipynb", "--cores", "1"]
    options = ["--snakefile", str(paths.LIB / "Snakefile"), "--directory", str(run_folder.parent), "--nolock", *target]
    result = subprocess.run([sys.executable, "-m", "snakemake", *options], capture_output=True, text=True)
    assert result.returncode == 1 and "MissingRuleException" in result.stderr
    assert json.loads(metrics.read_text())["run"]["seed"] == 99 and len(list(run_folder.iterdir())) == 1
