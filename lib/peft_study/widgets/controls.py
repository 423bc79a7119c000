"""The form of an interactive piece: controls and, below them, the result of their values.

All results are the state of an `Output` widget, set from here: a page reload restores it, and changes in quick
succession cannot overtake one another. `ipywidgets.interactive_output` lets the page collect messages instead; it also
computes before anything is displayed, so it cannot announce slow steps, and has no button.

ipykernel answers a click in one thread and a change of a value in another ("subshells"), so a click may be answered
before the change that the user made first.
"""

import random
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import RLock
from typing import Any

import ipywidgets
import pandas as pd
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Javascript, display

from peft_study.errors import StudyError
from peft_study.files import where_live as where_live
from peft_study.widgets import markup

Shown = Iterator[Any]  # what to display, or a tuple of it, each in place of what came before
# Ctrl+Enter in a text area sends the text, then clicks: ipywidgets has no event for a key, and stops those of the page,
# so that this listens, once in a page, before any element does.
SUBMIT = """window.submitsPanels ??= window.addEventListener('keydown', event => {
  const panel = event.target.closest?.('.peft-study-panel');
  if (panel && event.key === 'Enter' && (event.ctrlKey || event.metaKey) && event.target.matches('textarea')) {
    event.stopPropagation();
    event.target.dispatchEvent(new Event('change', {bubbles: true}));
    panel.querySelector('button.mod-primary').click();
  }
}, true) ?? true;"""
MOST_SAVED = 1000  # rows of a link: the server of Jupyter drops larger messages


def show(render: Callable[..., Shown], button: str = "", **controls: Any) -> None:
    """Display a panel and, unless it waits for a `button`, the result of its initial values."""
    box, update = panel(render, button, **controls)
    display(box)
    if button:
        box.add_class("peft-study-panel")
        display(Javascript(SUBMIT))
    else:
        update()


def panel(
    render: Callable[..., Shown], button: str = "", **controls: Any
) -> tuple[ipywidgets.VBox, Callable[..., None]]:
    """Controls above an output, and the function that fills it.

    `render` takes the controls' values by name and yields what to show, first an announcement if the step is slow, each
    in place of the one before. With a `button` it waits for a click, and a change of a control removes the result, or
    asks for it again while it is computed; else it is called after every change, one call at a time. A `Place` is
    passed itself: it counts through the matches of the other controls, so that it returns to 1 when one of them
    changes. A `StudyError` is shown as its message, any other error with its traceback.
    """
    output, place, computing = ipywidgets.Output(), controls.get("place"), RLock()

    def update(*_: Any) -> None:
        with computing:
            fill()

    def fill() -> None:
        try:
            values = {name: control if control is place else control.value for name, control in controls.items()}
            for contents in render(**values):
                output.outputs = outputs(contents)
        except StudyError as error:
            output.outputs = outputs(markup.alert(str(error)))
        except Exception as error:  # whatever it is: a callback has no cell that would show it
            lines = "".join(traceback.format_exception(error)).splitlines()
            fault = {"output_type": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": lines}
            output.outputs = (fault,)

    def changed(change: Any) -> None:
        if button and computing.acquire(blocking=False):
            output.outputs = ()
            computing.release()
        elif place is None or place is change["owner"] or place.value == 1:
            update()
        else:
            place.value = 1  # which calls this again

    fields = list(controls.values())
    for control in fields:  # three fit beside one another on a usual screen
        control.style.description_width = "10.5rem"
        control.layout.width = control.layout.width or "25rem"
        control.observe(changed, "value")
    if place is not None:
        fields.insert(fields.index(place) + 1, place.buttons(output))
    if button:
        go = ipywidgets.Button(description=button, button_style="primary", layout={"width": "auto"})
        go.on_click(update)
        fields.append(ipywidgets.Box([go], layout={"width": "100%", "padding": "0 0 0 10.8rem"}))  # below the fields
    row = ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start")
    return ipywidgets.VBox([ipywidgets.Box(fields, layout=row), output]), update


def outputs(contents: Any) -> tuple[dict[str, Any], ...]:
    """What shows `contents`, one or a tuple, in an `Output`: below a table and a figure also a link that saves it."""
    shown: list[dict[str, Any]] = []
    for content in contents if isinstance(contents, tuple) else (contents,):
        data, metadata = InteractiveShell.instance().display_formatter.format(content)
        shown.append({"output_type": "display_data", "data": data, "metadata": metadata})
        if isinstance(content, pd.DataFrame):
            shown += outputs(markup.save("table.csv", content.to_csv()))
        elif "image/svg+xml" in data:
            shown += outputs(markup.save("figure.svg", data["image/svg+xml"]))
    return tuple(shown)


class Place(ipywidgets.BoundedIntText):  # type: ignore[misc]
    """The number of the match shown, from 1, and the `matches`."""

    matches = pd.DataFrame()

    def buttons(self, output: ipywidgets.Output) -> ipywidgets.Box:
        """Buttons that go to another match, and one that shows a link to all of them below `output`."""

        def save() -> None:
            first = self.matches.head(MOST_SAVED).set_index("id")
            note = markup.line(f"{len(first):,} of {len(self.matches):,} matches:")
            output.outputs += outputs((note, markup.save("matches.csv", first.to_csv())))

        actions: dict[str, Callable[[], None]] = {
            "previous": lambda: self.set_trait("value", self.value - 1),
            "next": lambda: self.set_trait("value", self.value + 1),
            "random": lambda: self.set_trait("value", random.randint(1, self.max)),
            "save all": save,
        }
        buttons = [ipywidgets.Button(description=name, layout={"width": "auto"}) for name in actions]
        for button in buttons:
            button.on_click(lambda clicked: actions[clicked.description]())
        return ipywidgets.HBox(buttons, layout={"width": "25rem"})


def at_place(matches: pd.DataFrame, place: Place) -> tuple[Any, str]:
    """The row at a place among the matches, and its place: `3 of 1,200`; `StudyError` without one."""
    place.matches, place.max = matches, max(1, len(matches))
    if matches.empty:
        raise StudyError("no text meets all conditions; relax one")
    return matches.iloc[place.value - 1], f"{place.value:,} of {len(matches):,}"


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
    return ipywidgets.SelectMultiple(description=description, options=options, index=tuple(range(len(options))))


def search() -> ipywidgets.Text:
    """A text field that searches on Enter or when it loses focus."""
    return ipywidgets.Text(description="with the words", placeholder="any words", continuous_update=False)
