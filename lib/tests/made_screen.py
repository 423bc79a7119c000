"""The interactive pieces as somebody sees them, without a browser: what they display, and their controls."""

import re
from typing import Any

import ipywidgets
from ipywidgets.widgets.widget import _instances


class Screen:
    """What is displayed, as an IPython shell keeps it: a panel's output, cleared whenever it is made again."""

    def __init__(self, captured: Any) -> None:
        self._captured = captured

    @property
    def html(self) -> str:
        """All that the output shows, tables and figures included."""
        shown = [output.data for output in self._captured.outputs]
        return "\n".join(data.get("text/html", data.get("text/plain", "")) for data in shown)

    @property
    def text(self) -> str:
        """The same without markup."""
        return " ".join(re.sub("<[^>]*>", " ", self.html).split())

    def panel(self) -> dict[str, Any]:
        """The controls of the panel that was displayed last, by description."""
        boxes = [widget for widget in _instances.values() if isinstance(widget, ipywidgets.VBox)]
        return {control.description: control for control in boxes[-1].children[0].children}
