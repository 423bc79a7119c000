"""Copies of this checkout with the real engine, and stand-ins for its notebooks that train nothing.

A whole study takes seconds in one, fails when told to, and lasts as long as a test needs it to.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import nbformat
import psutil
import yaml

from peft_study import paths
from peft_study.engine import steps
from peft_study.study.variant import Variant

TINY = {"title": "Tiny", "question": "Does it run?", "matrix": {"strategy": ["full", "lora"], "seed": [1]}}
Said = subprocess.CompletedProcess[str]
FULL, LORA = "full-n01000-s1", "lora-n01000-s1"

TRAINING = """\
import json, time, uuid
from pathlib import Path
study = Path(folder).parent
print("training", strategy, flush=True)
while strategy == "full" and (study / "wait").exists():
    time.sleep(0.1)
if strategy == "lora" and (study / "fail").exists():
    raise ValueError("unlucky")
Path(folder, "metrics.json").write_text(json.dumps({"made": str(uuid.uuid4())}))
"""

COMPARING = """\
from peft_study import paths
report = paths.report_folder(study)
report.mkdir(parents=True, exist_ok=True)
(report / "numbers.json").write_text("{}")
print(study)
"""


def cell(source: str, *tags: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def save(path: Path, *cells: nbformat.NotebookNode) -> None:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title"), *cells]), path)


class Checkout:
    """A copy of this checkout and the ways to call its run_all.sh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = folder / "runs" / "tiny"
        here = {key: value for key, value in os.environ.items() if not key.startswith(("PEFT_STUDY", "SNAKEMAKE"))}
        self.library = str(folder / "lib")
        self.environment = {
            **here,
            "PYTHONPATH": self.library,
            "CUDA_VISIBLE_DEVICES": "",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def fill(self) -> None:
        ignored = shutil.ignore_patterns("tests", "__pycache__", "*.egg-info", ".*_cache")
        shutil.copytree(paths.LIB, self.folder / "lib", ignore=ignored)
        shutil.copy2(paths.CHECKOUT / "run_all.sh", self.folder)
        self.write_check("list(variants)")
        notebooks = self.folder / "notebooks"
        notebooks.mkdir()
        save(notebooks / steps.EXPLORE, cell("study: str = ''", "parameters"), cell("print(study)"))
        self.write_training(TRAINING)
        save(notebooks / steps.COMPARE, cell("study: str = ''", "parameters"), cell(COMPARING))
        self.write_study(TINY)

    def write_training(self, code: str) -> None:
        """A notebook 02 of this code."""
        parameters = "\n".join(f"{name}: object = None" for name in [*Variant.model_fields, "folder"])
        save(self.folder / "notebooks" / steps.TRAIN, cell(parameters, "parameters"), cell(code))

    def write_check(self, code: str) -> None:
        """A check of models and data that needs neither."""
        file = self.folder / "lib" / "peft_study" / "engine" / "check.py"
        file.write_text(f"from peft_study.errors import StudyError\ndef check(variants):\n    {code}\n")

    def write_study(self, content: Mapping[str, object]) -> None:
        self.study.mkdir(parents=True, exist_ok=True)
        (self.study / "study.yaml").write_text(yaml.safe_dump(content))

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["./run_all.sh", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str) -> Said:
        return self.says("./run_all.sh", *arguments)

    def says(self, *command: str) -> Said:
        """What any command says in this folder."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def made(self) -> dict[str, str]:
        """run_id -> what tells one training of it from another."""
        return {path.parent.name: path.read_text() for path in self.study.glob("*/metrics.json")}

    def processes(self) -> list[psutil.Process]:
        """What is still at work in this copy: the driver (Snakemake), the steps (papermill), their kernels."""
        mine = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PYTHONPATH") == self.library:
                    mine.append(process)
            except psutil.Error:
                continue
        return mine


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
