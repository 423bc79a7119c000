"""What a training and a slow step show while they run, updated in place."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from peft_study.widgets import live_chart

LOG = [{"step": step, "epoch": step / 50, "loss": 0.7 - step / 200} for step in (10, 50, 100)]
LOG.append({"step": 100, "epoch": 2.0, "eval_loss": 0.3, "eval_accuracy": 0.9})


def state(log: list[dict[str, float]], step: int) -> Any:
    """What the Trainer tells its callbacks."""
    return SimpleNamespace(log_history=log, global_step=step, max_steps=100)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that stands still, and what is displayed: `first` lists the displays, `updates` what replaced them."""
    shown = SimpleNamespace(clock=100.0, first=[], updates=[])
    handle = SimpleNamespace(update=lambda content: shown.updates.append(content))
    monkeypatch.setattr(live_chart, "monotonic", lambda: shown.clock)
    monkeypatch.setattr(live_chart, "display", lambda content, display_id: shown.first.append(content) or handle)
    return shown


def text(content: Any) -> str:
    return " ".join(re.sub("<[^>]*>", " ", content.data).split())


def test_the_chart_is_updated_in_place_at_most_once_a_second(shown: Any) -> None:
    chart = live_chart.LiveChart("lora")
    chart.on_train_begin(None, state([], 0), None)
    for second in (1.5, 1.8, 2.2, 2.8, 3.9):
        shown.clock = 100 + second
        chart.on_log(None, state(LOG[:2], 50), None)
    line, figure = shown.first
    assert "■ in the toolbar" in text(line) and len(figure.axes) == 2
    assert len([update for update in shown.updates if hasattr(update, "axes")]) == 2
    chart.on_train_end(None, state(LOG, 100), None)
    assert len(shown.first) == 2
    assert text(shown.updates[-2]) == "Step 100 of 100. Done in 4 s; evaluations included."
    assert text(shown.updates[-1]) == ""  # the chart is gone
    live_chart.LiveChart("lora").on_train_end(None, state([], 1), None)  # before anything is drawn
    assert "Step 1 of 100. Interrupted after 0 s" in text(shown.first[2]) and len(shown.first) == 3


def test_a_slow_step_says_how_far_it_is_and_at_last_how_long_it_took(shown: Any) -> None:
    line = live_chart.Line()
    for seconds, done in ((0, 0), (0.1, 10), (1.9, 900), (0, 1000)):
        shown.clock += seconds
        line("Reading", done, 1000)
    assert text(shown.first[0]) == "Reading: 0 of 1,000"
    assert [text(update) for update in shown.updates] == ["Reading: 900 of 1,000", "Reading: 1,000 of 1,000, in 2 s"]
