"""Small executed notebooks for the tests, and short ways to turn them into papers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from nbpaper import PaperHTMLExporter, PaperPDFExporter

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one PNG pixel
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90pt" height="45pt" viewBox="0 0 9 4"><path d="M0 0h9v4z"/></svg>'
BIBLIOGRAPHY = """
@article{brier1950, author={Brier, Glenn W.}, title={Verification of forecasts}, journal={Weather}, year={1950}}
@article{hu2022, author={Hu, Edward and Shen, Yelong and Wallis, P.}, title={LoRA}, journal={ICLR}, year={2022}}
"""


def raw(source: str) -> Any:
    return new_raw_cell(source)


def md(source: str, *tags: str) -> Any:
    return new_markdown_cell(source, metadata={"tags": list(tags)})


def code(source: str, *outputs: NotebookNode, tags: tuple[str, ...] = ()) -> Any:
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def shows(metadata: dict[str, Any] | None = None, /, **bundle: str) -> Any:
    """An output from short names: `shows(svg=SVG, plain="<Figure>")`."""
    types = {
        "svg": "image/svg+xml",
        "png": "image/png",
        "html": "text/html",
        "markdown": "text/markdown",
        "latex": "text/latex",
        "plain": "text/plain",
        "widget": "application/vnd.jupyter.widget-view+json",
    }
    data = {types[name]: value for name, value in bundle.items()}
    return new_output("display_data", data=data, metadata=metadata or {})


def prints(text: str, name: str = "stdout") -> Any:
    return new_output("stream", name=name, text=text)


def fails(name: str = "ZeroDivisionError", value: str = "division by zero") -> Any:
    return new_output("error", ename=name, evalue=value, traceback=[f"\x1b[0;31m{name}\x1b[0m: {value}"])


def figure(label: str, caption: str = "A caption.", **more: Any) -> Any:
    return code(f"#| label: {label}\n#| fig-cap: {caption}\nplot()", shows(svg=SVG, plain="<Figure>"), **more)


def table(label: str, html: str, caption: str = "A table.") -> Any:
    return code(f"#| label: {label}\n#| tbl-cap: {caption}\nframe", shows(html=html, plain="frame"))


def html(*cells: NotebookNode, folder: Path | None = None, **options: Any) -> str:
    page, _ = PaperHTMLExporter(**options).from_notebook_node(_notebook(cells), _resources(folder))
    return str(page)


def pdf(*cells: NotebookNode, folder: Path | None = None, **options: Any) -> bytes:
    data, _ = PaperPDFExporter(**options).from_notebook_node(_notebook(cells), _resources(folder))
    return bytes(data)


def typst(*cells: NotebookNode, kept: Path, folder: Path | None = None) -> str:
    """The Typst source of a PDF that did compile."""
    assert pdf(*cells, folder=folder, keep_typst=str(kept)).startswith(b"%PDF")
    return (kept / "main.typ").read_text("utf-8")


def png_bytes() -> bytes:
    return base64.b64decode(PIXEL)


def _notebook(cells: tuple[NotebookNode, ...]) -> Any:
    return new_notebook(cells=list(cells))


def _resources(folder: Path | None) -> dict[str, Any]:
    return {"metadata": {"path": str(folder or "."), "name": "paper"}}
