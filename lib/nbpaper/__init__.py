"""Turn an executed notebook into a paper: self-contained HTML and a typeset PDF.

Two nbconvert exporters do the work, `paper-html` and `paper-pdf` (`paper_html` and `paper_pdf` in JupyterLab's menu). Both read the notebook in the same steps:

    front matter, options, tags     preprocessor.py, frontmatter.py, cells.py
    cells and outputs -> pieces     compose.py, outputs.py, tables.py
    pieces -> one document          pandoc.py with assets/*.lua (numbering, cross-references, citations)
    document -> HTML or PDF         exporters.py with target_html.py or target_typst.py

Everything comes from pip wheels (pandoc and Typst included). Nothing here touches the network.
The exporters are imported on first use, so that a notebook which only wants the figure style pays for nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbpaper.errors import PaperError
from nbpaper.style import COLUMN, FULL, use_paper_style

if TYPE_CHECKING:
    from nbpaper.exporters import PaperHTMLExporter, PaperPDFExporter
    from nbpaper.preprocessor import PaperPreprocessor

__all__ = [
    "COLUMN",
    "FULL",
    "PaperError",
    "PaperHTMLExporter",
    "PaperPDFExporter",
    "PaperPreprocessor",
    "use_paper_style",
]


def __getattr__(name: str) -> Any:
    if name in ("PaperHTMLExporter", "PaperPDFExporter"):
        from nbpaper import exporters

        return getattr(exporters, name)
    if name == "PaperPreprocessor":
        from nbpaper.preprocessor import PaperPreprocessor

        return PaperPreprocessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
