"""What a report leaves beside itself: figures by label, sentences and tables as numbers, pages that its links find."""

import html
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from made_runs import PLANTED, REAL_RUNS, make_runs

from peft_study import paths
from peft_study.analysis.accuracy import against_baseline
from peft_study.analysis.slice_rules import write_slices
from peft_study.analysis.tfidf import Baseline, write_baseline
from peft_study.engine import steps
from peft_study.report import figures
from peft_study.report.numbers import Report, write_aggregate, write_answer
from peft_study.text import portion


@pytest.mark.parametrize("notebook", [steps.COMPARE, steps.RATES])
def test_every_figure_of_a_report_is_kept_under_its_label_and_every_sentence_under_a_name_of_its_own(
    notebook: str,
) -> None:
    cells = [cell for cell in nbformat.read(paths.NOTEBOOKS / notebook, as_version=4).cells if cell.cell_type == "code"]
    for cell in cells:
        label = [cell.id] if cell.id.startswith("fig-") else []
        assert re.findall(r"\bpaper\.figure\(\s*\"([\w-]+)\"", cell.source) == label
    names = [name for cell in cells for name in re.findall(r"\bpaper\.sentence\(\s*\"([\w-]+)\"", cell.source)]
    assert len(set(names)) == len(names) > 3 and "abstract" in names


@pytest.fixture
def numbers(real_home: Path) -> dict[str, Any]:
    text = (real_home / "report" / "tiny" / "numbers.json").read_text(encoding="utf-8")
    return dict(json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")))


def test_every_number_of_the_abstract_follows_from_the_tables(numbers: dict[str, Any]) -> None:
    told = re.sub(r"`[^`]*`", "", numbers["claims"]["abstract"])
    allowed = {f"{numbers['study']['margin']:g}", "0", "1", "3", "95"}  # margin; none; one seed, of three; 95 %
    tables = {name: pd.DataFrame(rows) for name, rows in numbers["tables"].items()}
    for table in tables.values():
        allowed |= {str(len(table))}
        if "verdict" in table:
            allowed |= {str(count) for count in table["verdict"].value_counts()}
        for value in table.select_dtypes("number").abs().to_numpy().ravel():
            allowed |= {f"{value:,.0f}", f"{value:.1f}", f"{100 * value:.1f}"} if np.isfinite(value) else set()
    costs = tables["costs"].set_index(["strategy", "train_size"])
    for column in ("parameters.trainable", "training.flops", "training.seconds"):
        full = costs.loc["full", column]
        shares = [value / full[size] for (_, size), value in costs[column].items() if size in full]
        allowed |= {portion(share).partition(" ")[0].removesuffix("%") for share in shares}
    found = re.findall(r"\d[\d,]*(?:\.\d+)?", told)
    assert len(found) > 8 and [number for number in found if number.rstrip(",") not in allowed] == []


def test_what_is_not_known_is_null_and_the_same_tables_give_the_same_bytes() -> None:
    runs = make_runs()
    table = pd.DataFrame({"a": [1.5, np.nan, np.inf], "who": ["ä", None, "b"], "ids": [["x"], [], ["y"]]})
    written = []
    for _ in range(2):
        paper = Report(runs.study)
        paper.sentence("late", "One.", "", "Two.")
        paper.sentence("early", "")
        paper.write(some=table, none=table.iloc[:0])
        written.append((paths.report_folder("made") / "numbers.json").read_text(encoding="utf-8"))
    assert written[0] == written[1] and "ä" in written[0]
    content = json.loads(written[0])
    assert content["claims"] == {"late": "One.\n\nTwo.", "early": ""} and list(content["claims"]) == ["late", "early"]
    assert content["tables"]["none"] == []
    assert [row["a"] for row in content["tables"]["some"]] == [1.5, None, None]
    assert content["study"] == {
        "name": "made", "title": "Made", "question": "Which is it?", "authors": [], "baseline": "full", "metric":
        "accuracy", "margin": 1.0,
    }  # fmt: skip


def test_looking_at_a_study_in_jupyterlab_changes_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in paths.home().rglob("*") if file.is_file()}

    def look() -> None:
        paper = Report(runs.study)
        assert paper.figure("fig-new", figures.figure()[0]) is not None
        paper.card("A finding.", against_baseline(runs))
        paper.write(some=runs.table)
        write_aggregate(runs)
        write_answer("made", "an answer")
        write_baseline("made", Baseline(np.arange(2), np.arange(2), {250: np.arange(2)}))
        write_slices("made", runs.table)

    runs = make_runs()
    (kept := paths.report_folder("made") / "figures" / "fig-old.svg").parent.mkdir(parents=True)
    kept.touch()
    before = files()
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    look()
    assert files() == before
    monkeypatch.delenv("JPY_SESSION_NAME")
    look()
    assert len(files()) == len(before) - 1 + 8 and not kept.exists()


def test_every_figure_that_the_report_shows_is_there_in_both_forms(real_home: Path, finished: Path) -> None:
    notebook = nbformat.read(finished / "compare.ipynb", as_version=4)
    shown = [
        cell.id
        for cell in notebook.cells
        if any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    kept = {file.name for file in (real_home / "report" / "tiny" / "figures").iterdir()}
    assert kept == {f"{label}.{kind}" for label in shown for kind in ("pdf", "svg")} and len(shown) >= 4


def test_every_link_of_the_report_and_its_pages_leads_to_a_file(real_home: Path) -> None:
    folder = real_home / "report" / "tiny"
    pages = [folder / "report.html", folder / "explore.html", *(folder / "runs").iterdir()]
    assert {page.stem for page in pages[2:]} == set(REAL_RUNS), "a page for every run that is done"
    linked = set()
    for page in pages:
        for link in re.findall(r'href="([^"#:]+)"', page.read_text(encoding="utf-8")):
            assert (page.parent / html.unescape(link)).is_file(), f"{link} in {page.name}"
            linked.add(link)
    assert {f"runs/{run_id}.html" for run_id in REAL_RUNS} <= linked


def test_markup_in_a_review_is_text_on_every_page(real_home: Path) -> None:
    folder = real_home / "report" / "tiny"
    seen = {}
    for page in [folder / "report.html", *(folder / "runs").iterdir()]:
        text = page.read_text(encoding="utf-8")
        assert text.count("<script") == 1, "the page's own"
        seen[page.stem] = PLANTED in html.unescape(re.sub(r"<[^>]*>", "", text))
    assert seen.pop("report") and any(seen.values())


def test_a_notebook_that_cannot_be_rendered_has_a_page_that_says_why_and_keeps_no_other_from_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = make_runs()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Explored\n\nWith words.")])
    folder = paths.study_folder("made")
    nbformat.write(notebook, folder / "explore.ipynb")
    first, second, *others = runs.table.index
    nbformat.write(notebook, folder / first / "train.ipynb")
    for run_id in others:
        (folder / run_id / "train.ipynb").unlink()
    steps.pages("made")
    assert capsys.readouterr().err.startswith(f"error: {folder / second / 'train.ipynb'} cannot be shown: ")
    made = paths.report_folder("made")
    assert "With words." in (made / "explore.html").read_text(encoding="utf-8")
    assert "With words." in (made / "runs" / f"{first}.html").read_text(encoding="utf-8")
    said = (made / "runs" / f"{second}.html").read_text(encoding="utf-8")
    assert f"{second}/train.ipynb cannot be shown" in said and "With words." not in said
    assert {page.stem for page in (made / "runs").iterdir()} == {first, second}
