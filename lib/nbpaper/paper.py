"""A notebook on its way to a paper: the cells that belong in it, and what stands before them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from nbpaper.cells import CAPTION, FLOAT_LABEL, REMOVED, CellOptions, caption_of, read_metadata, tags_of
from nbpaper.errors import PaperError

COMPUTABLE = ("title", "subtitle", "authors", "abstract")
"""Front matter that the Markdown outputs of a code cell of this id provide."""


@dataclass
class FrontMatter:
    """What stands before the text. `title`, `subtitle` and `abstract` are Markdown; the rest is plain text.

    `card` is the file, beside the page, of the picture that other sites show with a link to it.
    """

    title: str = ""
    subtitle: str = ""
    authors: list[str] = field(default_factory=list)
    abstract: str = ""
    bibliography: str = ""
    card: str = ""


@dataclass
class PaperCell:
    """One cell of the paper: its place in the notebook (from 1), and a code cell's options.

    `label` names its figure or table; it is empty where it has none.
    """

    number: int
    node: NotebookNode
    options: CellOptions
    label: str = ""
    caption: str = ""


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
    front, cells = read_metadata(FrontMatter, notebook.metadata, "the notebook"), []
    for number, node in enumerate(notebook.cells, start=1):
        if CAPTION in tags_of(node) and (number == 1 or notebook.cells[number - 2].cell_type != "code"):
            raise PaperError.in_cell(number, "a caption stands right after the code cell of its figure or table")
        if node.cell_type == "raw" or tags_of(node) & {CAPTION, *REMOVED}:
            continue
        cell = PaperCell(number, node, read_metadata(CellOptions, node.metadata, f"cell {number}"))
        if node.cell_type == "code":
            cell.caption = caption_of(notebook.cells, number)
            cell.label = _label(node, cell.caption)
            _move_computed_front_matter(node, front)
        cells.append(cell)
    return Paper(front, cells, folders)


def _label(node: NotebookNode, caption: str) -> str:
    """A cell's id if that names a figure or table; with a caption, any id does."""
    if FLOAT_LABEL.fullmatch(node.id) or not caption:
        return node.id if FLOAT_LABEL.fullmatch(node.id) else ""
    drawn = any("image/" in kind for output in node.outputs for kind in output.get("data", {}))
    return f"{'fig' if drawn else 'tbl'}-{node.id}"


def _move_computed_front_matter(node: NotebookNode, front: FrontMatter) -> None:
    """Move a computed abstract (or title, …) from the cell's Markdown outputs into the front matter."""
    markdown = [output for output in node.outputs if "text/markdown" in output.get("data", {})]
    if node.id in COMPUTABLE and markdown:
        texts = [output.data["text/markdown"] for output in markdown]
        setattr(front, node.id, texts if node.id == "authors" else "\n\n".join(texts))
        node.outputs = [output for output in node.outputs if output not in markdown]
