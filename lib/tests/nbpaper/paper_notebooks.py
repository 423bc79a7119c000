"""Small executed notebooks for the tests, and short ways to turn them into papers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from nbpaper import PaperHTMLExporter, PaperPDFExporter

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one PNG pixel
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90pt" height="45pt" viewBox="0 0 9 4"><path d="M0 0h9v4z"/></svg>'
BIBLIOGRAPHY = """
@article{brier1950, author={Brier, Glenn W.}, title={Verification of forecasts}, journal={Weather}, year={1950},
  doi={10.1175/a(b)c}}
@article{hu2022, author={Hu, Edward and Shen, Yelong and Wallis, P.}, title={LoRA}, journal={ICLR}, year={2022},
  url={https://arxiv.org/abs/2106.09685}}
"""
BRIER, HU = "[Brier 1950](https://doi.org/10.1175/a(b)c)", "[Hu et al. 2022](https://arxiv.org/abs/2106.09685)"


class Front(dict[str, Any]):
    """Among the cells of `notebook`: what its metadata say of the paper."""


def md(source: str, *tags: str) -> Any:
    return new_markdown_cell(source, metadata={"tags": list(tags)})


def code(source: str, *outputs: NotebookNode, tags: tuple[str, ...] = (), label: str = "", **paper: Any) -> Any:
    metadata = {"tags": list(tags), "paper": paper}
    return new_code_cell(source, outputs=list(outputs), metadata=metadata, **({"id": label} if label else {}))


def shows(**bundle: str) -> Any:
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
    return new_output("display_data", data=data)


def prints(text: str, name: str = "stdout") -> Any:
    return new_output("stream", name=name, text=text)


def fails(name: str = "ZeroDivisionError", value: str = "division by zero") -> Any:
    return new_output("error", ename=name, evalue=value, traceback=[f"\x1b[0;31m{name}\x1b[0m: {value}"])


def figure(label: str, caption: str = "A caption.", **more: Any) -> list[Any]:
    plot = code("plot()", shows(svg=SVG, plain="<Figure>"), label=label, **more)
    return [plot, md(f"**Figure.** {caption}", "caption")]


def table(label: str, html: str, caption: str = "A table.") -> list[Any]:
    return [code("frame", shows(html=html, plain="frame"), label=label), md(f"**Table.** {caption}", "caption")]


def html(*cells: Any, folder: Path | None = None, **options: Any) -> str:
    page, _ = PaperHTMLExporter(**options).from_notebook_node(notebook(*cells), _resources(folder))
    return str(page)


def pdf(*cells: Any, folder: Path | None = None, **options: Any) -> bytes:
    data, _ = PaperPDFExporter(**options).from_notebook_node(notebook(*cells), _resources(folder))
    return bytes(data)


def typst(*cells: Any, kept: Path, folder: Path | None = None) -> str:
    """The Typst source of a PDF that did compile."""
    assert pdf(*cells, folder=folder, keep_typst=str(kept)).startswith(b"%PDF")
    return (kept / "main.typ").read_text("utf-8")


def png_bytes() -> bytes:
    return base64.b64decode(PIXEL)


def notebook(*parts: Any) -> Any:
    """Of cells, lists of cells and a `Front`."""
    front = next((part for part in parts if isinstance(part, Front)), {})
    lists = [part if isinstance(part, list) else [part] for part in parts if not isinstance(part, Front)]
    return new_notebook(cells=[cell for cells in lists for cell in cells], metadata={"paper": dict(front)})


def _resources(folder: Path | None) -> dict[str, Any]:
    return {"metadata": {"path": str(folder or "."), "name": "paper"}}
