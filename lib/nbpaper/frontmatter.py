"""The paper's front matter: YAML in a raw cell, or Markdown that a code cell computed."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field, fields

from nbformat import NotebookNode

from nbpaper.cells import read_yaml
from nbpaper.errors import PaperError

COMPUTABLE = ("title", "subtitle", "authors", "date", "abstract")
"""Front matter that a code cell may provide, with `#| label: abstract` (say) and a Markdown output."""

_BLOCK = re.compile(r"\s*---[ \t]*\n(.*?)\n?---\s*", re.DOTALL)


@dataclass
class FrontMatter:
    """What stands before the text. `title`, `subtitle` and `abstract` are Markdown; the rest is plain text.

    `card` is the file, beside the page, of the picture that other sites show with a link to it.
    """

    title: str = ""
    subtitle: str = ""
    authors: list[str] = field(default_factory=list)
    date: str = ""
    abstract: str = ""
    bibliography: str = ""
    card: str = ""
    lang: str = "en"

    def timestamp(self) -> int:
        """Seconds since 1970 of the date, if it is an ISO date, else 0."""
        try:
            day = datetime.date.fromisoformat(self.date)
        except ValueError:
            return 0
        return int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp())


def read_front_matter(cells: list[NotebookNode]) -> FrontMatter:
    """Read the front matter from the first or second cell; empty without one."""
    for number, cell in enumerate(cells[:2], start=1):
        block = _BLOCK.fullmatch(cell.source) if cell.cell_type == "raw" else None
        if block:
            return _read(block.group(1), number)
    return FrontMatter()


def _read(text: str, number: int) -> FrontMatter:
    values = read_yaml(text, number, "the front matter")
    keys = [key.name for key in fields(FrontMatter)]
    unknown = [str(key) for key in values if key not in keys]
    if unknown:
        raise PaperError.in_cell(number, f"unknown front matter key {unknown[0]!r}; allowed are {', '.join(keys)}")
    authors = values.pop("authors", None) or []
    front = FrontMatter(authors=[str(author) for author in (authors if isinstance(authors, list) else [authors])])
    for key, value in values.items():
        if value is not None:
            setattr(front, key, str(value))
    return front
