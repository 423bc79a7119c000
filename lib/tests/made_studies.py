"""Studies that are really run: their notebooks, on tiny models and tiny texts."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_study import paths
from peft_study.study.study import read_study

STUDY = {"title": "Tiny", "question": "Does it run?", "matrix": {"strategy": ["full", "lora"]}}
RUN = "lora-n01000-s42"


def make_done(folder: Path, study: str = "tiny", run: str = "") -> None:
    """What a finished run leaves, as far as the engine looks at it."""
    folder.mkdir(parents=True)
    variant = read_study(study).variants[run or folder.name]
    (folder / "params.yaml").write_text(yaml.safe_dump(variant.model_dump()))
    (folder / "metrics.json").write_text("{}")
    (folder / "train.ipynb").write_text("{}")


def execute(root: Path, name: str, study: dict[str, Any], runs: Sequence[str]) -> None:
    """Write a study into the home `root` and run its notebooks: 01, 02 for those of its `runs`, 03; and their pages."""
    from peft_study.engine import steps

    (root / "runs" / name).mkdir(parents=True)
    (root / "runs" / name / "study.yaml").write_text(yaml.safe_dump(study, allow_unicode=True), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {
            "PEFT_STUDY_HOME": str(root),
            "PEFT_STUDY_CACHE": str(root / "cache"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "error::RuntimeWarning",
        }.items():
            patch.setenv(variable, value)
        commands = [["explore", name], *(["train", name, run] for run in runs)]
        processes = [
            subprocess.Popen([sys.executable, "-m", "peft_study", *words], cwd=paths.LIB) for words in commands
        ]
        assert [process.wait() for process in processes] == [0] * len(commands)
        steps.compare(name)
        steps.report(name)
        steps.pages(name)
