"""03 in JupyterLab: all cells run; runs are picked, paired and weighed, and the figures follow."""

import re
from pathlib import Path

import pytest
from lab_notebook import Notebook
from made_runs import PLANTED
from playwright.sync_api import expect

from peft_study import paths
from peft_study.analysis.costs import COSTS
from peft_study.engine.steps import COMPARE as NOTEBOOK

pytestmark = pytest.mark.browser
FULL, LORA = "full-n00060-s1", "lora-n00060-s1"


def test_the_figure_follows_the_runs_that_are_picked(notebook: Notebook) -> None:
    panel = notebook.cell("browse_runs(study)")
    panel.says("Test accuracy of 3 runs of the study quick")
    assert notebook.errors() == []
    panel.select("strategies", "LoRA (query, value)")
    panel.says("Test accuracy of 1 run of the study quick")
    panel.select("strategies", "Full fine-tuning")
    panel.says("Test accuracy of 2 runs")
    drawn = panel.picture()
    panel.select("sizes", "60")
    panel.says("Test accuracy of 1 run")
    assert panel.picture() != drawn
    panel.select("metric", "accuracy on other reviews")
    panel.says("Accuracy on other reviews of 1 run")
    panel.select("seeds")
    panel.says("no finished run has all that is picked")
    panel.select("seeds", "1")
    panel.says("Accuracy on other reviews of 1 run")


def test_another_study_brings_its_own_runs_and_one_without_says_why(notebook: Notebook, home: Path) -> None:
    panel = notebook.cell("browse_runs(study)")
    panel.select("study", "tiny")
    panel.says("Test accuracy of 3 runs of the study tiny")
    (home / "runs" / "quick").rename(home / "runs" / "hidden")
    try:
        panel.select("study", "quick")
        expect(panel.output.get_by_role("alert")).to_contain_text("unknown study 'quick'")
    finally:
        (home / "runs" / "hidden").rename(home / "runs" / "quick")
    panel.select("study", "tiny")
    panel.says("Test accuracy of 3 runs of the study tiny")


def test_any_cost_is_set_against_any_quality(notebook: Notebook) -> None:
    panel = notebook.cell("pick_trade_off(")
    panel.says("Test accuracy against trainable parameters")
    pictures = [panel.picture()]
    time = COSTS["training.seconds"].words
    for control, option, caption in (
        ("cost", time, f"Test accuracy against {time}"),
        ("quality", "macro F1", f"Macro F1 against {time}"),
    ):
        panel.select(control, option)
        panel.says(caption)
        pictures.append(panel.picture())
    panel.select("size", "100")
    expect(panel.shown.locator("img")).not_to_have_attribute("src", pictures[-1] or "")
    assert len({*pictures, panel.picture()}) == 4


def test_two_runs_are_paired_and_the_reviews_that_part_them_shown_as_text(notebook: Notebook) -> None:
    panel = notebook.cell("compare_two(")
    for text in (f"{FULL} minus {LORA}", "McNemar", "review 1 of", PLANTED):
        panel.says(text)
    panel.fill("review", 2)
    panel.says("review 2 of")
    panel.fill("with the words", "no such words")
    panel.says(f"No such review is right in {FULL} and wrong in {LORA}")
    panel.fill("with the words", "")
    panel.says("review 1 of")
    panel.select("only right is", "the second")
    panel.says(re.compile(f"right in {LORA} and wrong in {FULL}|that only {LORA} got right"))
    panel.select("second run", "full-n00100-s1")
    panel.says(f"{FULL} minus full-n00100-s1")
    panel.select("first run", "full-n00100-s1")
    panel.says("is picked twice")


def test_saved_after_all_this_and_stripped_the_notebook_is_the_one_in_git(notebook: Notebook) -> None:
    assert notebook.stripped() == (paths.NOTEBOOKS / NOTEBOOK).read_bytes()
