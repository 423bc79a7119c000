"""Every script, and every character that means something to a target, is read in figures, page and PDF as it was."""

from __future__ import annotations

import base64
import io
import re
import warnings
from html import escape, unescape
from typing import Any

import matplotlib
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as some
from matplotlib.figure import Figure
from paper_notebooks import code, html, md, pdf, shows
from test_paper_pdf import text_of

from nbpaper import fonts, use_paper_style
from nbpaper.style import svg

SCRIPTS = {
    "Hebrew": "שלום",
    "Arabic": "مرحبا",
    "Han": "中文评论 日本語",
    "kana": "ひらがなカタカナ",
    "Hangul": "한국어",
    "Devanagari": "हिन्दी क्षेत्र",
    "Bengali": "বাংলা",
    "Tamil": "தமிழ்",
    "Telugu": "తెలుగు",
    "Thai": "ไทย",
    "Khmer": "ខ្មែរ",
    "Ethiopic": "አማርኛ",
    "Georgian": "ქართული",
    "Greek": "Ελληνικά",
    "Cyrillic": "Українська",
    "emoji": "😀 👍🏽 ❤️ 👩‍👩‍👧",
    "symbols": "★ ♥ ✓",
}
SPECIAL = ("C:\\new {x}", "R&D #1 50%_off", "😀 *happy* | $5 $x$", "<b>&amp;</b> `x` @y [z](#w)", "\"'~^//#panic(1)")
MARKS = "aZ0 \\$#%&_{}^~<>\"'`*|[]()@!/+-=.:;?,שの😀"


def drawn(*labels: str) -> str:
    """A bar chart of these labels in the paper's style; a glyph that no font has is an error."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        use_paper_style()
        figure = Figure(layout="constrained")
        axis = figure.subplots()
        axis.barh(range(len(labels)), range(len(labels)))
        axis.set_yticks(range(len(labels)), [label.replace("$", "\\$") for label in labels])
        figure.savefig(io.BytesIO(), format="pdf")
        return svg(figure)


def carried(page: str) -> set[str]:
    """The characters that the font of a page has glyphs for, within the scope of its rules."""
    found: set[str] = set()
    for data, scope in re.findall(r"font/woff;base64,([^)]*)\); unicode-range: ([^;]*);", page):
        glyphs = TTFont(io.BytesIO(base64.b64decode(data))).getBestCmap()
        found |= {chr(int(code[2:], 16)) for code in scope.split(",") if int(code[2:], 16) in glyphs}
    return found


def as_table(*texts: str) -> Any:
    return code("x", shows(html=f"<table>{''.join(f'<tr><td>{escape(text)}</td></tr>' for text in texts)}</table>"))


def test_figures_draw_every_script_and_name_only_the_fonts_of_the_text() -> None:
    figure = drawn(*SCRIPTS.values(), *SPECIAL)
    assert all(escape(text, quote=False) in figure for text in (*SCRIPTS.values(), *SPECIAL))
    assert "Noto" not in figure and "DejaVu" not in figure and "mathdefault" not in figure


def test_in_jupyterlab_figures_are_outlines_which_need_no_font(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "<text" in drawn("accuracy")
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert "<text" not in drawn("accuracy")


def test_a_page_carries_the_glyphs_of_its_text_and_figures_and_no_other() -> None:
    page = html(as_table(SCRIPTS["Han"]), code("plot()", shows(svg=drawn(SCRIPTS["Hebrew"], SCRIPTS["emoji"]))))
    wanted = set("".join(SCRIPTS[name] for name in ("Han", "Hebrew", "emoji"))) - {" "}
    assert wanted <= carried(page) <= set(page) | set(map(chr, fonts.JOINERS))
    assert len(page) < len(html(md("x"))) + 100_000
    assert "font-src data:" in page and not re.search(r"url\((?!data:|#)", page)
    plain = html(md("Plain, naïve, Σ, Привет, → ≤ and “quoted”."))
    assert plain.count("@font-face") == len(fonts.FACES) and len(plain) < 120_000


def test_the_pdf_holds_every_script_as_text() -> None:
    found = text_of(pdf(as_table(*SCRIPTS.values()), *map(md, SCRIPTS.values())))
    assert "‹" not in found
    for script, text in SCRIPTS.items():  # the order of its letters is the reader's
        assert set(text) - {" ", "\ufe0f", "\u200d"} <= set(found), script


def test_what_would_hide_or_reverse_text_is_shown_as_its_code_point() -> None:
    cells = [as_table("abc\u202edef\x07"), md("prose \u2067 on")]
    for text in (text_of(pdf(*cells)), html(*cells)):
        assert all(f"‹U+{code}›" in text for code in ("202E", "0007", "2067"))


@settings(max_examples=8, deadline=None)
@given(some.lists(some.text(MARKS, min_size=1, max_size=20), min_size=3, max_size=3))
def test_no_text_acts_as_markup_in_any_target(texts: list[str]) -> None:
    shown = [" ".join(text.split()) for text in texts]
    figure = drawn(*texts)
    cells = [as_table(*texts), code("plot()", shows(svg=figure)), code("x", shows(plain=texts[0]))]
    page = unescape(re.sub(r"<[^>]*>", " ", html(*cells).partition("<main")[2]))
    assert all(" ".join(page.split()).count(text) >= 2 for text in shown)
    assert pdf(*cells).startswith(b"%PDF")
