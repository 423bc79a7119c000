"""The form of an interactive piece: controls and, below them, the result of their values.

All results are the state of an `Output` widget, set from here: a page reload restores it, and changes in quick
succession cannot overtake one another. `ipywidgets.interactive_output` lets the page collect messages instead; it also
computes before anything is displayed, so it cannot announce slow steps, and has no button.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from html import escape
from typing import Any

import ipywidgets
import pandas as pd
from IPython.display import HTML, display

from peft_study.errors import StudyError
from peft_study.paths import live

Shown = Iterator[Any]  # what to display, or a tuple of it, each in place of what came before
ALERT = "border-left:3px solid #b00020;padding:.3em .9em;white-space:pre-wrap;line-height:1.4"


def where_live(piece: Callable[..., None]) -> Callable[..., None]:
    """A piece that does nothing outside JupyterLab, so that executed notebooks have no dead controls."""

    @wraps(piece)
    def shown(*args: Any, **options: Any) -> None:
        if live():
            piece(*args, **options)

    return shown


def show(render: Callable[..., Shown], button: str = "", **controls: Any) -> None:
    """Display a panel and, unless it waits for a `button`, the result of its initial values."""
    box, update = panel(render, button, **controls)
    display(box)
    if not button:
        update()


def panel(
    render: Callable[..., Shown], button: str = "", **controls: Any
) -> tuple[ipywidgets.VBox, Callable[..., None]]:
    """Controls above an output, and the function that fills it.

    `render` takes the controls' values by name and yields what to show, first an announcement if the step is slow, each
    in place of the one before. With a `button` it waits for a click, else it is called after every change of a control.
    A control named `place` counts through the matches of the others: it returns to 1 when one of them changes. A
    `StudyError` is shown as its message, any other error with its traceback.
    """
    output, place = ipywidgets.Output(), controls.get("place")

    def update(*_: Any) -> None:
        try:
            for contents in render(**{name: control.value for name, control in controls.items()}):
                put(output, contents)
        except StudyError as error:
            put(output, HTML(f'<div role="alert" style="{ALERT}">{escape(str(error))}</div>'))
        except Exception as error:  # whatever it is: a callback has no cell that would show it
            lines = "".join(traceback.format_exception(error)).splitlines()
            fault = {"output_type": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": lines}
            output.outputs = (fault,)

    def changed(change: Any) -> None:
        if place is None or place is change["owner"] or place.value == 1:
            update()
        else:
            place.value = 1  # which calls this again

    fields = list(controls.values())
    for control in fields:  # three fit beside one another on a usual screen
        control.style.description_width = "10.5rem"
        control.layout.width = control.layout.width or "25rem"
        if not button:
            control.observe(changed, "value")
    if button:
        fields.append(ipywidgets.Button(description=button, button_style="primary"))
        fields[-1].on_click(update)
    row = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start")
    return ipywidgets.VBox([ipywidgets.Box(fields, layout=row), output]), update


def put(output: ipywidgets.Output, contents: Any) -> None:
    """Replace the content of an output by `contents`, one or a tuple, in one message to the page."""
    with output.hold_sync():
        output.outputs = ()
        for content in contents if isinstance(contents, tuple) else (contents,):
            output.append_display_data(content)


def at_place(matches: pd.DataFrame, place: int) -> tuple[Any, str]:
    """The row at a place among the matches, or the last, and its place: `3 of 1,200`; `StudyError` without one."""
    if matches.empty:
        raise StudyError("nothing fits all of this; loosen a condition")
    place = min(place, len(matches))
    return matches.iloc[place - 1], f"{place:,} of {len(matches):,}"


def choice(description: str, options: Any, value: Any = None) -> ipywidgets.Dropdown:
    """A choice of one of `options`: values, or pairs of a name and a value; initially the first, or `value`."""
    field = ipywidgets.Dropdown(description=description, options=list(options))
    field.value = field.value if value is None else value
    return field


def yes_or_no(description: str) -> ipywidgets.Dropdown:
    """A choice of yes, no and either; the value is a tuple of the accepted values."""
    return choice(description, [("either", (False, True)), ("yes", (True,)), ("no", (False,))])


def classes(description: str, names: Iterable[str]) -> ipywidgets.Dropdown:
    """A choice of a class, or any; the value is a tuple of the accepted classes."""
    each = [(name, (label,)) for label, name in enumerate(names)]
    return choice(description, [("any", tuple(range(len(each)))), *each])


def several(description: str, options: Sequence[Any]) -> ipywidgets.SelectMultiple:
    """A choice of several `options`, values or pairs of a name and a value; initially all."""
    field = ipywidgets.SelectMultiple(description=description, options=options)
    field.index = tuple(range(len(options)))
    return field


def search() -> ipywidgets.Text:
    """A text field that searches on Enter or when it loses focus."""
    return ipywidgets.Text(description="with the words", placeholder="any words", continuous_update=False)


def place(description: str, most: int) -> ipywidgets.BoundedIntText:
    """The number of the match shown, from 1."""
    return ipywidgets.BoundedIntText(description=description, value=1, min=1, max=max(1, most))
