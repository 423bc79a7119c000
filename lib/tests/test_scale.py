"""A study of 150 classes, most of them rare, is explored, trained and reported like one of two."""

import html
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pypdf
import pytest
from made_folders import save_reviews
from made_runs import make_study
from made_studies import execute
from nbformat import v4

from peft_study import paths
from peft_study.engine import steps

CLASSES, RUN = 150, "lora-n00390-s1"
DRAWN = 'from IPython.display import SVG\nSVG(\'<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt"/>\')'


@pytest.fixture(scope="module")
def home(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where 01, 02 and 03 have run without validation; of some classes no text is tested, and in the smaller
    budget no word occurs twice."""
    root = tmp_path_factory.mktemp("scale")
    kinds = np.append(np.arange(4 * (CLASSES - 1)) % (CLASSES - 1), CLASSES - 1)  # of the last class there is one text
    texts = [f"intent{kind:03} number{place}" for place, kind in enumerate(kinds)]
    save_reviews(
        root / "intents", train=pd.DataFrame({"text": texts, "label": [f"intent {kind:03}" for kind in kinds]})
    )
    study = {
        "title": "Intents",
        "question": "Which intent is it?",
        "baseline": "lora",
        "defaults": {"model": str(tiny["distilbert"]), "dataset": "intents", "test_size": 100, "max_length": 16}
        | {"precision": "fp32", "epochs": 2.0, "validation_fraction": 0},
        "matrix": {"strategy": ["lora"], "train_size": [140, 390], "seed": [1]},
    }
    execute(root, "intents", study, [RUN])
    return root


def seen(page: Path) -> str:
    """What a reader sees of a page."""
    hidden = r"<(script|style|details|svg)\b.*?</\1>|<[^>]*>"
    return " ".join(html.unescape(re.sub(hidden, " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)).split())


@pytest.mark.slow
def test_the_report_of_many_classes_is_as_long_as_another_and_leaves_out_only_the_budget_without_a_baseline(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFT_STUDY_HOME", str(home))
    report = home / "report" / "intents"
    assert len(pypdf.PdfReader(report / "report.pdf").pages) <= 8
    explored, compared, run = (seen(report / name) for name in ("explore.html", "report.html", f"runs/{RUN}.html"))
    assert (
        "intent 000, intent 001," in compared and "intent 011 and 138 more" in compared and "intent 149" not in compared
    )
    assert explored.count("intent 0") < 60 and "Left out: TF-IDF with 140 labels (no word" in explored
    for page in (explored, compared, run):
        assert re.findall(r"[Ll]eft.out: (?!TF-IDF with 140)[^.]*", page) == []
    card = (home / "runs" / "intents" / RUN / "model" / "README.md").read_text(encoding="utf-8")
    assert "into 150 classes (intent 000\\, intent 001" in card and card.count("intent 149") == 1, "in the code alone"


def test_a_figure_that_cannot_be_drawn_is_named_and_the_study_ends_with_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study, may_fail = make_study(), {"tags": ["raises-exception"]}
    cells = [
        v4.new_markdown_cell("# A title\n\n[The figure](#cell-id=fig-size) and [this](#cell-id=fig-more) show scores."),
        v4.new_code_cell("study: str = ''", metadata={"tags": ["parameters"]}),
        v4.new_code_cell("raise ValueError('no ink')", id="fig-size", metadata=may_fail),
        v4.new_markdown_cell("Test scores. With intervals.", metadata={"tags": ["caption"]}),
        v4.new_code_cell(DRAWN, id="fig-more", metadata=may_fail),
        v4.new_markdown_cell("Differences.", metadata={"tags": ["caption"]}),
    ]
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / steps.COMPARE)
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    steps.compare(study.name)
    steps.report(study.name)
    said = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("Left out: "))
    assert said == "Left out: the figure “Test scores” (ValueError: no ink)."
    folder = paths.report_folder(study.name)
    page = seen(folder / "report.html")
    assert said in page and "Figure (left out) and Figure 1 show" in page and page.count("Left out") == 1
    text = " ".join(" ".join(page.extract_text() for page in pypdf.PdfReader(folder / "report.pdf").pages).split())
    assert "Left out: the figure" in text and "no ink" in text and "Figure 1. Differences" in text
    cells = nbformat.read(paths.study_folder(study.name) / "compare.ipynb", as_version=4).cells
    assert not [output for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"]
