r"""Turn an executed notebook into a paper: self-contained HTML and a typeset PDF.

Two nbconvert exporters do the work, `paper-html` and `paper-pdf`, which JupyterLab's menu calls `paper_html` and
`paper_pdf`. Both read the notebook in the same steps:

    metadata, ids, tags, captions   paper.py, cells.py
    cells and outputs -> pieces     compose.py, outputs.py, tables.py
    pieces -> one document          pandoc.py with assets/*.lua (numbering, cross-references, bibliography)
    document -> HTML or PDF         exporters.py with target_html.py or target_typst.py

What an author writes reads well in JupyterLab, or is out of sight there:

    `paper` in the notebook's metadata    title (else the first heading is it), subtitle, authors, abstract (set in a
                                          box), bibliography, card
    `paper` in a code cell's metadata     alt (a figure's text for screen readers), span (full or column), optional
    a Markdown cell tagged caption        makes the figure or table of the code cell before it one with a number, which
                                          takes the place of a leading **Figure.** or **Table.**
    the id of a code cell                 fig-x, tbl-x: holds a figure, a table; abstract, title, subtitle, authors: its
                                          Markdown outputs (an output for each author) go before the text
    [the table](#cell-id=tbl-x)           becomes "Table 1"; in JupyterLab the link leads to the cell
    ([Hu et al. 2022](address))           cites the entry of the bibliography that has this url or doi; the paper ends
                                          with the References
    $$ … \label{eq:x} $$, \eqref{eq:x}     number an equation and refer to it
    text[^a] and [^a]: …                  a footnote
    > [!NOTE]                             a callout, as on GitHub: NOTE, TIP, IMPORTANT, WARNING or CAUTION, then `>`
    tags                                  appendix (starts with the heading of this cell, on a new page, and letters its
                                          headings A, B, …), remove-cell, remove-input (no folded code), parameters,
                                          raises-exception (an error is named, and ends nothing)

Everything comes from pip wheels (pandoc and Typst included). Nothing here touches the network.
The exporters are imported on first use, so that a notebook which only wants the figure style pays for nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbpaper.errors import PaperError
from nbpaper.style import COLUMN, FULL, use_paper_style

if TYPE_CHECKING:
    from nbpaper.exporters import PaperHTMLExporter, PaperPDFExporter

__all__ = ["COLUMN", "FULL", "PaperError", "PaperHTMLExporter", "PaperPDFExporter", "use_paper_style"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nbpaper import exporters

    return getattr(exporters, name)
