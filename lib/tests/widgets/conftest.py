"""Pieces are displayed in a notebook of JupyterLab, as far as they can tell."""

from collections.abc import Iterator

import ipywidgets
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from made_screen import Screen


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """A notebook in JupyterLab, and what it displays."""
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    InteractiveShell.instance()
    ipywidgets.Widget.close_all()
    with capture_output() as captured:
        yield Screen(captured)
