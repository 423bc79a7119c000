"""JupyterLab's access to files under `./run_all.sh lab`: keeps outputs apart from the notebooks, which git tracks.

A notebook in `notebooks/` is saved without outputs, so its file changes where its cells are edited and not where they
run. The notebook with its outputs lies beside it in `.ipynb_checkpoints/`, which git ignores, and they return where it
is opened, to the cells that are still the same.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbstripout import strip_output

from peft_study.files import replacing

_OF_CELLS = ("collapsed", "execution", "jp-MarkdownHeadingCollapsed", "jupyter", "papermill", "scrolled")
METADATA = ["metadata.language_info", "metadata.widgets", *(f"cell.metadata.{name}" for name in _OF_CELLS)]


class Contents(AsyncLargeFileManager):  # type: ignore[misc]
    """Jupyter's access to files; the outputs of the notebooks in `notebooks/` are kept apart."""

    async def get(self, path: str, content: bool = True, *words: Any, **options: Any) -> Any:
        """What is at `path`, as `AsyncLargeFileManager` gives it; a notebook with its outputs."""
        model = await super().get(path, content, *words, **options)
        if content and model["type"] == "notebook" and (file := self._ran(path)):
            with suppress(OSError, ValueError):  # it has not run here, or the file is damaged
                restore(model["content"], nbformat.read(file, as_version=4))
        return model

    async def save(self, model: dict[str, Any], path: str = "") -> Any:
        """Save `model` at `path`; a notebook without its outputs, which go to a file beside it."""
        if model.get("type") == "notebook" and "content" in model and (file := self._ran(path)):
            notebook = nbformat.from_dict(model["content"])
            with replacing(file) as partial:
                nbformat.write(notebook, partial)
            model = model | {"content": strip_output(notebook, False, False, keep_id=True, extra_keys=METADATA)}
        return await super().save(model, path)

    def _ran(self, path: str) -> Path | None:
        """The file that keeps the notebook at `path` as it ran; None for one elsewhere, which keeps its outputs."""
        file = Path(self._get_os_path(path.strip("/")))
        ours = file.parent == Path(self.root_dir) / "notebooks"
        return file.parent / ".ipynb_checkpoints" / f"{file.stem}-ran.ipynb" if ours else None


def restore(notebook: Any, ran: Any) -> None:
    """Give the code cells of `notebook` the outputs of those of the same source in `ran`."""
    cells = {cell.get("id"): cell for cell in ran.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        before = cells.get(cell.get("id"))
        if before and cell.cell_type == "code" and not cell.outputs and cell.source == before.source:
            cell.outputs, cell.execution_count = before.outputs, before.execution_count
            cell.metadata = {**before.metadata, **cell.metadata}
    if "widgets" in ran.metadata:
        notebook.metadata.setdefault("widgets", ran.metadata.widgets)
