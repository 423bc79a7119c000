"""What the tests of the engine share: a home with one study of two runs, and notebooks of a line or two."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from made_studies import STUDY


@pytest.fixture(autouse=True)
def process_of_the_driver() -> Iterator[None]:
    """Snakemake refuses a process with an event loop, as a browser's test has; what the driver sets for it goes."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)
    for name in ("PEFT_STUDY_NAME", "PEFT_STUDY_GPUS"):
        os.environ.pop(name, None)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose study `tiny` has two runs, and nothing else."""
    monkeypatch.setenv("PEFT_STUDY_HOME", str(tmp_path))
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    """Writes a notebook whose first code cell declares the parameters: `notebook("seed: int = 1", "print(seed)")`."""

    def write(*sources: str) -> Path:
        cells = [nbformat.v4.new_markdown_cell("Prose."), *map(nbformat.v4.new_code_cell, sources)]
        cells[1].metadata["tags"] = ["parameters"]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "source.ipynb")
        return tmp_path / "source.ipynb"

    return write
