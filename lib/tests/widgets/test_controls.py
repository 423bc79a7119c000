"""A panel: what its controls ask for is shown below them, errors included; where nobody watches there is none."""

from collections.abc import Iterator
from typing import Any

import ipywidgets
import pytest
from IPython.display import HTML
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


@pytest.mark.parametrize("watched", [False, True])
def test_training_shows_lines_in_a_batch_and_a_chart_that_can_be_stopped_in_a_notebook(
    watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if watched:
        monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    kinds = [type(callback).__name__ for callback in widgets.training_callbacks("lora")]
    assert kinds == (["NotebookProgressCallback", "LiveChart", "StopOnInterrupt"] if watched else ["PlainProgress"])


def render(size: int) -> Iterator[Any]:
    """Says that it works, divides by `size`, and refuses more than 9."""
    yield HTML("working")
    if size > 9:
        raise StudyError(f"size = {size}: {HOSTILE}")
    yield HTML(f"a quarter: {1 / size}"), HTML("and more")


def sized(value: int = 4) -> ipywidgets.IntSlider:
    return ipywidgets.IntSlider(description="size", value=value)


def test_a_panel_shows_results_faults_and_tracebacks_in_place_of_one_another(screen: Screen) -> None:
    controls.show(render, size=sized())
    assert screen.text == "a quarter: 0.25 and more"
    screen.panel["size"].value = 10
    assert screen.html.startswith('<div role="alert"') and screen.text.startswith("size = 10: &lt;script&gt;")
    assert "Traceback" not in screen.text and HOSTILE not in screen.html
    screen.panel["size"].value = 0
    assert screen.text.startswith("Traceback") and screen.text.endswith("ZeroDivisionError: division by zero")
    screen.panel["size"].value = 4
    assert screen.text == "a quarter: 0.25 and more"


def test_a_panel_says_first_what_takes_long(screen: Screen) -> None:
    seen: list[str] = []
    controls.show(lambda size: (seen.append(screen.text) or content for content in render(size)), size=sized())
    assert seen == ["", "working"]


def test_a_changed_search_starts_again_at_its_first_match(screen: Screen) -> None:
    calls: list[tuple[int, int]] = []
    fields = {"size": sized(), "place": controls.place("place", 9)}
    controls.show(lambda **values: calls.append(tuple(values.values())) or iter(()), **fields)  # type: ignore[func-returns-value]
    fields["place"].value = 4
    fields["size"].value = 7
    assert calls == [(4, 1), (4, 4), (7, 1)]


def test_a_panel_with_a_button_waits_for_it(screen: Screen) -> None:
    controls.panel(render, "Go", size=sized())
    screen.panel["size"].value = 2
    assert screen.text == ""
    screen.panel["Go"].click()
    assert screen.text == "a quarter: 0.5 and more"
