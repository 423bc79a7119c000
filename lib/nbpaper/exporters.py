"""The two nbconvert exporters: `paper-html` and `paper-pdf`; in JupyterLab's menu, `paper_html` and `paper_pdf`."""

from __future__ import annotations

import base64
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from nbconvert.exporters.exporter import Exporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from traitlets import Unicode, default

from nbpaper.compose import compose
from nbpaper.fonts import fallbacks, font_faces, unprintable, visible
from nbpaper.images import place_images
from nbpaper.pandoc import ASSETS, convert
from nbpaper.paper import Paper, read_paper
from nbpaper.target_html import HtmlTarget, data_uri
from nbpaper.target_typst import TypstTarget, typst_string
from nbpaper.typeset import system_fonts, typeset


class PaperExporter(Exporter):
    """What both exporters share: the notebook is read as a `Paper`, which `write` makes a file of."""

    resource_path = Unicode(
        "", help="Folder of the bibliography and images; the notebook's own folder is tried next."
    ).tag(config=True)

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The finished paper, and the resources with its file extension."""
        nb, resources = super().from_notebook_node(nb, resources, **kwargs)
        nb, resources = CoalesceStreamsPreprocessor().preprocess(nb, resources)  # progress bars overwrite lines
        named = [self.resource_path] if self.resource_path else []
        folders = [*named, resources.get("metadata", {}).get("path") or "."]
        return self.write(read_paper(nb, [Path(folder).resolve() for folder in folders])), resources

    def write(self, paper: Paper) -> Any:
        """The finished file."""
        raise NotImplementedError


class PaperHTMLExporter(PaperExporter):
    """One self-contained page: no request leaves it, and no script runs but its own."""

    export_from_notebook = "Paper (HTML)"
    output_mimetype = "text/html"

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".html"

    def write(self, paper: Paper) -> str:
        """The page as HTML."""
        pieces = compose(paper.cells, HtmlTarget(), self.log)
        page = convert(paper, pieces, "html", self.log, f"--variable=script-hash:{_script_hash()}")
        page = visible(place_images(page, paper, data_uri))
        return page.replace("</style>", f"{font_faces(page)}\n</style>", 1)  # the first: no text comes before it


class PaperPDFExporter(PaperExporter):
    """A typeset PDF: two columns, vector figures, tagged, and the same bytes for the same notebook."""

    export_from_notebook = "Paper (PDF)"
    output_mimetype = "application/pdf"
    keep_typst = Unicode("", help="Folder to keep the Typst source in.").tag(config=True)

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".pdf"

    def write(self, paper: Paper) -> bytes:
        """The document as PDF."""
        target = TypstTarget()
        pieces = compose(paper.cells, target, self.log)
        document = convert(paper, pieces, "typst", self.log)
        document = visible(place_images(document, paper, target.add_file))
        drawn = b"".join(data for name, data in target.files.items() if name.endswith(".svg")).decode()
        missing = unprintable(document + drawn, fallbacks())
        if uses_system := bool(missing):
            missing = unprintable("".join(missing), system_fonts())
        if missing:
            self.log.warning("no font here has these characters, and the PDF names them: %s", " ".join(missing))
        names = "".join(f"{typst_string(author)}, " for author in paper.front.authors)
        shown = "".join(f"{typst_string(char)}: {typst_string(name)}, " for char, name in missing.items())
        settings = f"#let settings = (author-names: ({names}), named-characters: ({shown or ':'}))"
        target.files["main.typ"] = f"{settings}\n{document}".encode()
        with tempfile.TemporaryDirectory() as scratch:
            return typeset(target.files, Path(self.keep_typst or scratch), uses_system, self.log)


class _CommandLine(PaperExporter):
    """Leaves the names with a hyphen out of JupyterLab's menu: the address that a server exports at takes none."""

    @default("enabled")
    def _enabled_default(self) -> bool:
        return "jupyter_server.serverapp" not in sys.modules


class PaperHTMLCommand(_CommandLine, PaperHTMLExporter):
    """What `jupyter nbconvert --to paper-html` runs."""


class PaperPDFCommand(_CommandLine, PaperPDFExporter):
    """What `jupyter nbconvert --to paper-pdf` runs."""


def _script_hash() -> str:
    """The hash by which the page's Content-Security-Policy knows its one script."""
    script = (ASSETS / "page.js").read_text("utf-8").rstrip("\n")
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
