"""The paper's front matter: YAML in a raw cell, or Markdown that a code cell computed."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from nbformat import NotebookNode

from nbpaper.cells import CellOptions
from nbpaper.errors import PaperError

KEYS = ("title", "subtitle", "authors", "date", "abstract", "keywords", "bibliography", "csl", "lang")
AUTHOR_KEYS = ("name", "affiliation", "email")
COMPUTABLE = ("title", "subtitle", "date", "abstract")
"""Front matter that a code cell may provide, with `#| label: abstract` (say) and a Markdown output."""

_BLOCK = re.compile(r"\s*---[ \t]*\n(.*?)\n?---\s*", re.DOTALL)


@dataclass
class FrontMatter:
    """What stands before the text. `title`, `subtitle` and `abstract` are Markdown; the rest is plain text."""

    title: str = ""
    subtitle: str = ""
    authors: list[dict[str, str]] = field(default_factory=list)
    date: str = ""
    abstract: str = ""
    keywords: list[str] = field(default_factory=list)
    bibliography: str = ""
    csl: str = ""
    lang: str = "en"

    def timestamp(self) -> int:
        """Seconds since 1970 of the date, if it is an ISO date, else 0."""
        try:
            day = datetime.date.fromisoformat(self.date)
        except ValueError:
            return 0
        return int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp())


def take_front_matter(cells: list[NotebookNode]) -> tuple[FrontMatter, NotebookNode | None]:
    """Read the front matter from the first or second cell; also return that cell, so that it can be left out."""
    for number, cell in enumerate(cells[:2], start=1):
        block = _BLOCK.fullmatch(cell.source) if cell.cell_type == "raw" else None
        if block:
            return _read(block.group(1), number), cell
    return FrontMatter(), None


def computed_key(options: CellOptions) -> str:
    """The front-matter key that a code cell computes, or an empty string."""
    if options.label in COMPUTABLE:
        return options.label
    return "abstract" if "abstract" in options.tags else ""


def _read(text: str, number: int) -> FrontMatter:
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or "not YAML"
        raise PaperError.in_cell(number, f"cannot read the front matter: {reason}") from error
    if not isinstance(values, dict):
        raise PaperError.in_cell(number, "the front matter must be 'key: value' lines")
    if "author" in values:
        values.setdefault("authors", values.pop("author"))
    _refuse_unknown(values, KEYS, "front matter", number)
    values["authors"] = [_author(author, number) for author in _as_list(values.get("authors"))]
    values["keywords"] = [str(word) for word in _as_list(values.get("keywords"))]
    return FrontMatter(**{key: _text(value) for key, value in values.items() if value is not None})


def _author(author: Any, number: int) -> dict[str, str]:
    if not isinstance(author, dict):
        return {"name": str(author)}
    _refuse_unknown(author, AUTHOR_KEYS, "author", number)
    if "name" not in author:
        raise PaperError.in_cell(number, "an author in the front matter has no 'name'")
    return {key: str(value) for key, value in author.items()}


def _refuse_unknown(values: dict[Any, Any], allowed: tuple[str, ...], where: str, number: int) -> None:
    unknown = [str(key) for key in values if key not in allowed]
    if unknown:
        raise PaperError.in_cell(number, f"unknown {where} key {unknown[0]!r}; allowed are {', '.join(allowed)}")


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> Any:
    return value if isinstance(value, list) else str(value)
