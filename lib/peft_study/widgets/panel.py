"""The one form that every interactive piece has: controls, and below them HTML that is made anew when one changes.

All that a panel shows is in a single `HTML` widget, figures included, so that a reload of the page brings everything
back; what its function raises is shown there too, where ipywidgets would hide it in a log.
"""

import traceback
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import ipywidgets
from IPython.display import display

from peft_study.errors import StudyError

ANY = "any"  # the choice that asks nothing; `render` gets None (a `Dropdown` takes None for no choice at all)
Render = Callable[..., Iterable[str]]  # the controls' values by name -> HTML, each piece in place of the one before


class Panel:
    """Controls and what they ask for.

    `render` is called with the value of every control under its name. It yields HTML, first what it is about to do
    where that takes long, at last the result. With a `button` it waits for a click; else every change of a control
    calls it. A control named `place` counts through what the others find: it returns to 1 when one of them changes.
    """

    def __init__(self, render: Render, button: str = "", **controls: Any) -> None:
        self._render = render
        self.controls = controls
        for control in controls.values():
            _align(control)
        self.output = ipywidgets.HTML()
        shown = list(controls.values())
        if button:
            click = ipywidgets.Button(description=button, button_style="primary")
            click.on_click(self.update)
            shown.append(click)
        else:
            for control in controls.values():
                control.observe(self._changed, "value")
        row = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start")
        self.box = ipywidgets.VBox([ipywidgets.Box(shown, layout=row), self.output])
        self._waits = bool(button)

    def show(self) -> None:
        """Display the panel, with what its controls ask for as they stand."""
        display(self.box)
        if not self._waits:
            self.update()

    def update(self, *_: Any) -> None:
        """Make anew what is shown below the controls."""
        try:
            asked = {name: control.value for name, control in self.controls.items()}
            for html in self._render(**{name: None if value == ANY else value for name, value in asked.items()}):
                self.output.value = html
        except Exception as error:  # whatever it is: a callback has no cell that would show it
            self.output.value = fault(error)

    def _changed(self, change: Any) -> None:
        place = self.controls.get("place")
        if place is not None and change["owner"] is not place and place.value != 1:
            place.value = 1  # which calls this again
        else:
            self.update()


def _align(control: Any) -> None:
    """Give a control the width of the others, three of which fit beside one another on a usual screen."""
    control.style.description_width = "10.5rem"
    control.layout.width = control.layout.width or "25rem"


def fault(error: Exception) -> str:
    """An exception as HTML: a fault that the user can mend as its message, any other with its traceback."""
    if isinstance(error, StudyError):
        told, more = str(error), ""
    else:
        told = f"{type(error).__name__}: {error}"
        lines = escape("".join(traceback.format_exception(error)))
        more = f"<details><summary>where it happened</summary><pre>{lines}</pre></details>"
    style = "border-left:3px solid #b00020;padding:.3em .9em;white-space:pre-wrap;line-height:1.4"
    return f'<div role="alert" style="{style}"><b>{escape(told)}</b>{more}</div>'


def dropdown(description: str, options: Any, value: Any = None) -> ipywidgets.Dropdown:
    """A choice of one of `options`: values, or pairs of a name and a value; the first unless `value` is another."""
    control = ipywidgets.Dropdown(description=description, options=list(options))
    if value is not None:
        control.value = value
    return control


def yes_or_no(description: str) -> ipywidgets.Dropdown:
    """A choice of yes, no and either."""
    return dropdown(description, [("either", ANY), ("yes", True), ("no", False)])


def several(description: str, options: Any) -> ipywidgets.SelectMultiple:
    """A choice of some of `options`, at first all."""
    options = list(options)
    values = [option[1] if isinstance(option, tuple) else option for option in options]
    return ipywidgets.SelectMultiple(
        description=description, options=options, value=values, rows=min(6, max(2, len(options)))
    )


def search() -> ipywidgets.Text:
    """Words to look for; it asks when Enter is pressed or the field is left."""
    return ipywidgets.Text(description="with the words", placeholder="any words", continuous_update=False)


def place(description: str, count: int) -> ipywidgets.BoundedIntText:
    """Which of up to `count` things found is shown, from 1."""
    return ipywidgets.BoundedIntText(description=description, value=1, min=1, max=max(1, count))


class Chooser:
    """A choice that the controls below it depend on: `make` builds the panel of the chosen value."""

    def __init__(self, choice: Any, make: Callable[[Any], Panel]) -> None:
        self._choice, self._make = choice, make
        self._choice.observe(self._chosen, "value")
        _align(choice)
        self.box = ipywidgets.VBox([choice])

    def show(self) -> None:
        """Display the choice and the panel of what is chosen at first."""
        display(self.box)
        self._chosen()

    def _chosen(self, *_: Any) -> None:
        try:
            panel = self._make(self._choice.value)
        except Exception as error:  # as in a panel
            self.box.children = [self._choice, ipywidgets.HTML(fault(error))]
        else:
            self.box.children = [self._choice, panel.box]
            panel.update()
