"""Every strategy with every family of encoders on which it can work."""

from typing import Any

import pytest

from peft_study.strategies.table import STRATEGIES

FAMILIES = ["distilbert", "bert", "roberta"]


def pairs() -> list[Any]:
    """Every strategy with every family on which it can work."""
    return [
        pytest.param(name, family, id=f"{name} on {family}")
        for name, entry in STRATEGIES.items()
        for family in FAMILIES
        if family not in entry.impossible
    ]
