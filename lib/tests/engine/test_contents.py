"""JupyterLab's access to files: what running a notebook leaves is no change to the file that git tracks."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from peft_study import paths
from peft_study.engine import steps
from peft_study.engine.contents import Contents

NAME = f"notebooks/{steps.COMPARE}"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))  # signatures
    (tmp_path / "notebooks").mkdir()
    shutil.copy2(paths.NOTEBOOKS / steps.COMPARE, tmp_path / NAME)
    return tmp_path


def opened(checkout: Path, name: str = NAME) -> Any:
    """What JupyterLab shows of a notebook; a new server each time."""
    return asyncio.run(Contents(root_dir=str(checkout)).get(name))["content"]


def save(checkout: Path, notebook: Any, name: str = NAME) -> None:
    model = {"type": "notebook", "format": "json", "content": notebook}
    asyncio.run(Contents(root_dir=str(checkout)).save(model, name))


def run(notebook: Any) -> Any:
    """What running the cells in JupyterLab makes of them."""
    notebook.metadata |= {"language_info": {"name": "python"}, "widgets": {"state": {}}}
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.update(execution_count=count, outputs=[nbformat.v4.new_output("stream", text=f"ran {count}")])
        cell.metadata |= {"trusted": True, "scrolled": True, "jupyter": {"source_hidden": True}}
    return notebook


def shown(notebook: Any) -> list[str]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(output.text for output in cell.outputs) for cell in cells]


def test_the_file_stays_as_it_was_and_outputs_return_where_it_is_opened(checkout: Path) -> None:
    source = (checkout / NAME).read_bytes()
    for _ in range(2):
        save(checkout, run(opened(checkout)))
        assert (checkout / NAME).read_bytes() == source
        again = opened(checkout)
        assert shown(again)[:2] == ["ran 1", "ran 2"] and again.metadata.widgets == {"state": {}}
        assert all(cell.metadata.trusted for cell in again.cells if cell.cell_type == "code")
    assert [file.name for file in (checkout / "notebooks").iterdir() if not file.name.startswith(".")] == [
        steps.COMPARE
    ]


def test_edits_are_in_the_file_and_of_a_cell_that_has_changed_there_no_output_returns(checkout: Path) -> None:
    notebook = run(opened(checkout))
    first, second = [cell for cell in notebook.cells if cell.cell_type == "code"][:2]
    first.source = "study: str = 'mine'"
    save(checkout, notebook)
    assert opened(checkout).cells[notebook.cells.index(first)].source == first.source
    text = (checkout / NAME).read_text(encoding="utf-8")
    assert "'mine'" in text and "ran 1" not in text
    changed = nbformat.reads(text, as_version=4)
    changed.cells[notebook.cells.index(second)].source += "  # by another commit"
    nbformat.write(changed, checkout / NAME)
    assert shown(opened(checkout))[:3] == ["ran 1", "", "ran 3"]


def test_notebooks_elsewhere_keep_their_outputs(checkout: Path) -> None:
    (checkout / "runs").mkdir()
    shutil.copy2(checkout / NAME, checkout / "runs" / "own.ipynb")
    save(checkout, run(opened(checkout, "runs/own.ipynb")), "runs/own.ipynb")
    assert "ran 1" in (checkout / "runs" / "own.ipynb").read_text(encoding="utf-8")
