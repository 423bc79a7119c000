"""A notebook on its way to a paper: the cells that belong in it, and what stands before them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from nbpaper.cells import REMOVED, CellOptions, split_options, tags_of
from nbpaper.errors import PaperError
from nbpaper.frontmatter import COMPUTABLE, FrontMatter, read_front_matter


@dataclass
class PaperCell:
    """One cell of the paper: its place in the notebook (from 1), and a code cell's options and bare source."""

    number: int
    node: NotebookNode
    options: CellOptions = field(default_factory=CellOptions)
    code: str = ""


@dataclass
class Paper:
    """What a notebook says, whatever it is written as. `folders` are searched, in order, for images and references."""

    front: FrontMatter
    cells: list[PaperCell]
    folders: list[Path]

    def file(self, name: str, what: str) -> Path:
        """The first of the folders that has the file; absolute names stand for themselves."""
        for folder in self.folders:
            path = folder / name
            if path.is_file():
                return path
        raise PaperError(f"{what} {name!r} not found in {', '.join(str(folder) for folder in self.folders)}")


def read_paper(notebook: NotebookNode, folders: list[Path]) -> Paper:
    """The cells of the notebook without those tagged `remove-cell`, and its front matter."""
    front = read_front_matter(notebook.cells)
    cells = []
    for number, node in enumerate(notebook.cells, start=1):
        if node.cell_type == "raw" or tags_of(node) & REMOVED:
            continue
        cell = PaperCell(number, node)
        if node.cell_type == "code":
            cell.options, cell.code = split_options(node, number)
            _move_computed_front_matter(cell, front)
        cells.append(cell)
    return Paper(front, cells, folders)


def _move_computed_front_matter(cell: PaperCell, front: FrontMatter) -> None:
    """Move a computed abstract (or title, …) from the cell's Markdown outputs into the front matter."""
    outputs = cell.node.outputs
    markdown = [output for output in outputs if "text/markdown" in output.get("data", {})]
    if cell.options.label in COMPUTABLE and markdown:
        texts = [output.data["text/markdown"] for output in markdown]
        setattr(front, cell.options.label, texts if cell.options.label == "authors" else "\n\n".join(texts))
        cell.node.outputs = [output for output in outputs if output not in markdown]
