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
from made_runs import make_runs
from made_studies import execute

from peft_study import paths
from peft_study.engine import steps

pytestmark = pytest.mark.slow
CLASSES, RUN = 150, "lora-n00390-s1"


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
    make_runs({"lora": 0.85}, count=60)
    (startup := tmp_path / "ipython" / "profile_default" / "startup").mkdir(parents=True)
    broken = "def scores(*_):\n    raise ValueError('no ink')\nfrom peft_study.report import figures\n"
    (startup / "broken.py").write_text(broken + "figures.scores = scores\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    steps.compare("made")
    steps.report("made")
    said = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("Left out: "))
    assert said.startswith("Left out: the figure “Test scores with 95% intervals") and said.endswith("no ink).")
    folder = paths.report_folder("made")
    page = seen(folder / "report.html")
    assert said in page and "and Figure (left out) the scores" in page and page.count("Left out") == 1
    text = " ".join(" ".join(page.extract_text() for page in pypdf.PdfReader(folder / "report.pdf").pages).split())
    assert "Left out: the figure" in text and "no ink" in text
    assert not (folder / "figures" / "fig-size.svg").exists() and (folder / "figures" / "fig-differences.svg").exists()
    cells = nbformat.read(paths.study_folder("made") / "compare.ipynb", as_version=4).cells
    assert not [output for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"]
