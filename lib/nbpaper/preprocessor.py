"""Chooses the cells that belong in the paper and gathers what stands before them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from traitlets import Enum, Unicode

from nbpaper.cells import CellOptions, is_kept, split_options
from nbpaper.frontmatter import FrontMatter, computed_key, take_front_matter


@dataclass
class PaperCell:
    """One cell of the paper: its place in the notebook (from 1), and a code cell's options and bare source."""

    number: int
    node: NotebookNode
    options: CellOptions = field(default_factory=CellOptions)
    code: str = ""


@dataclass
class Paper:
    """A notebook on its way to a paper. `folders` are searched, in order, for images and the bibliography."""

    front: FrontMatter
    cells: list[PaperCell]
    folders: list[Path]


class PaperPreprocessor(Preprocessor):
    """Reads a notebook into `resources["paper"]`; the notebook itself passes through unchanged."""

    target = Enum(("html", "typst"), "html", help="What the paper is made for.").tag(config=True)
    resource_path = Unicode(
        "", help="Folder of the bibliography and images; the notebook's own folder is tried next."
    ).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """Read the notebook into `resources["paper"]`, for the exporter to write."""
        front, front_cell = take_front_matter(nb.cells)
        cells = []
        for number, node in enumerate(nb.cells, start=1):
            if node is front_cell or node.cell_type == "raw" or not is_kept(node, self.target):
                continue
            cell = PaperCell(number, node)
            if node.cell_type == "code":
                cell.options, cell.code = split_options(node, number)
            if cell.options.include:
                cells.append(_without_computed_front_matter(cell, front))
        resources["paper"] = Paper(front, cells, self._folders(resources))
        return nb, resources

    def _folders(self, resources: dict[str, Any]) -> list[Path]:
        notebook_folder = Path(resources.get("metadata", {}).get("path") or ".")
        named = [Path(self.resource_path)] if self.resource_path else []
        return [folder.resolve() for folder in [*named, notebook_folder]]


def _without_computed_front_matter(cell: PaperCell, front: FrontMatter) -> PaperCell:
    """Move a computed abstract (or title, …) from the cell's Markdown outputs into the front matter."""
    key = computed_key(cell.options)
    if not key:
        return cell
    outputs = cell.node.get("outputs", [])
    markdown = [output for output in outputs if "text/markdown" in output.get("data", {})]
    if markdown:
        setattr(front, key, "\n\n".join(output.data["text/markdown"] for output in markdown))
    node = NotebookNode({**cell.node, "outputs": [output for output in outputs if output not in markdown]})
    return PaperCell(cell.number, node, cell.options, cell.code)
