"""Where an interactive piece is shown, and its form: controls and, below them, what their values ask for.

All that is shown is in an `Output` widget, whose content the kernel keeps, so that a reload of the page brings it back.
This is what `ipywidgets.interactive_output` does too; but that computes before anything is displayed, so that nothing
can say what takes long, and has neither a button nor a place that begins again.
"""

import os
from collections.abc import Callable, Iterable
from functools import wraps
from html import escape
from typing import Any, ParamSpec

import ipywidgets
import pandas as pd
from IPython.display import HTML, clear_output, display

from peft_study.errors import StudyError

P = ParamSpec("P")
ALERT = "border-left:3px solid #b00020;padding:.3em .9em;white-space:pre-wrap;line-height:1.4"


def live() -> bool:
    """Whether somebody is watching: a kernel that a Jupyter server started for a notebook, rather than papermill.

    The server names the notebook in `JPY_SESSION_NAME`; papermill sets no such variable, and the engine removes one
    that it inherits from a terminal of JupyterLab.
    """
    return "JPY_SESSION_NAME" in os.environ


def where_live(piece: Callable[P, None]) -> Callable[P, None]:
    """A piece that does nothing unless somebody is watching: an executed notebook holds no dead controls."""

    @wraps(piece)
    def shown(*args: P.args, **options: P.kwargs) -> None:
        if live():
            piece(*args, **options)

    return shown


def panel(render: Callable[..., None], button: str = "", **controls: Any) -> None:
    """Display controls and, below them, what `render` displays for their values by name.

    With a `button` it waits for a click; else every change of a control calls it. A control named `place` counts
    through what the others find: it returns to 1 when one of them changes. A `StudyError` is shown as its message;
    ipywidgets shows any other error with its traceback.
    """
    output, place = ipywidgets.Output(), controls.get("place")

    def update(*_: Any) -> None:
        with output:
            try:
                clear_output(wait=True)
                render(**{name: control.value for name, control in controls.items()})
            except StudyError as error:
                replace(HTML(f'<div role="alert" style="{ALERT}">{escape(str(error))}</div>'))

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
    display(ipywidgets.VBox([ipywidgets.Box(fields, layout=row), output]))
    if not button:
        update()


def replace(*contents: Any) -> None:
    """Display `contents` in place of what the panel shows below its controls."""
    clear_output(wait=True)
    display(*contents)


def at_place(matches: pd.DataFrame, place: int) -> tuple[Any, str]:
    """The row at a place among the matches, or the last, and where it is: `3 of 1,200`."""
    place = min(place, len(matches))
    return matches.iloc[place - 1], f"{place:,} of {len(matches):,}"


def choice(description: str, options: Any, value: Any = None) -> ipywidgets.Dropdown:
    """A choice of one of `options`: values, or pairs of a name and a value; the first unless `value` is another."""
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


def several(description: str, options: Iterable[tuple[str, Any]]) -> ipywidgets.SelectMultiple:
    """A choice of some of `options`, pairs of a name and a value; at first of all."""
    pairs = list(options)
    values, rows = [value for _, value in pairs], min(6, max(2, len(pairs)))
    return ipywidgets.SelectMultiple(description=description, options=pairs, value=values, rows=rows)


def search() -> ipywidgets.Text:
    """Words to look for; it asks when Enter is pressed or the field is left."""
    return ipywidgets.Text(description="with the words", placeholder="any words", continuous_update=False)


def place(description: str, most: int) -> ipywidgets.BoundedIntText:
    """Which of at most so many matches is shown, from 1."""
    return ipywidgets.BoundedIntText(description=description, value=1, min=1, max=max(1, most))
