"""The parameters of the notebook that is running: those it declares, with the values that papermill injected."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from peft_study.errors import StudyError, unknown
from peft_study.study.variant import Variant, describe


def checked(history: Sequence[str], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the running notebook, by name: pass it IPython's `In` and `globals()`.

    papermill only warns of a parameter that the notebook does not declare, then runs the default. Here it is a
    `StudyError`. Declared are the annotated names of the first cell that has any; injected is the cell that
    papermill opens with `# Parameters`.
    """
    cells = [_parse(source) for source in history]
    declared = next((names for cell in cells if (names := _names(cell, ast.AnnAssign))), [])
    for source, cell in zip(history, cells, strict=True):
        for name in _names(cell, ast.Assign) if source.startswith("# Parameters") else []:
            if name not in declared:
                raise StudyError(unknown("parameter", name, declared))
    return {name: namespace[name] for name in declared}


def variant(history: Sequence[str], namespace: Mapping[str, Any]) -> Variant:
    """The variant that the running notebook's parameters describe, or a `StudyError` that lists every fault."""
    values = checked(history, namespace)
    try:
        return Variant(**{name: value for name, value in values.items() if name in Variant.model_fields})
    except ValidationError as error:
        raise StudyError("\n  ".join(["the parameters have faults:", *describe(error, Variant)])) from error


def _parse(source: str) -> list[ast.stmt]:
    """The statements of a cell; none where it holds magics, which only IPython understands."""
    try:
        return ast.parse(source).body
    except SyntaxError:
        return []


def _names(cell: list[ast.stmt], kind: type[ast.AnnAssign] | type[ast.Assign]) -> list[str]:
    """The plain names that statements of this kind assign in a cell."""
    targets = [
        target
        for node in cell
        if isinstance(node, kind)
        for target in ([node.target] if isinstance(node, ast.AnnAssign) else node.targets)
    ]
    return [target.id for target in targets if isinstance(target, ast.Name)]
