"""Files of a run that mean harm, or that another program left: refused in one message, at a bounded cost."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peft_study import paths
from peft_study.__main__ import main
from peft_study.errors import StudyError
from peft_study.records import layout as folders
from peft_study.records.read import read_arrays
from peft_study.study.study import read_study

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture
def run_folder(make_study: Callable[..., Path]) -> Path:
    """The folder of a run whose files a test writes."""
    folder = make_study() / "full-n00060-s1"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("text", [BOMB, "[" * 20_000, "x: !!python/name:os.system ''", "a: &a [*a]", "\0"])
def test_hostile_values_of_a_run_are_as_good_as_none(run_folder: Path, text: str) -> None:
    (run_folder / "params.yaml").write_text(text)
    assert folders.recorded_params(run_folder) is None


def test_a_metrics_file_nested_without_end_is_as_good_as_none(run_folder: Path) -> None:
    (run_folder / "metrics.json").write_text("[" * 200_000)
    assert not folders.is_done(run_folder, read_study("tiny").variants[run_folder.name])
    assert main(["status", "tiny"]) == 0


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00"])
def test_predictions_that_are_no_archive_are_refused_in_words_of_our_own(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "preds_and_labels.npz"
    file.write_bytes(content)
    with pytest.raises(StudyError, match=r"is corrupt \(it is no NumPy archive \(\.npz\), or one that was cut off\)"):
        read_arrays(file)


def test_another_programs_run_is_never_trained_over(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = run_folder / "metrics.json"
    metrics.write_text(json.dumps({"run": {"strategy": "lora", "train_size": 7, "seed": 99}}))  # contradicts the study
    assert main(["train", "tiny", run_folder.name]) == 1
    assert "another program left the run" in capsys.readouterr().err
    target = [f"{run_folder.name}/train.ipynb", "--forcerun", f"{run_folder.name}/train.ipynb", "--cores", "1"]
    asked = ["--snakefile", str(paths.LIB / "Snakefile"), "--directory", str(run_folder.parent), "--nolock", *target]
    said = subprocess.run([sys.executable, "-m", "snakemake", *asked], capture_output=True, text=True)
    assert said.returncode == 1 and "MissingRuleException" in said.stderr
    assert json.loads(metrics.read_text())["run"]["seed"] == 99 and len(list(run_folder.iterdir())) == 1
