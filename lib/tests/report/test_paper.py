"""The comparison as a paper: its answer on page one, four pages before the appendix, at most six tables."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pypdf
import pytest
from made_runs import make_runs, make_words

from peft_study import paths
from peft_study.analysis.slice_rules import SLICES, write_slices
from peft_study.analysis.tfidf import write_baseline
from peft_study.engine import steps

pytestmark = pytest.mark.slow
CONTENT = {
    "title": "Two strategies",
    "question": "Which one?",
    "authors": ["Ada Lovelace", "Charles Babbage"],
    "matrix": {"strategy": ["full", "lora"], "train_size": [500, 2000], "seed": [1, 2, 3]},
}


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> pypdf.PdfReader:
    """The PDF of a made study of three seeds, with slices, validation and TF-IDF."""
    rng, ids = np.random.default_rng(0), np.r_[:400, :100]
    slices = pd.DataFrame({"part": ["test"] * 400 + ["ood"] * 100, "id": ids, "label": ids % 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_STUDY_HOME", str(tmp_path_factory.mktemp("paper")))
        make_runs({"lora": 0.86, "n00500": 0.84, "s2": 0.85}, loss={"": 0.4}, validation=0.86, **CONTENT)
        write_slices("made", slices.assign(**{name: rng.random(500) < 0.5 for name in SLICES}))
        write_baseline("made", make_words((500, 2000)))
        steps.compare("made")
        steps.report("made")
        return pypdf.PdfReader(paths.report_folder("made") / "report.pdf")


def structure(node: Any, counts: Counter[str]) -> Counter[str]:
    """How many elements of each kind the tagged PDF has."""
    node = node.get_object()
    if isinstance(node, dict):
        counts[str(node.get("/S"))] += 1
    for child in node if isinstance(node, list) else [node["/K"]] if isinstance(node, dict) and "/K" in node else ():
        structure(child, counts)
    return counts


def test_it_has_at_most_four_pages_before_the_appendix_and_six_tables(pdf: pypdf.PdfReader) -> None:
    pages = {str(entry.title): pdf.get_destination_page_number(entry) for entry in pdf.outline}  # type: ignore[union-attr]
    appendix = next(page for title, page in pages.items() if title.startswith("A "))
    assert 2 <= appendix <= 4 and appendix > pages["5 Limitations"]
    assert 4 <= structure(pdf.trailer["/Root"]["/StructTreeRoot"], Counter())["/Table"] <= 6


def test_page_one_says_who_asks_what_and_what_to_choose_with_how_many_labels(pdf: pypdf.PdfReader) -> None:
    text = " ".join(pdf.pages[0].extract_text().split())
    assert "Two strategies" in text and "Which one?" in text and "Ada Lovelace" in text and "Charles Babbage" in text
    assert re.search(r"With (500|2,000) labels, choose ", text) or "With 500 and 2,000 labels, choose " in text
    answer = text[text.index("what would settle it") : text.index("Set-up")]
    assert "500" in answer and "2,000" in answer and "against" in answer
