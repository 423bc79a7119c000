"""What a comparison tells, kept as it is told: every figure under its label, every claim and its numbers in one file.

`report/<study>/figures/` then holds the figures of the paper, and `numbers.json` what its sentences say and rest on,
for whoever quotes the study, draws its figures anew, or checks them.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from peft_study import paths
from peft_study.files import write_json
from peft_study.report import display as show
from peft_study.report import figures as plots
from peft_study.study.study import Study

NUMBERS = "numbers.json"


class Report:
    """The report of a study while 03 or 04 tells it. A cell that is executed again replaces what it said before."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.claims: dict[str, str] = {}

    def sentence(self, name: str, *parts: str) -> None:
        """Show generated prose, each part a paragraph of Markdown, and keep it as the claim `name`."""
        self.claims[name] = "\n\n".join(filter(None, parts))
        show.sentence(*parts)

    def figure(self, label: str, figure: Figure | None, otherwise: str = "") -> Figure | None:
        """Keep a figure as `<label>.pdf` and `.svg` and return it, to be shown; without one, say `otherwise`."""
        if figure is None:
            show.sentence(otherwise)
        return plots.save_figure(figure, self.study.name, label)

    def write(self, **tables: pd.DataFrame) -> Path:
        """Write `numbers.json`: what the study asks, the claims by name, and the rows of the `tables`.

        A row maps the columns' names to values. What is not known, or not finite, is null.
        """
        asked = self.study.model_dump(include={"name", "title", "question", "baseline", "margin"})
        rows = {name: _rows(table) for name, table in tables.items()}
        file = paths.report_folder(self.study.name) / NUMBERS
        write_json(file, {"study": asked, "claims": self.claims, "tables": rows})
        return file


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON has them."""
    return list(json.loads(table.to_json(orient="records", double_precision=12, force_ascii=False)))
