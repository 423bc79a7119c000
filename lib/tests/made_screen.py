"""The interactive pieces as somebody sees them, without a browser: what they show, and their controls."""

import re
from html import unescape
from typing import Any

import ipywidgets
from ipywidgets.widgets.widget import _instances


class Screen:
    """The panel that was made last, and what is shown below its controls."""

    def _parts(self) -> Any:
        return [widget for widget in _instances.values() if isinstance(widget, ipywidgets.VBox)][-1].children

    @property
    def panel(self) -> dict[str, Any]:
        """The controls, by description."""
        fields = [field for control in self._parts()[0].children for field in getattr(control, "children", [control])]
        return {field.description: field for field in fields}

    @property
    def html(self) -> str:
        """All that is shown, tables, figures and tracebacks included."""
        shown = [
            output.get("data") or {"text/plain": " ".join(output["traceback"])} for output in self._parts()[1].outputs
        ]
        return "\n".join(data.get("text/html", data["text/plain"]) for data in shown)

    @property
    def text(self) -> str:
        """The same without markup."""
        return " ".join(re.sub("<[^>]*>", " ", self.html).split())

    def follow(self, *rows: tuple[str, Any, str]) -> None:
        """Set controls in turn, a choice by its label; each time a pattern must be found in what is then shown."""
        for name, value, pattern in rows:
            control = self.panel[name]
            setattr(control, "label" if isinstance(control, ipywidgets.Dropdown) else "value", value)
            assert re.search(pattern, unescape(self.text)), (name, value, self.text)
