"""01 in JupyterLab: all cells run, and the browser of reviews finds, shows and cuts them."""

import re
from collections.abc import Iterator

import pytest
from lab_notebook import Notebook, Panel, Server
from playwright.sync_api import Browser

from peft_study.data import LABELS

pytestmark = pytest.mark.browser
PATH = "notebooks/01_explore_data.ipynb"


@pytest.fixture(scope="module")
def notebook(browser: Browser, server: Server) -> Iterator[Notebook]:
    notebook = Notebook(browser, server, PATH)
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
    panel.says("review 1 of ")
    assert notebook.errors() == [] and notebook.complaints == []


def test_reviews_are_found_by_part_class_rating_and_words(panel: Panel) -> None:
    panel.says("review 1 of 200")
    for label in LABELS:
        panel.select("class", label)
        panel.says(re.compile(f"{label} · review 1 of 100"))
    panel.select("class", "either")
    panel.select("states a rating", "yes")
    panel.says("states 8/10")
    rated = count(panel)
    panel.select("states a rating", "no")
    panel.says(f"review 1 of {200 - rated}")
    panel.select("states a rating", "either")
    panel.fill("with the words", "superb film")
    panel.says("superb")
    assert 0 < count(panel) < 200
    panel.fill("with the words", "no such words")
    panel.says("No review fits all of this")
    panel.fill("with the words", "")
    panel.select("from", "other test set")
    panel.says("review 1 of 40")
