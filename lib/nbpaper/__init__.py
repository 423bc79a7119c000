"""Turn an executed notebook into a paper: self-contained HTML and a typeset PDF.

Two nbconvert exporters do the work, `paper-html` and `paper-pdf`, which JupyterLab's menu calls `paper_html` and
`paper_pdf`. Both read the notebook in the same steps:

    front matter, options, tags     paper.py, frontmatter.py, cells.py
    cells and outputs -> pieces     compose.py, outputs.py, tables.py
    pieces -> one document          pandoc.py with assets/*.lua (numbering, cross-references, citations)
    document -> HTML or PDF         exporters.py with target_html.py or target_typst.py

What an author writes, in cells that JupyterLab shows as well as it can:

    a raw cell with YAML      title, subtitle, authors, date, abstract (set in a box), bibliography, lang, card
    #| label: fig-x, tbl-x    numbers the cell's figure or table; also fig-cap, fig-alt, fig-span: full (or tbl-…),
                              output, optional (cells.py); a caption and a text for screen readers that code computed
                              are those of display(figure, metadata={"caption": …, "alt": …})
    #| label: abstract        takes the cell's Markdown for the front matter; also title, subtitle, date and authors
                              (an output for each)
    $$ … $$ {#eq-x}           numbers an equation; ## Heading {#sec-x} names a section
    @fig-x, @eq-x, [@key]     refer to a figure, a table, an equation or a section, and cite from the bibliography
    text[^a] and [^a]: …      a footnote
    > [!NOTE]                 a callout, as on GitHub: NOTE, TIP, IMPORTANT, WARNING or CAUTION, then lines with `>`
    ## Heading {.appendix}    starts the appendix on a new page; its headings are lettered A, B, …
    tags                      remove-cell, remove-input (no folded code), parameters; raises-exception (an error is
                              named, and ends nothing)

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
