"""The HTML page: self-contained, safe with untrusted text, complete without its script."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pandas as pd
import pytest
from paper_notebooks import PIXEL, SVG, Front, code, fails, html, md, png_bytes, prints, shows

HOSTILE = '<script>alert(1)</script><img src="https://evil.example/x.png" onerror="alert(2)">'


def test_the_policy_allows_exactly_the_pages_own_script() -> None:
    page = html(md("# Title"))
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    allowed = re.findall(r"script-src 'sha256-([^']+)'", page)
    assert [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts] == allowed
    assert "default-src 'none'" in page


def test_no_address_outside_the_page_is_ever_loaded() -> None:
    page = html(md("![remote](https://example.org/a.png) [link](https://example.org)"), code("x", shows(html=HOSTILE)))
    loaded = re.findall(r'(?:src|srcset|data|poster|action|background)="([^"]*)"', page)
    assert all(address.startswith("data:") for address in loaded)
    assert "<link" not in page and "@import" not in page and not re.search(r"url\((?!data:font/woff;)", page)
    assert '<a href="https://example.org/a.png">remote</a>' in page


def test_scripts_in_outputs_do_not_reach_the_page() -> None:
    page = html(
        code("x", shows(html=f"<details><summary>A review</summary>{HOSTILE}</details>")),
        code("x", shows(markdown=HOSTILE)),
        code("x", shows(html=f"<table><tr><td>{HOSTILE}</td></tr></table>")),
        code("x", prints(HOSTILE), fails(value=HOSTILE)),
        code("x", shows(markdown="[click](javascript:alert(3))")),
    )
    assert page.count("<script") == 1 and page.count("&lt;script&gt;alert(1)") == 5 and "javascript:" not in page
    assert "onerror=" not in re.sub(r"&lt;.*?&gt;", "", page)
    assert "<details><summary>A review</summary>" in page


def test_figures_prefer_vectors_and_carry_their_alt_text() -> None:
    cell = code("plot()", shows(svg=SVG, png=PIXEL), label="fig-a", alt="A <falling> line")
    drawing = re.search(r'<svg[^>]*role="img"[^>]*>', html(cell))
    assert drawing and 'aria-label="A &lt;falling&gt; line"' in drawing.group()
    assert 'width="192" height="96"' in drawing.group()
    assert 'aria-label="Alone"' in html(code("plot()", shows(svg=SVG)), md("Alone", "caption"))


def test_the_names_inside_two_figures_never_meet() -> None:
    svg = SVG.replace("<path", '<defs><g id="g"/></defs><use href="#g"/><path clip-path="url(#g)"')
    page = html(code("x", shows(svg=svg)), code("x", shows(svg=svg)))
    names = re.findall(r'id="(drawing-[^"]+)"', page)
    assert len(set(names)) == 2
    assert all(f'href="#{name}"' in page and f'clip-path="url(#{name})"' in page for name in names)


@pytest.mark.parametrize(
    "intruder",
    [
        "<script>alert(1)</script>",
        '<g onclick="alert(1)"/>',
        "<foreignObject><b>x</b></foreignObject>",
        "<style>body { display: none }</style>",
        '<image href="https://evil.example/x.png"/>',
        '<a href="javascript:alert(1)"><text>x</text></a>',
        '<g style="fill: url(https://evil.example/x)"/>',
    ],
)
def test_an_svg_that_does_more_than_draw_is_shut_off_in_an_image(intruder: str) -> None:
    svg = SVG.replace("</svg>", f"{intruder}</svg>")
    assert f'<img src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"' in html(
        code("x", shows(svg=svg))
    )


def test_code_is_folded_or_left_out() -> None:
    shown = code("unfolded = 1", prints("its output"), tags=("remove-input",))
    page = html(code("secret = 1"), code("seeds = 3", tags=("parameters",)), shown)
    assert "its output" in page and "unfolded" not in page
    assert "<summary>Code</summary>" in page and "<summary>Parameters</summary>" in page
    assert page.count('<details class="code">') == 2


def test_streams_show_their_last_state_and_are_folded_when_long() -> None:
    page = html(code("x", prints("line\n" * 2000)), code("x", prints("10%\r 50%\rshort\n")))
    assert "<summary>Output (2000 lines)</summary>" in page
    assert '<pre class="stream" tabindex="0">short</pre>' in page and "50%" not in page.split("<main")[1]


def test_widgets_and_cells_tagged_so_are_left_out() -> None:
    page = html(code("w", shows(widget="{}", plain="IntSlider(value=1)")), md("dropped", "remove-cell"), md("kept"))
    assert "kept" in page and "IntSlider" not in page and "dropped" not in page


def test_the_front_matter_is_shown_and_the_title_not_repeated() -> None:
    front = Front(title="A *fine* paper", authors=["Ada <b>", "Bo"], abstract="We ask $x$.")
    page = html(front, md("# In the notebook"), md("## First"))
    assert "<h1>A <em>fine</em> paper</h1>" in page and "<title>A fine paper</title>" in page
    assert "In the notebook" not in page
    assert "Ada &lt;b&gt;" in page


def test_the_first_heading_is_the_title_when_nothing_else_is() -> None:
    assert "<h1>From a heading</h1>" in html(md("intro"), md("# From a heading\n\ntext"))
    assert "<h1>Untitled</h1>" in html()


def test_the_abstract_and_the_authors_can_be_computed() -> None:
    cell = code("say()", shows(markdown="Accuracy is **91** %."), label="abstract")
    names = code("say()", shows(markdown="Ada <b>"), shows(markdown="Bo"), label="authors")
    page = html(Front(title="T", abstract="static"), cell, names)
    assert re.findall(r"<li><b>(.*?)</b></li>", page) == ["Ada &lt;b&gt;", "Bo"]
    assert page.count("Accuracy is <strong>91</strong>") == 1 and "static" not in page
    assert page.index("<header>") < page.index("Accuracy is") < page.index("</header>")


def test_the_contents_list_the_headings() -> None:
    contents = html(md("## One\n\n### Inner\n\n## Two")).split("<nav")[1].split("</nav>")[0]
    assert re.findall(r'href="#(\w+)"', contents) == ["one", "inner", "two"]


def test_an_unclosed_fence_does_not_swallow_the_next_cell() -> None:
    assert '<h2 id="next">' in html(md("```python\nx = 1"), md("## Next"))


def test_what_a_page_cannot_show_is_said_and_scripts_alone_are_not_missed() -> None:
    page = html(code("x", shows(html='<iframe src="https://example.org"></iframe>')))
    assert "cannot be shown" in page and "<iframe" not in page
    assert "cannot be shown" not in html(code("x", shows(html="<script>setUp()</script>")))


def test_callouts_are_githubs_block_quotes_and_footnotes_are_pandocs() -> None:
    page = html(md("> [!WARNING]\n> Take *care*.\n\n> No callout.\n\nText.[^a]\n\n[^a]: The note."))
    assert re.search(
        r'class="callout callout-warning" role="note">\s*<div class="callout-title">\s*<p>Warning</p>', page
    )
    assert "<p>Take <em>care</em>.</p>" in page and "<blockquote>\n<p>No callout.</p>" in page
    assert 'role="doc-noteref"' in page


def test_images_next_to_the_notebook_and_attachments_are_embedded(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(png_bytes())
    attached = md("![x](attachment:p.png)")
    attached["attachments"] = {"p.png": {"image/png": PIXEL}}
    page = html(md('![x](<a b.png>) <img src="a b.png" width=30 alt="y">'), attached, folder=tmp_path)
    assert page.count(f"data:image/png;base64,{PIXEL}") == 3


def test_cells_of_wide_tables_name_their_column_for_the_cards_of_a_phone() -> None:
    markdown = "| a | b | c | d |\n|---|---|---|---|\n| 1 | 2 | 3 | 4 |"
    assert re.search(r'class="cards">.*<td data-label="d">4</td>', html(md(markdown)), re.DOTALL)
    assert "data-label=" not in html(md("| a | b |\n|---|---|\n| 1 | 2 |"))
    columns = pd.MultiIndex.from_product([["accuracy"], ["5k", "10k"]])
    index = pd.MultiIndex.from_tuples([("lora", 1), ("lora", 2)], names=["strategy", "seed"])
    page = html(code("x", shows(html=pd.DataFrame([[0.5, 1.0], [0.25, 2.0]], index, columns).to_html())))
    assert 'data-label="accuracy 10k">2.0<' in page
    assert page.count('<td class="again" data-label="strategy">lora</td>') == 1, "a group is named on each of its cards"
