"""A panel: what its controls ask for is shown below them, errors included; where nobody watches there is none."""

import re
from typing import Any

import ipywidgets
import pytest
from IPython.display import HTML, display
from IPython.utils.capture import capture_output
from ipywidgets.widgets.widget import _instances
from made_screen import Screen

from peft_study import widgets
from peft_study.errors import StudyError
from peft_study.widgets import controls

HOSTILE = '<script>alert("hi")</script>'


def test_where_nobody_watches_nothing_is_shown_and_no_widget_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    before = len(_instances)
    nothing: Any = None
    with capture_output() as captured:
        widgets.browse_reviews(nothing, nothing)
        widgets.try_review(nothing, nothing, nothing, nothing)
        widgets.browse_mistakes(nothing, nothing, nothing, nothing, nothing)
        widgets.browse_runs("none")
        widgets.compare_two(nothing, {})
        widgets.pick_trade_off(nothing, nothing)
        widgets.progress()("Working", 1, 2)
    assert captured.outputs == [] and captured.stdout == "" and len(_instances) == before


def test_training_shows_lines_in_a_batch_and_a_chart_that_can_be_stopped_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kinds() -> list[str]:
        return [type(callback).__name__ for callback in widgets.training_callbacks("lora")]

    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert not widgets.live() and kinds() == ["PlainProgress"]
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert widgets.live() and kinds() == ["NotebookProgressCallback", "LiveChart", "StopOnInterrupt"]


def test_the_latest_content_takes_the_place_of_what_was_shown(screen: Screen) -> None:
    seen = []

    def render(size: int) -> None:
        controls.replace(HTML("working"))
        seen.append(screen.text)
        controls.replace(HTML(f"size {size}"), HTML("and more"))

    controls.panel(render, size=ipywidgets.IntSlider(description="size"))
    screen.panel()["size"].value = 7
    assert seen == ["working"] * 2 and screen.text == "size 7 and more"


def test_a_fault_that_the_user_can_mend_is_its_message_in_place(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    def render(size: int) -> None:
        display(HTML("working"))
        raise StudyError(f"size = {size}: {HOSTILE}")

    controls.panel(render, size=ipywidgets.IntSlider(description="size"))
    assert screen.text == "size = 0: &lt;script&gt;alert(&quot;hi&quot;)&lt;/script&gt;"
    assert screen.html.startswith('<div role="alert"') and "Error" not in capsys.readouterr().out


def test_any_other_error_has_its_traceback_and_the_panel_goes_on(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    def render(size: int) -> None:
        controls.replace(HTML(f"{1 / size}"))

    controls.panel(render, size=ipywidgets.IntSlider(description="size", value=2))
    screen.panel()["size"].value = 0
    assert re.search("ZeroDivisionError.*Traceback", capsys.readouterr().out)
    screen.panel()["size"].value = 4
    assert screen.text == "0.25"


def test_a_changed_search_starts_again_at_its_first_match(screen: Screen) -> None:
    calls: list[tuple[int, int]] = []
    fields = {"size": ipywidgets.IntSlider(), "place": controls.place("place", 9)}
    controls.panel(lambda size, place: calls.append((size, place)), **fields)
    fields["place"].value = 4
    fields["size"].value = 7
    assert calls == [(0, 1), (0, 4), (7, 1)]


def test_a_panel_with_a_button_waits_for_it(screen: Screen) -> None:
    controls.panel(lambda size: display(HTML(f"size {size}")), "Go", size=ipywidgets.IntSlider(description="size"))
    panel = screen.panel()
    panel["size"].value = 7
    assert "size 7" not in screen.html
    panel["Go"].click()
    assert screen.text == "size 7"
