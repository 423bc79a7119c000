"""02 in JupyterLab: a training that can be watched and stopped, and a model that can be asked."""

import json
import re
from pathlib import Path

import pytest
from lab_notebook import Notebook, set_parameters
from made_runs import PLANTED
from playwright.sync_api import expect

from peft_study.engine import steps
from peft_study.records import layout
from peft_study.records.classifier import saved_models

pytestmark = pytest.mark.browser
NOTEBOOK = steps.TRAIN
SLOW = (  # while that file exists, a step takes seconds that are not spent in Python
    "\"network.register_forward_hook(lambda *_: __import__('os').path.exists('{}') and "
    "__import__('hashlib').pbkdf2_hmac('sha256', b'', b'', 8_000_000) and None or None)\\n\",\n    "
)
RUN = "lora-n00060-s42"


def test_all_cells_run_and_slow_ones_say_how_far_they_are(notebook: Notebook, home: Path) -> None:
    chart = notebook.cell("trainer.train(").output
    expect(chart).to_contain_text("Step 28 of 28. Done in")
    expect(chart.locator("table tr")).to_have_count(3)
    assert chart.locator("img").count() == 0  # the figure of the next cell is the chart
    expect(notebook.cell("predict(network").output).to_contain_text("Classifying texts: 40 of 40")
    record = home / "runs" / "scratch" / RUN
    metrics = json.loads((record / "metrics.json").read_text())
    assert metrics["training"]["interrupted"] is False and metrics["training"]["steps"] == 28
    assert not layout.is_interrupted(record) and notebook.errors() == []


def test_words_of_mistakes_and_of_any_text_are_coloured_by_any_model(notebook: Notebook) -> None:
    mistakes = notebook.cell("browse_mistakes(")
    for text in ("mistake 1 of", PLANTED, "that word alone is masked"):
        mistakes.says(text)
    assert mistakes.shown.locator("[title][style*=background]").count() > 4
    mistakes.click("next")
    mistakes.says("mistake 2 of")
    trial = notebook.cell("try_review(")
    trial.fill("text", f"a superb film \N{SNOWMAN} {PLANTED}")
    for model in ("this run, just trained", "quick/full-n00100-s1"):
        trial.select("model", model)
        expect(trial.shown).to_be_empty()
        trial.click("Classify")
        trial.says(re.compile(rf"{model} · predicted \w+ with \S+%"))
        trial.says(PLANTED)
        assert trial.shown.locator("[title][style*=background]", has_text="superb").count() == 1
        expect(trial.shown.locator("[style*=dotted]").first).to_have_text("\N{SNOWMAN}")
    trial.select("model", "all finished runs")
    area = trial.control("text").locator("textarea")
    area.fill("a dull film")
    expect(trial.shown).to_be_empty()
    area.press("Control+Enter")
    trial.says(re.compile(r"a dull film.*this run, just trained.*quick/full-n00060-s1.*%", re.DOTALL))
    with notebook.page.expect_download() as download:
        trial.shown.get_by_role("link", name="save table.csv").click()
    assert "quick/full-n00060-s1" in download.value.path().read_text()


def test_a_variant_that_is_picked_is_trained_beside_the_first_and_git_sees_no_change(
    notebook: Notebook, home: Path
) -> None:
    first = (home / "runs" / "scratch" / RUN / "metrics.json").read_bytes()
    lists = notebook.cell("widgets.pick(")
    lists.says("These are the parameters")
    lists.select("seed", "43")
    lists.says("Run Selected Cell and All Below")
    notebook.start()
    notebook.wait()
    lists.says("replaces the parameters")
    expect(notebook.cell("next_steps(").output).to_contain_text("./run_all.sh label scratch/lora-n00060-s43 texts.csv")
    assert layout.is_finished(home / "runs" / "scratch" / "lora-n00060-s43")
    assert (home / "runs" / "scratch" / RUN / "metrics.json").read_bytes() == first
    assert notebook.changes() == "" and notebook.errors() == []


def test_a_training_is_stopped_after_its_step_and_says_so_within_a_second(notebook: Notebook, home: Path) -> None:
    set_parameters(notebook.file, {"epochs": 2000.0})
    slow, train = home / "slow", '"trainer.train('
    text = notebook.file.read_text(encoding="utf-8")
    notebook.file.write_text(text.replace(train, SLOW.format(slow) + train), encoding="utf-8")
    notebook.open()
    notebook.start()
    chart = notebook.cell("trainer.train(").output
    expect(chart).to_contain_text(re.compile(r"\d+/14000 \d"))
    expect(chart.locator("img")).to_have_count(1)
    slow.touch()
    notebook.page.wait_for_timeout(500)
    notebook.interrupt()
    expect(chart).to_contain_text("Stopping after this step", timeout=1000)
    slow.unlink()
    notebook.wait()
    expect(chart).to_contain_text("Interrupted after")
    assert chart.locator("img").count() == 0 and notebook.errors() == []
    expect(notebook.cell('measured["interrupted"]').output).to_contain_text("Training was interrupted")
    finished, record = (home / "runs" / "scratch" / name for name in (RUN, f"{RUN}-2"))
    metrics = json.loads((record / "metrics.json").read_text())
    assert metrics["training"]["interrupted"] and 0 < metrics["training"]["steps"] < 14000
    assert (record / "model").is_dir() and layout.is_interrupted(record)
    assert f"scratch/{RUN}-2" not in saved_models() and layout.is_finished(finished)
