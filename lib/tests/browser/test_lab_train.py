"""02 in JupyterLab: a training that can be watched and stopped, and a model that can be asked."""

import json
import re
from pathlib import Path

import pytest
from lab_notebook import Notebook, Server
from made_runs import PLANTED
from playwright.sync_api import expect

from peft_study.engine.steps import TRAIN as NOTEBOOK
from peft_study.records import layout
from peft_study.widgets.predictions import saved_models

pytestmark = pytest.mark.browser
RUN = "lora-n00060-s42"


@pytest.fixture(scope="module")
def source(server: Server) -> bytes:
    """The file of the notebook before it was opened."""
    return (server.root / "notebooks" / NOTEBOOK).read_bytes()


@pytest.fixture
def record(home: Path) -> Path:
    """The record that the notebook leaves."""
    return home / "runs" / "scratch" / RUN


def test_all_cells_run_and_slow_ones_say_how_far_they_are(source: bytes, notebook: Notebook, record: Path) -> None:
    chart = notebook.cell("trainer.train(").output
    expect(chart).to_contain_text("Step 28 of 28. Done in")
    expect(chart.locator("table tr")).to_have_count(3)
    assert chart.locator("img").count() == 1
    expect(notebook.cell("predict(model").output).to_contain_text("Classifying reviews: 40 of 40")
    metrics = json.loads((record / "metrics.json").read_text())
    assert metrics["training"]["interrupted"] is False and metrics["training"]["steps"] == 28
    assert not layout.is_interrupted(record) and notebook.errors() == []


def test_mistakes_are_filtered_and_their_words_coloured(notebook: Notebook) -> None:
    mistakes = notebook.cell("browse_mistakes(")
    mistakes.says("mistake 1 of")
    mistakes.says(PLANTED)
    mistakes.says("when this one word is masked")
    assert mistakes.shown.locator("[title][style*=rgba]").count() > 4
    first = mistakes.shown.inner_text().split(" · ")
    mistakes.fill("mistake", 2)
    mistakes.says("mistake 2 of")
    other = "negative" if first[0] == "positive" else "positive"
    mistakes.select("true class", other)
    mistakes.says(re.compile(f"{other} · mistake 1 of|nothing fits"))
    mistakes.select("true class", "any")
    mistakes.says(first[1])
    for control, pattern in (("states a rating", "nothing fits"), ("cut to the window", r"mistake 1 of|nothing fits")):
        mistakes.select(control, "yes")
        mistakes.says(re.compile(pattern))
        mistakes.select(control, "either")
        mistakes.says(first[1])
    mistakes.slide("at least sure", "99")
    mistakes.says("nothing fits")
    mistakes.slide("at least sure", "50")
    mistakes.says(first[1])
    mistakes.fill("with the words", "no such words")
    mistakes.says("nothing fits")
    mistakes.fill("with the words", "")
    mistakes.says(first[1])


def test_any_text_can_be_tried_on_the_model_just_trained_and_on_that_of_any_run(notebook: Notebook, home: Path) -> None:
    trial = notebook.cell("try_review(")
    trial.fill("review", f"a superb film {PLANTED}")
    trial.click("Classify")
    trial.says("% sure · this run, just trained")
    trial.says(PLANTED)
    assert trial.shown.locator("[title][style*=rgba]", has_text="superb").count() == 1
    trial.fill("review", " ")
    trial.click("Classify")
    expect(trial.output.get_by_role("alert")).to_contain_text("there is no text to classify")
    trial.fill("review", "a superb and moving film")
    trial.select("model", "quick/full-n00100-s1")
    trial.click("Classify")
    trial.says(re.compile(r"positive · \S+% sure · quick/full-n00100-s1"))
    model = home / "runs" / "tiny" / "full-n00060-s1" / "model"
    model.rename(model.with_name("hidden"))
    trial.select("model", "tiny/full-n00060-s1")
    trial.click("Classify")
    trial.says("Traceback")
    model.with_name("hidden").rename(model)


def test_saved_after_all_this_and_stripped_the_notebook_is_as_it_was(notebook: Notebook, source: bytes) -> None:
    assert notebook.stripped() == source and len(notebook.saved()) <= 2**20


def test_a_training_that_is_stopped_keeps_chart_and_checkpoint_and_its_record_says_so(
    notebook: Notebook, record: Path
) -> None:
    notebook.replace("epochs: float = 4.0", "epochs: float = 2000.0")
    notebook.start()
    chart = notebook.cell("trainer.train(").output
    expect(chart).to_contain_text(re.compile(r"\d+/14000 \d"))
    expect(chart.locator("img")).to_have_count(1)
    notebook.interrupt()
    notebook.wait()
    expect(chart).to_contain_text("Interrupted after")
    assert chart.locator("img").count() == 1 and notebook.errors() == []
    expect(notebook.cell('measured["interrupted"]').output).to_contain_text("Training was interrupted")
    metrics = json.loads((record / "metrics.json").read_text())
    steps, chosen = (metrics["training"][name] for name in ("steps", "selected_step"))
    log = json.loads((record / "log_history.json").read_text())
    evaluated = {entry["step"]: entry["eval_loss"] for entry in log if "eval_loss" in entry}
    assert metrics["training"]["interrupted"] and 0 < steps < metrics["training"]["planned_steps"] == 14000
    assert steps in evaluated and chosen == min(evaluated, key=lambda step: evaluated[step])
    assert metrics["evaluation"]["validation"]["loss"] == evaluated[chosen]
    assert (record / "model").is_dir() and layout.is_interrupted(record)
    assert f"scratch/{RUN}" not in saved_models()
