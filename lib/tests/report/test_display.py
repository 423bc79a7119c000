"""Reviews on the screen: untrusted text is shown as text, in HTML, in Markdown and through pandoc."""

import html
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pypandoc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from IPython.utils.capture import capture_output
from nbconvert.filters import markdown2html

from peft_study.report import display

HOSTILE = (
    '<script>alert("hi")</script> <img src=x onerror=alert(1)> *stars* _low_ `code` $5 and $6 [@nobody] # 1. | ![i](u)'
)


def shown(call: Callable[[], Any]) -> list[dict[str, str]]:
    """The display bundles of what `call` shows."""
    with capture_output() as captured:
        call()
    return [output.data for output in captured.outputs]


@pytest.fixture(autouse=True)
def shell() -> None:
    """Displays go to IPython, as in a kernel."""
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.instance()


def visible(page: str) -> str:
    """What a reader sees of HTML, white space aside."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_a_review_is_text_in_html_in_markdown_and_through_pandoc() -> None:
    (bundle,) = shown(lambda: display.review(HOSTILE, 1, {"note": HOSTILE}))
    page, marked = bundle["text/html"], bundle["text/markdown"]
    for form in (page, markdown2html(marked), pypandoc.convert_text(marked, "html", "markdown+tex_math_dollars")):
        assert not re.search(r"<(script|img|em|code|span|h1|a|li|table)\b", form), form
        assert visible(form).count(" ".join(HOSTILE.split())) == 2, visible(form)
    typst = pypandoc.convert_text(marked, "typst", "markdown+tex_math_dollars+citations")
    assert (
        "$5" not in typst.replace("\\$5", "")
        and "#cite" not in typst
        and "@nobody" not in typst.replace("\\@nobody", "")
    )
    assert bundle["text/plain"].endswith(HOSTILE)


@settings(max_examples=100, deadline=None)
@given(some.text(some.characters(codec="ascii", exclude_categories=["Cc"], include_characters="\n\t"), max_size=60))
def test_markdown_shows_escaped_text_as_it_was(text: str) -> None:
    assert visible(markdown2html("x " + display.markdown_escape(text.strip()))) == visible("x " + html.escape(text))


def test_indented_lines_of_a_review_do_not_become_code() -> None:
    (bundle,) = shown(lambda: display.review("Line one\n\n        <b>indented</b> & far\n\tand *this*", 0))
    page = pypandoc.convert_text(bundle["text/markdown"], "html", "markdown")
    assert "<code" not in page and "<b>" not in page and "\\" not in page
    assert visible(page) == "negative Line one <b>indented</b> & far and *this*"


def test_reviews_are_shown_one_by_one_with_the_facts_asked_for_and_a_sentence_as_paragraphs() -> None:
    table = pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "rating": [2.0, 9.0], "secret": ["x", "y"]})
    bundles = shown(lambda: display.reviews(table, facts=["rating"]))
    assert shown(lambda: display.sentence("One.", "", "Two."))[0]["text/markdown"] == "One.\n\nTwo."
    assert shown(lambda: display.sentence("", "")) == [], "nothing to say"
    plain = [bundle["text/plain"] for bundle in bundles]
    assert plain == ["true class negative · rating: 2.0\na", "true class positive · rating: 9.0\nb"]
