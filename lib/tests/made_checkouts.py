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

TINY = {
    "title": "Tiny",
    "question": "Does it run?",
    "metric": "macro_f1",
    "matrix": {"strategy": ["full", "lora"], "seed": [1]},
}
FULL, LORA = "full-n01000-s1", "lora-n01000-s1"

CHECK = """\
from peft_study import paths
from peft_study.errors import StudyError
def check(*_: object):
    if (paths.CHECKOUT / "faulty").exists():
        raise StudyError("no column text")
"""

TRAINING = """\
import json, time, uuid
from pathlib import Path
study = Path(folder).parent
print("training", strategy, flush=True)
while strategy == "full" and (study / "wait").exists():
    time.sleep(0.1)
if strategy == "lora" and (study / "fail").exists():
    raise ValueError("unlucky")
evaluation = {"test": {"accuracy": 0.95, "macro_f1": 0.487}}
Path(folder, "metrics.json").write_text(json.dumps({"made": str(uuid.uuid4()), "evaluation": evaluation}))
"""

COMPARING = """\
from peft_study import paths
report = paths.report_folder(study)
report.mkdir(parents=True, exist_ok=True)
(report / "numbers.json").write_text("{}")
answer = ["**Full fine-tuning** wins. More.", "With 1,000 labels, choose *it*. More.", "Not said."]
answer += ["**Not distinguishable** (50.0%): LoRA.", "How sure: better."]
(report / "answer.md").write_text("\\n\\n".join(answer))
print(study)
"""


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
        (self.folder / "lib" / "peft_study" / "engine" / "check.py").write_text(CHECK)
        (self.folder / "notebooks").mkdir()
        self.write_notebook(steps.EXPLORE, "study: str = ''", "print(study)")
        self.write_training(TRAINING)
        self.write_notebook(steps.COMPARE, "study: str = ''", COMPARING)
        self.write_study(TINY)

    def write_notebook(self, name: str, parameters: str, code: str) -> None:
        cells = [nbformat.v4.new_markdown_cell("# A title"), *map(nbformat.v4.new_code_cell, (parameters, code))]
        cells[1].metadata["tags"] = ["parameters"]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), self.folder / "notebooks" / name)

    def write_training(self, code: str) -> None:
        """A notebook 02 of this code."""
        parameters = "\n".join(f"{name}: object = None" for name in [*Variant.model_fields, "folder"])
        self.write_notebook(steps.TRAIN, parameters, code)

    def write_study(self, content: Mapping[str, object]) -> None:
        self.study.mkdir(parents=True, exist_ok=True)
        (self.study / "study.yaml").write_text(yaml.safe_dump(content))

    def start(self, *arguments: str, command: str = "./run_all.sh") -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [command, *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str, command: str = "./run_all.sh") -> "subprocess.CompletedProcess[str]":
        """Start, wait, and return what was printed."""
        process = self.start(*arguments, command=command)
        output, _ = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

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


def wait_for(condition: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
