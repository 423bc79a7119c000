"""Studies that are really run: their notebooks, on tiny models and tiny texts."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_study import paths


def execute(root: Path, name: str, study: dict[str, Any], runs: Sequence[str]) -> None:
    """Write a study into the home `root` and run its notebooks: 01, 02 for those of its `runs`, 03; and their pages."""
    from peft_study.engine import steps as batch

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
        steps = [["explore", name], *(["train", name, run] for run in runs)]
        processes = [subprocess.Popen([sys.executable, "-m", "peft_study", *step], cwd=paths.LIB) for step in steps]
        assert [process.wait() for process in processes] == [0] * len(steps)
        batch.compare(name)
        batch.report(name)
        batch.pages(name)
