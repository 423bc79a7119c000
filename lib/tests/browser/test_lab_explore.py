"""01 in JupyterLab: all cells run, the browser of reviews finds, shows and cuts them, and a reload keeps it working."""

import re
from collections.abc import Iterator

import pytest
from lab_notebook import Notebook, Panel, Server, stripped
from made_runs import PLANTED
from playwright.sync_api import Browser, expect

from peft_study import paths
from peft_study.data.labels import LABELS
from peft_study.engine import steps as batch

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def notebook(browser: Browser, server: Server) -> Iterator[Notebook]:
    notebook = Notebook(browser, server, f"notebooks/{batch.EXPLORE}")
    notebook.run()
    yield notebook
    notebook.close()


@pytest.fixture
def panel(notebook: Notebook) -> Panel:
    return notebook.cell("interactive.browse_reviews(")


def count(panel: Panel) -> int:
    """How many reviews were found."""
    return int(re.search(r"of ([\d,]+)", panel.shown.inner_text())[1].replace(",", ""))  # type: ignore[index]


def test_all_cells_run_without_an_error(notebook: Notebook, panel: Panel) -> None:
    panel.says("review 1 of 200")
    assert notebook.errors() == [] and notebook.complaints == []


def test_reviews_are_found_by_part_class_rating_and_words(panel: Panel) -> None:
    for label in LABELS:
        panel.select("class", label)
        panel.says(f"{label} · review 1 of 100")
    panel.select("class", "either")
    panel.select("states a rating", "yes")
    panel.says(re.compile(r"review 1 of (?!200\b).*states 8/10"))
    rated = count(panel)
    panel.select("states a rating", "no")
    panel.says(f"review 1 of {200 - rated}")
    panel.select("states a rating", "either")
    panel.fill("with the words", "superb film")
    panel.says(re.compile(r"review 1 of (?!200\b).*superb", re.DOTALL))
    panel.fill("with the words", "no such words")
    panel.says("No review fits all of this")
    panel.fill("with the words", "")
    panel.select("from", "other test set")
    panel.says("review 1 of 40")


def test_reviews_are_found_by_their_length_and_by_their_copies(panel: Panel) -> None:
    panel.select("from", "pool")
    panel.says("review 1 of 200")
    panel.slide("tokens", "10 – 15")
    panel.says(re.compile(r"review 1 of (?!200\b)\d+ · 1[0-5] tokens"))
    panel.slide("tokens", "0 – 1000")
    panel.says("review 1 of 200")
    panel.select("occurs more than once", "yes")
    panel.says("No review fits all of this")
    panel.select("occurs more than once", "either")
    panel.says("review 1 of 200")


def test_the_next_review_is_another_one_and_a_new_search_begins_anew(panel: Panel) -> None:
    first = panel.shown.inner_text()
    panel.fill("review", 2)
    panel.says("review 2 of 200")
    assert panel.shown.inner_text() != first
    panel.select("class", "negative")
    panel.says("review 1 of 100")
    panel.select("class", "either")


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
    panel.says("The window holds the whole review")
    expect(struck).to_have_count(0)


def test_markup_in_a_review_is_text(panel: Panel) -> None:
    panel.select("from", "test set")
    panel.says(PLANTED)
    assert panel.output.locator("script").count() == 0


def test_saved_after_all_this_and_stripped_the_notebook_is_the_one_in_git(notebook: Notebook) -> None:
    assert stripped(notebook.save()) == (paths.NOTEBOOKS / batch.EXPLORE).read_bytes()


def test_after_a_reload_the_browser_shows_the_same_and_still_works(notebook: Notebook) -> None:
    before = notebook.cell("interactive.browse_reviews(").shown.inner_text()
    notebook.open()
    panel = notebook.cell("interactive.browse_reviews(")
    panel.says(before.split("\n")[0])
    panel.select("from", "other test set")
    panel.says("review 1 of 40")
    assert notebook.complaints == []
