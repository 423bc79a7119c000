"""Numbers, cross-references, citations, and the errors when they lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from paper_notebooks import BIBLIOGRAPHY, SVG, code, fails, figure, html, md, raw, shows, table, typst

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
    cells = [md("See @tbl-b, [@fig-b; @fig-a]."), figure("fig-a"), table("tbl-b", FRAME), figure("fig-b")]
    assert "#link(<fig-b>)[Figure~2]" in typst(*cells, kept=tmp_path)
    page = html(*cells)
    assert "See Table 1, Figure 2, Figure 1." in text_of(page)
    assert re.findall(r'<figure id="([\w-]+)"', page) == ["fig-a", "tbl-b", "fig-b"]


def test_references_work_in_markdown_that_code_wrote() -> None:
    page = html(figure("fig-a"), code("say()", shows(markdown="As @fig-a shows, $x^2$ grows.")))
    assert '<a href="#fig-a" class="reference"' in page
    assert "<msup>" in page


def test_equations_with_a_label_are_numbered_and_others_are_not(tmp_path: Path) -> None:
    cells = [md("$$ a = b $$\n\nText $$ c = d $$ {#eq-c} and $$ e $$ {#eq-e}. By @eq-e.")]
    page = html(*cells)
    assert re.findall(r"\((\d)\)</span>", page) == ["1", "2"]
    assert "By Equation 2." in text_of(page)
    assert "#link(<eq-e>)[Equation~2]" in typst(*cells, kept=tmp_path)


def test_align_environments_survive_in_both_targets(tmp_path: Path) -> None:
    cells = [md("Before\n\\begin{align}\nx &= 1 \\label{eq:x} \\\\\ny &= 2\n\\end{align}\nand \\eqref{eq:x}, @eq-x.")]
    page = html(*cells)
    assert "<mtable" in page and 'id="eq-x"' in page
    assert text_of(page).count("Equation 1") == 2
    assert re.search(r"x & = 1\s*\\", typst(*cells, kept=tmp_path))


def test_markdown_tables_and_images_can_carry_labels(tmp_path: Path) -> None:
    (tmp_path / "plot.svg").write_text(SVG, "utf-8")
    cells = [
        md("| a | b |\n|---|--:|\n| x | 1 |\n\n: Of Markdown. {#tbl-m}\n\nSee @tbl-m and @fig-m."),
        md("![Of a file.](plot.svg){#fig-m}"),
    ]
    page = html(*cells, folder=tmp_path)
    assert "Table 1. Of Markdown." in text_of(page) and "See Table 1 and Figure 1." in text_of(page)
    source = typst(*cells, kept=tmp_path / "kept", folder=tmp_path)
    assert source.count("#paper-float(") == 2 and "image-001.svg" in source


def test_headings_are_numbered_from_the_notebooks_own_top_level() -> None:
    text = text_of(
        html(md("# T\n\n## One\n\n### Sub\n\n## Two {#sec-two}\n\nSee @sec-two.\n\n## Thanks {.unnumbered}"))
    )
    assert "1 One" in text and "1.1 Sub" in text and "2 Two" in text and "See Section 2." in text
    assert "3 Thanks" not in text


def test_headings_of_the_appendix_have_letters() -> None:
    page = html(md("## One\n\nSee @sec-b.\n\n## First {.appendix}\n\n### Inner\n\n## Second {#sec-b}\n\n## References"))
    text = text_of(page)
    assert "A First" in text and "A.1 Inner" in text and "B Second" in text and "See Appendix B." in text
    assert "C References" not in text


def test_citations_are_resolved_and_listed_after_the_references_heading_or_at_the_end(folder: Path) -> None:
    front = raw("---\ntitle: T\nbibliography: refs.bib\n---")
    page = html(
        front, md("By @brier1950, but [see also @hu2022]."), md("## References"), md("## Appendix"), folder=folder
    )
    text = text_of(page)
    assert "By Brier (1950), but (see also Hu et al. 2022)." in text
    assert text.index("References") < text.index("Verification of Forecasts") < text.index("Appendix")
    source = typst(front, md("## A\n\n[@hu2022]"), kept=folder / "kept", folder=folder)
    assert "numbering: none)[References]" in source and "<ref-hu2022>" in source


def test_the_bibliography_is_found_through_the_resource_path(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from traitlets.config import Config

    elsewhere = tmp_path_factory.mktemp("runs")
    config = Config({"PaperExporter": {"resource_path": str(folder)}})
    page = html(raw("---\nbibliography: refs.bib\n---"), md("[@hu2022]"), folder=elsewhere, config=config)
    assert "Hu et al. 2022" in text_of(page)


def test_a_figure_or_table_that_is_optional_may_be_absent() -> None:
    page = html(md("Before."), code("#| label: tbl-a\n#| optional: true\n#| tbl-cap: Never.\nNone"), md("After."))
    assert "After." in text_of(page) and "Never." not in text_of(page)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([md("text"), md("See @fig-nowhere.")], r"cell 2: unknown reference '@fig-nowhere'"),
        ([code("x", shows(markdown="See @tbl-nowhere."))], r"cell 1: unknown reference '@tbl-nowhere'"),
        ([md("As @nobody2020 says.")], r"cell 1: citation '@nobody2020' needs a bibliography"),
        ([figure("fig-a"), figure("fig-a")], r"cell 2: label 'fig-a' is used twice"),
        ([code("#| label: fig-a\nplot()")], r"cell 1: 'fig-a' has no output; execute the notebook first"),
        ([code("#| label: fig-a\nplot()", shows(plain="1"))], r"cell 1: 'fig-a' needs an image"),
        ([code("#| label: fig-a b\nplot()", shows(svg=SVG))], r"cell 1: label 'fig-a b' may hold only"),
        ([code("#| fig-cap: a: b\nplot()", shows(svg=SVG))], r"cell 1: cannot read its '#\|' lines"),
        ([md("## One\n\n### Two {.appendix}")], r"cell 1: only a heading of the highest level can start the appendix"),
        ([code("plot()", shows(png="AAAA"))], r"cell 1: one of its pictures is damaged \(not image/png\)"),
        ([code("plot()", shows(svg="<svg><unclosed></svg>"))], r"cell 1: one of its pictures is damaged"),
        ([md("![alt](data:image/png;base64,AAAA)")], r"cell 1: image 'data:image/png;base64,AAAA' cannot be read"),
        ([md("![alt](missing.png)")], r"cell 1: image 'missing.png' cannot be read"),
        ([raw("---\ntitel: x\n---")], r"cell 1: unknown front matter key 'titel'"),
        ([raw("---\nbibliography: refs.bib\n---"), md("By @nobody.")], r"cell 2: citation '@nobody' is not in the bib"),
        ([raw("---\nbibliography: none.bib\n---")], r"bibliography 'none.bib' not found"),
    ],
)
def test_what_cannot_be_shown_is_one_line_that_names_the_place(cells: list[Any], message: str, folder: Path) -> None:
    with pytest.raises(PaperError, match=message) as caught:
        html(*cells, folder=folder)
    assert "\n" not in str(caught.value)


def test_a_failed_cell_keeps_its_label() -> None:
    page = html(code("#| label: fig-a\n#| fig-cap: Lost.\nplot()", fails()), md("See @fig-a."))
    assert "division by zero" in page and "See Figure 1." in text_of(page)


def test_what_a_cell_that_may_fail_did_not_make_is_named_and_references_to_it_lead_nowhere(tmp_path: Path) -> None:
    source = "#| label: fig-b\n#| fig-cap: Accuracy by size. With *intervals*.\nplot()"
    cells = [
        md("See @fig-a, @fig-b and [@tbl-c; @fig-d]."),
        figure("fig-a"),
        code(source, shows(markdown="Before."), fails(value="no $x^2$ <b>\nmore"), tags=("raises-exception",)),
        code("#| label: tbl-c\n#| tbl-cap: A table.\n#| optional: true\nNone"),
        figure("fig-d"),
    ]
    page, document = text_of(html(*cells)), typst(*cells, kept=tmp_path)
    said = "Left out: the figure “Accuracy by size” (ZeroDivisionError: no $x^2$ &lt;b&gt;)."
    assert said in page and "Before." in page and "more" not in page and "failed" not in page
    assert "See Figure 1, Figure (left out) and Table (left out), Figure 2." in page
    assert "Figure~(left~out)" in document and "<fig-d>" in document and "ZeroDivisionError: no $x^2$ <b>" in document


def test_a_long_reason_is_cut() -> None:
    page = text_of(html(code("plot()", fails(value="x" * 1000), tags=("raises-exception",))))
    assert "Left out: the output of cell 1 (ZeroDivisionError: xxx" in page and page.count("x") < 250
