"""03 in JupyterLab: all cells run; runs are picked, paired and weighed, and the figures follow."""

import pytest
from lab_notebook import Notebook
from made_runs import PLANTED
from playwright.sync_api import expect

from peft_study.engine import steps

pytestmark = pytest.mark.browser
NOTEBOOK = steps.COMPARE
FULL, LORA = "full-n00060-s1", "lora-n00060-s1"


def test_figures_and_tables_follow_the_runs_that_are_picked_and_git_sees_no_change(notebook: Notebook) -> None:
    panel = notebook.cell("browse_runs(study)")
    panel.says("Runs: 4")
    notebook.page.locator("a", has_text="The table below").first.click()
    expect(notebook.page.locator(".jp-Cell table", has_text="window (tokens)")).to_be_in_viewport()
    expect(notebook.page.locator("#jp-main-dock-panel .lm-TabBar-tab")).to_have_count(1)
    assert notebook.errors() == []
    drawn = panel.shown.locator("img").get_attribute("src") or ""
    panel.select("strategies", "full")
    panel.says("Runs: 2")
    expect(panel.shown.locator("img")).not_to_have_attribute("src", drawn)
    panel.select("runs", "scratch/mine")
    expect(panel.output.get_by_role("alert")).to_contain_text("no finished run matches the selection")
    panel.select("strategies", "lora")
    panel.says("Runs: 1")
    panel.select("seeds")
    expect(panel.output.get_by_role("alert")).to_contain_text("no finished run matches the selection")
    panel = notebook.cell("pick_trade_off(")
    panel.says("Test accuracy against ")
    panel.select("quality", "test macro F1")
    panel.says("Test macro F1 against ")
    with notebook.page.expect_download() as download:
        panel.shown.get_by_role("link", name="save figure.svg").click()
    assert "<svg" in download.value.path().read_text()
    panel = notebook.cell("compare_two(")
    for text in (f"{FULL} minus {LORA}", "the paired test", "text 1 of", PLANTED):
        panel.says(text)
    panel.select("second run", "scratch/mine")
    panel.says(f"{FULL} minus scratch/mine")
    assert notebook.changes() == ""
