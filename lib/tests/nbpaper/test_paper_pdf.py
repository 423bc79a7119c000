"""The PDF: real pages with real text, the same bytes each time, and nothing in a cell acts as Typst."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pypdf
import pytest
from paper_everything import chart
from paper_notebooks import PIXEL, SVG, Front, code, fails, figure, html, md, pdf, prints, shows, table, typst

FRONT = Front(title="A paper", authors=["Ada", "Bo"], abstract="We ask.")
WIDE = "<table><thead><tr>{}</tr></thead><tbody><tr>{}</tr></tbody></table>".format(
    "".join(f"<th>column {i}</th>" for i in range(14)), "".join(f"<td>{i}.25</td>" for i in range(14))
)


def text_of(data: bytes) -> str:
    return " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages)


def test_the_text_figures_and_tables_of_the_notebook_are_in_the_pdf() -> None:
    data = pdf(
        FRONT,
        md("## Results\n\nSee [this](#cell-id=tbl-a) and [that](#cell-id=fig-a)."),
        chart("fig-a"),
        table("tbl-a", f"<table>{''.join(f'<tr><td>row {i}</td></tr>' for i in range(300))}</table>", "A long table."),
    )
    text = text_of(data)
    for expected in (
        "A paper",
        "Ada",
        "We ask.",
        "1 Results",
        "Figure 1.",
        "labelled reviews",
        "A long table.",
    ):
        assert expected in text
    assert all(f"row {i}" in text for i in range(300))


def test_the_pdf_is_tagged_and_carries_its_metadata() -> None:
    reader = pypdf.PdfReader(io.BytesIO(pdf(FRONT, md("text"))))
    assert reader.metadata.title == "A paper" and "Ada" in reader.metadata.author
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]


def test_the_same_notebook_gives_the_same_bytes_in_both_formats() -> None:
    cells = [FRONT, figure("fig-a"), md("See [it](#cell-id=fig-a) and $x^2$.")]
    assert pdf(*cells) == pdf(*cells) and html(*cells) == html(*cells)


def test_code_streams_widgets_and_parameters_stay_out() -> None:
    text = text_of(
        pdf(
            code("secret_code()", prints("secret stream")),
            code("w", shows(widget="{}", plain="secret widget")),
            code("secret_parameter = 1", tags=("parameters",)),
            md("visible"),
        )
    )
    assert "secret" not in text and "visible" in text


def test_html_that_is_no_table_gives_way_to_markdown_or_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        logger = logging.getLogger("nbpaper-test")
        text = text_of(
            pdf(
                code("x", shows(html="<div>card</div>", markdown="As *Markdown*.", plain="<Card object>")),
                code("x", shows(html="<div>lost</div>", plain="<IPython.core.display.HTML object>")),
                log=logger,
            )
        )
    assert "As Markdown." in text and "card" not in text and "lost" not in text and "IPython" not in text
    assert "only the HTML page can show" in text.replace("\n", " ")
    assert "cell 2" in caplog.text


def test_text_that_looks_like_typst_stays_text() -> None:
    hostile = '#panic("x") ] $ " \\ @fig-x <label> //'
    frame = f"<table><tr><td>{hostile.replace('<', '&lt;')}</td></tr></table>"
    cells = [
        md("`#panic(1)` and \\#panic(2) ] [ end"),
        code("x", shows(html=frame)),
        code("x", shows(plain=hostile)),
        code("x", shows(markdown="```{=typst}\n#panic(3)\n```")),
        code("x", fails(value=hostile)),
    ]
    assert "#panic" in text_of(pdf(*cells))


def test_a_wide_table_spans_the_page_and_a_narrow_one_does_not(tmp_path: Path) -> None:
    source = typst(table("tbl-w", WIDE), table("tbl-n", "<table><tr><td>1</td></tr></table>"), kept=tmp_path)
    assert 'number: "1", full: true' in source and 'number: "2", full: false' in source


def test_characters_that_no_font_has_are_shown_by_name_and_reported_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("nbpaper-test")
    assert "‹" not in text_of(pdf(md("plain, naïve, Σ ≤ —, $\\mathbb{E}$, ☂ 雨 🌧 한 שלום"), log=logger))
    assert caplog.text == ""
    cells = [md("## Rain \ue0fe {#\ue0fe}"), code("x", shows(html="<table><tr><td>\U0001cefe</td></tr></table>"))]
    text = text_of(pdf(*cells, log=logger))
    assert "‹U+E0FE›" in text and "‹U+1CEFE›" in text
    assert len(caplog.messages) == 1 and caplog.messages[0].endswith("names them: \ue0fe \U0001cefe")


def test_callouts_and_an_appendix_look_like_it() -> None:
    cells = [md("## One\n\n> [!TIP]\n> Do *so*."), md("## Details\n\n### Inner", "appendix")]
    text = text_of(pdf(*cells)).replace("\N{NO-BREAK SPACE}", " ")
    assert "Tip" in text and "[!TIP]" not in text
    assert "1 One" in text and "A Details" in text and "A.1 Inner" in text


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [md("")],
        [code("1/0", fails())],
        [code("x", shows(plain="\n".join(map(str, range(2000)))))],
        [md("naïve 雨が降った 🌧️ مرحبا שלום \u202e x")],
        [md("Broken $\\frac{a$ and $$\\undefined{x$$ and \\begin{nothing}x\\end{nothing}")],
        [md("[x]() [y](#nowhere) <b>raw <i>html</b> @ alone, a@b.c, 5 $ and 6 $")],
        [code("plot()", shows(png=PIXEL), label="fig-p"), code("plot()", shows(svg=SVG))],
        [code("x", shows(html="<table></table>", plain="empty"))],
        [code("x", shows(html="<table><tr><td colspan='9' rowspan='99'>a</td></tr><tr><td>b</td></tr></table>"))],
        [code("x", shows(latex="$\\displaystyle x^2$")), code("x", shows(latex="\\begin{align}a&=b\\end{align}"))],
    ],
)
def test_odd_input_renders_in_both_targets(cells: list[Any], tmp_path: Path) -> None:
    assert pdf(*cells, folder=tmp_path).startswith(b"%PDF")
    assert "</html>" in html(*cells, folder=tmp_path)


def test_a_link_to_a_file_beside_the_paper_is_a_link_on_the_page_and_words_on_paper(tmp_path: Path) -> None:
    written = typst(md("[one run](runs/a.html), [elsewhere](https://example.org)"), kept=tmp_path)
    assert "runs/a.html" not in written and "one run" in written and "https://example.org" in written
    assert 'href="runs/a.html"' in html(md("[one run](runs/a.html)"))


def test_a_sentence_in_place_of_a_table_is_no_table(tmp_path: Path) -> None:
    told = code("say()", shows(markdown="Nothing is known."), label="tbl-a")
    written = typst(md("# T"), told, md("A table.", "caption"), kept=tmp_path)
    assert "Nothing is known." in written and "A table." not in written
