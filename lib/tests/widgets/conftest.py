"""Pieces are displayed in a notebook of JupyterLab, as far as they can tell."""

import ipywidgets
import pytest
from IPython.core.interactiveshell import InteractiveShell
from made_screen import Screen


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A notebook in JupyterLab, and what its panel shows."""
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    InteractiveShell.instance()
    ipywidgets.Widget.close_all()
    return Screen()
