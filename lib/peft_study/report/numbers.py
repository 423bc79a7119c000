"""The files of a report: its figures, and its sentences and tables as numbers.

`report/<study>/figures/` holds the figures under their labels; `numbers.json` holds the computed sentences by name and
the rows of the tables, for whoever quotes the study, redraws its figures or checks them. In JupyterLab nothing is
written.
"""

import json

import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from peft_study import paths
from peft_study.files import remove, replacing, unless_live, write_json
from peft_study.records.read import Runs
from peft_study.report.display import sentence
from peft_study.report.figures import card, save_figure
from peft_study.study.study import Study


class Report:
    """The report of a study while 03 or 04 computes it. A cell that runs again replaces what it kept before."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.claims: dict[str, str] = {}
        self.tables: dict[str, pd.DataFrame] = {}  # for `write`, of cells that may fail
        unless_live(remove)(paths.report_folder(study.name) / "figures")  # of an earlier report, which may have more

    def sentence(self, name: str, *parts: str) -> None:
        """Show computed Markdown, each part a paragraph, and keep it under `name`; empty parts are left out."""
        self.claims[name] = "\n\n".join(filter(None, parts))
        sentence(*parts)

    def figure(self, label: str, figure: Figure | None) -> Figure | None:
        """Save a figure as `<label>.pdf` and `.svg` and return it; of None, delete what this cell saved before."""
        if figure is None:  # plain text: on the screen above the caption, and not in the paper
            display({"text/plain": "This study has no such figure."}, raw=True)
        save_figure(figure, self.study.name, label)
        return figure

    @unless_live
    def card(self, finding: str, comparisons: pd.DataFrame) -> None:
        """Write `card.png`, the picture that other sites show with a link to the report."""
        picture = card(self.study, finding, comparisons)
        with replacing(paths.report_folder(self.study.name) / "card.png") as partial:
            picture.savefig(partial, format="png", dpi=250, metadata={"Software": None})

    @unless_live
    def write(self, **tables: pd.DataFrame) -> None:
        """Write `numbers.json`: what the study asks, the claims by name, and the rows of both `tables`.

        A row maps the columns' names to values. What is not known, or not finite, is null.
        """
        study = self.study.model_dump(include={"name", "title", "question", "authors", "baseline", "metric", "margin"})
        rows = {
            name: json.loads(table.to_json(orient="records", double_precision=12, force_ascii=False))
            for name, table in (tables | self.tables).items()
        }
        content = {"study": study, "claims": self.claims, "tables": rows}
        write_json(paths.report_folder(self.study.name) / "numbers.json", content)


@unless_live
def write_aggregate(runs: Runs) -> None:
    """`aggregated_metrics.csv`: the table of all finished runs."""
    with replacing(paths.study_folder(runs.study.name) / "aggregated_metrics.csv") as partial:
        runs.table.to_csv(partial)


@unless_live
def write_answer(study: str, text: str) -> None:
    """`answer.md`: the study's answer in a paragraph, for whoever quotes it."""
    with replacing(paths.report_folder(study) / "answer.md") as partial:
        partial.write_text(text + "\n", encoding="utf-8")
