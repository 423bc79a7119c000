"""01 in JupyterLab: all cells run, the browser of reviews finds and shows them, and a reload keeps it working."""

import re

import pytest
from lab_notebook import Notebook, Panel
from made_runs import PLANTED
from playwright.sync_api import expect

from peft_study.engine import steps

pytestmark = pytest.mark.browser
NOTEBOOK = steps.EXPLORE


@pytest.fixture
def panel(notebook: Notebook) -> Panel:
    return notebook.cell("browse_reviews(")


def test_reviews_are_searched_and_leafed_through(notebook: Notebook, panel: Panel) -> None:
    panel.says("text 1 of 200")
    assert notebook.errors() == []
    panel.click("next")
    panel.says("text 2 of 200")
    panel.select("class", "negative")
    panel.says("negative · text 1 of 100")
    panel.fill("with the words", "no such words")
    expect(panel.output.get_by_role("alert")).to_contain_text("no text meets all conditions")
    panel.fill("with the words", "film")
    expect(panel.shown.locator("mark").first).to_have_text(re.compile("film", re.IGNORECASE))
    panel.click("save all")
    with notebook.page.expect_download() as download:
        panel.shown.get_by_role("link", name="save matches.csv").click()
    assert download.value.path().read_text().startswith("id,class,")
    panel.click("random")
    panel.fill("with the words", "")
    panel.select("class", "any")
    panel.says("text 1 of 200")


def test_markup_in_a_review_is_text_and_a_reload_keeps_what_is_shown_and_its_controls(
    notebook: Notebook, panel: Panel
) -> None:
    panel.select("from", "test set")
    panel.says(PLANTED)
    before = panel.shown.inner_text()
    assert notebook.changes() == ""
    notebook.open()
    panel = notebook.cell("browse_reviews(")
    panel.says(PLANTED)
    assert panel.shown.inner_text() == before
    panel.select("from", "out-of-domain test set")
    panel.says("text 1 of 40")
    assert notebook.errors() == []
