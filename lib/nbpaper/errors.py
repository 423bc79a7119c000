"""The one exception that nbpaper raises for a notebook it cannot turn into a paper."""

from __future__ import annotations


class PaperError(Exception):
    """A notebook cannot become a paper; the message is one line that names the cell, label or file to mend."""

    @classmethod
    def in_cell(cls, cell: int, problem: str) -> PaperError:
        """An error about one cell; cells are counted from 1, as a reader of the notebook would count them."""
        return cls(f"cell {cell}: {problem}")
