"""Numbers, cross-references, citations, and the errors when they lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from paper_notebooks import BIBLIOGRAPHY, BRIER, HU, Front, code, fails, figure, html, md, shows, table, typst

from nbpaper import PaperError

FRAME = "<table><thead><tr><th></th><th>a</th></tr></thead><tbody><tr><th>x</th><td>1</td></tr></tbody></table>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "refs.bib").write_text(BIBLIOGRAPHY, "utf-8")
    return tmp_path


def text_of(page: str) -> str:
    body = page[page.index("<main") :].replace("\u00a0", " ")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))


def test_figures_and_tables_are_numbered_in_order_of_appearance_in_both_targets(tmp_path: Path) -> None:
    links = "See [the table](#cell-id=tbl-b), [a figure](#cell-id=fig-b), [another](#cell-id=fig-a)."
    cells = [md(links), figure("fig-a"), table("tbl-b", FRAME), figure("fig-b")]
    assert "#link(<fig-b>)[Figure~2]" in typst(*cells, kept=tmp_path)
    page = html(*cells)
    assert "See Table 1, Figure 2, Figure 1." in text_of(page) and "Figure 1. A caption." in text_of(page)
    assert re.findall(r'<figure id="([\w-]+)"', page) == ["fig-a", "tbl-b", "fig-b"]


def test_a_caption_makes_a_cell_of_any_name_a_figure_or_a_table() -> None:
    cells = [figure("0f3a"), table("77ab", FRAME), md("See [it](#cell-id=77ab) and [it](#cell-id=0f3a).")]
    assert "See Table 1 and Figure 1." in text_of(html(*cells))


def test_references_work_in_markdown_that_code_wrote_and_in_captions() -> None:
    link = "As [the figure](#cell-id=fig-a) shows, $x^2$ grows."
    page = html(figure("fig-a"), code("say()", shows(markdown=link)), figure("fig-b", f"B. {link}"))
    assert page.count('<a href="#fig-a" class="reference"') == 2
    assert "<msup>" in page


def test_equations_with_a_label_are_numbered_and_others_are_not(tmp_path: Path) -> None:
    cells = [md("$$ a = b $$\n\nText $$ c = d \\label{eq:c} $$ and $$ \\label{eq:e} e $$. By \\eqref{eq:e}.")]
    page = html(*cells)
    assert re.findall(r"\((\d)\)</span>", page) == ["1", "2"]
    assert "By Equation 2." in text_of(page)
    assert "#link(<eq-e>)[Equation~2]" in typst(*cells, kept=tmp_path)


def test_align_environments_survive_in_both_targets(tmp_path: Path) -> None:
    cells = [md("Before\n\\begin{align}\nx &= 1 \\label{eq:x} \\\\\ny &= 2\n\\end{align}\nand \\eqref{eq:x}.")]
    page = html(*cells)
    assert "<mtable" in page and 'id="eq-x"' in page
    assert "and Equation 1." in text_of(page)
    assert re.search(r"x & = 1\s*\\", typst(*cells, kept=tmp_path))


def test_headings_are_numbered_from_the_notebooks_own_top_level() -> None:
    text = text_of(html(md("# T\n\n## One\n\n### Sub\n\n## Two")))
    assert "1 One" in text and "1.1 Sub" in text and "2 Two" in text


def test_headings_of_the_appendix_have_letters(folder: Path) -> None:
    appendix = [md("## First\n\n### Inner", "appendix"), md(f"## Second\n\n{HU}")]
    text = text_of(html(Front(bibliography="refs.bib"), md("## One"), *appendix, folder=folder))
    assert "1 One" in text and "A First" in text and "A.1 Inner" in text and "B Second" in text
    assert "C References" not in text


def test_links_to_the_sources_of_the_bibliography_lead_to_the_references_at_the_end(folder: Path) -> None:
    prose = md(f"By {BRIER} (see also {HU}), [elsewhere](https://example.org).")
    page = html(Front(bibliography="refs.bib"), prose, md("## Last"), folder=folder)
    text = text_of(page)
    assert "By Brier 1950 (see also Hu et al. 2022), elsewhere." in text
    assert text.index("Last") < text.index("References") < text.index("Verification of Forecasts")
    assert {"#ref-hu2022", "#ref-brier1950", "https://example.org"} <= set(re.findall(r'href="([^"]+)"', page))
    assert 'id="ref-hu2022"' in page and 'id="ref-brier1950"' in page
    source = typst(Front(bibliography="refs.bib"), md(f"## A\n\n{HU}"), kept=folder / "kept", folder=folder)
    assert "numbering: none)[References]" in source and "#link(<ref-hu2022>)" in source and "Brier" not in source
    assert "References" not in html(Front(bibliography="refs.bib"), md("## A"), folder=folder)


def test_the_bibliography_is_found_through_the_resource_path(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from traitlets.config import Config

    elsewhere = tmp_path_factory.mktemp("runs")
    config = Config({"PaperExporter": {"resource_path": str(folder)}})
    page = html(Front(bibliography="refs.bib"), md(HU), folder=elsewhere, config=config)
    assert "Hu, Edward" in text_of(page)


def test_a_figure_or_table_that_is_optional_may_be_absent() -> None:
    absent = [code("None", label="tbl-a", optional=True), md("Never.", "caption")]
    page = html(md("Before."), absent, md("After."))
    assert "After." in text_of(page) and "Never." not in text_of(page)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [md("text"), md("See [it](#cell-id=fig-b).")],
            r"cell 2: a link leads to 'fig-b', which names no figure, table",
        ),
        (
            [code("x", shows(markdown="[It](#cell-id=tbl-b)"))],
            r"cell 1: a link leads to 'tbl-b', which names no figure",
        ),
        ([md("By \\eqref{eq:x}.")], r"cell 1: a link leads to 'eq-x', which names no figure, table or equation"),
        ([md("$$a \\label{eq:a}$$ $$b \\label{eq:a}$$")], r"cell 1: label 'eq-a' is used twice"),
        ([code("plot()", label="fig-a")], r"cell 1: 'fig-a' has no output; execute the notebook first"),
        ([code("plot()", shows(plain="1"), label="fig-a")], r"cell 1: 'fig-a' needs an image"),
        ([code("plot()", title="x")], r"cell 1: unknown key 'title' of 'paper' in the metadata; allowed are alt, span"),
        ([md("text"), md("Of what?", "caption")], r"cell 2: a caption stands right after the code cell of its figure"),
        (
            [md("## One"), md("### Two", "appendix")],
            r"cell 2: only a heading of the highest level can start the append",
        ),
        ([code("plot()", shows(png="AAAA"))], r"cell 1: one of its pictures is damaged \(not image/png\)"),
        ([code("plot()", shows(svg="<svg><unclosed></svg>"))], r"cell 1: one of its pictures is damaged"),
        ([md("![alt](data:image/png;base64,AAAA)")], r"cell 1: image 'data:image/png;base64,AAAA' cannot be read"),
        ([md("![alt](missing.png)")], r"cell 1: image 'missing.png' cannot be read"),
        ([Front(titel="x")], r"the notebook: unknown key 'titel' of 'paper' in the metadata; allowed are title, "),
        ([Front(bibliography="none.bib")], r"bibliography 'none.bib' not found"),
    ],
)
def test_what_cannot_be_shown_is_one_line_that_names_the_place(cells: list[Any], message: str, folder: Path) -> None:
    with pytest.raises(PaperError, match=message) as caught:
        html(*cells, folder=folder)
    assert "\n" not in str(caught.value)


def test_a_failed_cell_keeps_its_label() -> None:
    page = html(code("plot()", fails(), label="fig-a"), md("Lost.", "caption"), md("See [it](#cell-id=fig-a)."))
    assert "division by zero" in page and "See Figure 1." in text_of(page)


def test_what_a_cell_that_may_fail_did_not_make_is_named_and_references_to_it_lead_nowhere(tmp_path: Path) -> None:
    failed = shows(markdown="Before."), fails(value="no $x^2$ <b>\nmore")
    cells = [
        md("See " + ", ".join(f"[it](#cell-id={label})" for label in ("fig-a", "fig-b", "tbl-c", "fig-d")) + "."),
        figure("fig-a"),
        code("plot()", *failed, tags=("raises-exception",), label="fig-b"),
        md("Accuracy by size. With *intervals*.", "caption"),
        code("None", label="tbl-c", optional=True),
        figure("fig-d"),
    ]
    page, document = text_of(html(*cells)), typst(*cells, kept=tmp_path)
    said = "Left out: the figure “Accuracy by size” (ZeroDivisionError: no $x^2$ &lt;b&gt;)."
    assert said in page and "Before." in page and "more" not in page and "failed" not in page
    assert "See Figure 1, Figure (left out), Table (left out), Figure 2." in page
    assert "Figure~(left~out)" in document and "<fig-d>" in document and "ZeroDivisionError: no $x^2$ <b>" in document


def test_a_long_reason_is_cut() -> None:
    page = text_of(html(code("plot()", fails(value="x" * 1000), tags=("raises-exception",))))
    assert "Left out: the output of cell 1 (ZeroDivisionError: xxx" in page and page.count("x") < 250
