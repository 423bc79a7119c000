"""02 in JupyterLab: a training that can be watched and stopped, and a model that can be asked."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_notebook import Notebook, Panel, Server, stripped
from made_runs import PLANTED
from playwright.sync_api import Browser, expect

from peft_study.engine import steps as batch
from peft_study.records import layout as folders

pytestmark = pytest.mark.browser
RUN = "lora-n00060-s42"


@pytest.fixture(scope="module")
def source(server: Server) -> bytes:
    """The file of the notebook before it was opened."""
    return (server.root / "notebooks" / batch.TRAIN).read_bytes()


@pytest.fixture(scope="module")
def notebook(browser: Browser, server: Server, source: bytes) -> Iterator[Notebook]:
    notebook = Notebook(browser, server, f"notebooks/{batch.TRAIN}")
    notebook.run()
    yield notebook
    notebook.close()


@pytest.fixture
def mistakes(notebook: Notebook) -> Panel:
    return notebook.cell("interactive.browse_mistakes(")


@pytest.fixture
def trial(notebook: Notebook) -> Panel:
    return notebook.cell("interactive.try_review(")


def classify(trial: Panel) -> None:
    trial.output.get_by_role("button", name="Classify").click()


def test_all_cells_run_without_an_error_and_slow_ones_say_how_far_they_are(notebook: Notebook) -> None:
    chart = notebook.cell("training.train(").output
    expect(chart).to_contain_text("Step 28 of 28. Done in")
    expect(chart.locator("table.evaluations tr")).to_have_count(3)
    assert chart.locator("img").count() == 1
    expect(notebook.cell("training.prepare(").output).to_contain_text("Reviews, tokens and model: 3 of 3")
    expect(notebook.cell('prepared.predict("test"').output).to_contain_text("Classifying reviews: 60 of 60")
    assert notebook.errors() == [] and notebook.complaints == []


def test_mistakes_are_filtered_and_their_words_coloured(mistakes: Panel) -> None:
    mistakes.says("mistake 1 of")
    mistakes.says(PLANTED)
    assert mistakes.output.locator("script").count() == 0
    assert mistakes.shown.locator("[title][style*=rgba]").count() > 4
    first = mistakes.shown.inner_text()
    mistakes.fill("mistake", 2)
    mistakes.says("mistake 2 of")
    assert mistakes.shown.inner_text() != first
    label = "negative" if first.startswith("positive") else "positive"
    mistakes.select("true class", label)
    mistakes.says(re.compile(f"{label} · mistake 1 of|No mistake fits"))
    mistakes.select("true class", "either")
    for control in ("states a rating", "cut to the window"):
        mistakes.select(control, "yes")
        expect(mistakes.shown).not_to_have_text(first)
        mistakes.select(control, "either")
        mistakes.says("mistake 1 of")
    mistakes.slide("at least sure", "99")
    mistakes.says("No mistake fits")
    mistakes.slide("at least sure", "50")
    mistakes.fill("with the words", "no such words")
    mistakes.says("No mistake fits")
    mistakes.fill("with the words", "")
    mistakes.says("mistake 1 of")


def test_any_text_can_be_tried_on_the_model_just_trained(trial: Panel) -> None:
    trial.fill("review", f"a superb film {PLANTED}")
    classify(trial)
    trial.says("% sure · this run, just trained")
    trial.says(PLANTED)
    assert trial.output.locator("script").count() == 0
    assert trial.shown.locator("[title][style*=rgba]", has_text="superb").count() == 1
    trial.says("towards negative")
    trial.fill("review", " ")
    classify(trial)
    expect(trial.output.get_by_role("alert")).to_contain_text("there is no text to classify")


def test_any_finished_run_can_be_asked_and_one_that_is_gone_says_so(trial: Panel, home: Path) -> None:
    trial.fill("review", "a superb and moving film")
    trial.select("model", "quick/full-n00100-s1")
    classify(trial)
    trial.says(re.compile(r"positive · \S+% sure · quick/full-n00100-s1"))
    model = home / "runs" / "tiny" / "full-n00060-s1" / "model"
    model.rename(model.with_name("hidden"))
    trial.select("model", "tiny/full-n00060-s1")
    classify(trial)
    expect(trial.output.get_by_role("alert")).to_contain_text("where it happened")
    model.with_name("hidden").rename(model)


def test_saved_after_all_this_and_stripped_the_notebook_is_as_it_was(notebook: Notebook, source: bytes) -> None:
    saved = notebook.save()
    assert stripped(saved) == source and len(saved) <= 2**20


def test_a_whole_run_counts_as_one(notebook: Notebook, home: Path) -> None:
    folder = home / "runs" / "scratch" / RUN
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["training"]["interrupted"] is False and metrics["training"]["steps"] == 28
    assert not folders.is_interrupted(folder)


def test_a_training_that_is_stopped_keeps_chart_and_checkpoint_and_its_record_says_so(
    notebook: Notebook, home: Path
) -> None:
    notebook.replace("epochs: float = 4.0", "epochs: float = 2000.0")
    notebook.start()
    chart = notebook.cell("training.train(").output
    expect(chart).to_contain_text(re.compile(r"Step \d+ of 14,000\. .* left"))
    notebook.interrupt()
    notebook.wait()
    expect(chart).to_contain_text("Interrupted after")
    assert chart.locator("img").count() == 1 and notebook.errors() == []
    expect(notebook.cell("run_claims.curve(").output).to_contain_text("Training was interrupted after step")
    expect(notebook.cell("run_claims.recorded(").output).to_contain_text("marked as interrupted")
    folder = home / "runs" / "scratch" / RUN
    record = json.loads((folder / "metrics.json").read_text())
    steps, chosen = (record["training"][name] for name in ("steps", "selected_step"))
    evaluated = {entry["step"]: entry["eval_loss"] for entry in record_log(folder) if "eval_loss" in entry}
    assert record["training"]["interrupted"] and 0 < steps < record["training"]["planned_steps"] == 14000
    assert steps in evaluated and chosen == min(evaluated, key=lambda step: evaluated[step])
    assert record["evaluation"]["validation"]["loss"] == evaluated[chosen]
    assert (folder / "model").is_dir() and folders.is_interrupted(folder)
    assert f"scratch/{RUN}" not in folders.saved_models()


def record_log(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "log_history.json").read_text())
