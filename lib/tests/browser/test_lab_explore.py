"""01 in JupyterLab: all cells run, the browser of reviews finds, shows and cuts them, and a reload keeps it working."""

import re

import pytest
from lab_notebook import Notebook, Panel
from made_runs import PLANTED
from playwright.sync_api import expect

from peft_study import paths
from peft_study.engine.steps import EXPLORE as NOTEBOOK

pytestmark = pytest.mark.browser


@pytest.fixture
def panel(notebook: Notebook) -> Panel:
    return notebook.cell("browse_reviews(")


def test_reviews_are_found_by_whatever_is_asked(notebook: Notebook, panel: Panel) -> None:
    panel.says("review 1 of 200")
    assert notebook.errors() == []
    for control, option, text in (
        ("class", "negative", "negative · review 1 of 100"),
        ("class", "positive", "positive · review 1 of 100"),
        ("class", "any", "review 1 of 200"),
        ("states a rating", "yes", re.compile(r"review 1 of 2\d\b.*states 8/10")),
        ("states a rating", "no", re.compile(r"review 1 of 1\d\d\b")),
        ("states a rating", "either", "review 1 of 200"),
        ("occurs more than once", "yes", "nothing fits all of this"),
        ("occurs more than once", "either", "review 1 of 200"),
        ("from", "other test set", "review 1 of 40"),
        ("from", "pool", "review 1 of 200"),
    ):
        panel.select(control, option)
        panel.says(text)
    panel.fill("with the words", "superb film")
    panel.says(re.compile(r"review 1 of (?!200\b).*superb", re.DOTALL))
    panel.fill("with the words", "")
    panel.slide("tokens", "10 – 15")
    panel.says(re.compile(r"review 1 of (?!200\b)\d+ · 1[0-5] tokens"))
    panel.slide("tokens", "0 – 1000")
    panel.says("review 1 of 200")


def test_the_next_review_is_another_one_and_a_new_search_begins_anew(panel: Panel) -> None:
    first = panel.shown.inner_text()
    panel.fill("review", 2)
    panel.says("review 2 of 200")
    assert panel.shown.inner_text() != first
    panel.select("class", "negative")
    panel.says("review 1 of 100")
    panel.select("class", "any")
    panel.says("review 1 of 200")


def test_what_the_window_leaves_out_is_struck_through(panel: Panel) -> None:
    panel.slide("window", "8")
    panel.says("The window keeps 8 of")
    struck = panel.shown.locator("[style*=line-through]")
    assert struck.count() == 1
    end = struck.inner_text()
    panel.select("keeps", "tail")
    expect(struck).not_to_have_text(end)
    panel.select("shown as", "word pieces")
    panel.says("[CLS]")
    panel.select("shown as", "text")
    panel.slide("window", "256")
    expect(struck).to_have_count(0)


def test_markup_in_a_review_is_text_and_a_reload_keeps_what_is_shown_and_its_controls(
    notebook: Notebook, panel: Panel
) -> None:
    panel.select("from", "test set")
    panel.says(PLANTED)
    before = panel.shown.inner_text()
    assert notebook.stripped() == (paths.NOTEBOOKS / NOTEBOOK).read_bytes()
    notebook.open()
    panel = notebook.cell("browse_reviews(")
    panel.says(PLANTED)
    assert panel.shown.inner_text() == before
    panel.select("from", "other test set")
    panel.says("review 1 of 40")
    assert notebook.errors() == []
