"""`imdb-minilm`: its records, its report and what the README says of it, all in git, agree with one another."""

import json

import pandas as pd
import pytest

from peft_study import paths
from peft_study.analysis import accuracy, protocol
from peft_study.analysis.recommendation import swapped
from peft_study.records.read import Runs, load_runs
from peft_study.report.sentences import gap, word
from peft_study.text import UNKNOWN

REPORT = paths.CHECKOUT / "report" / "imdb-minilm"
README = (paths.CHECKOUT / "README.md").read_text(encoding="utf-8")
FILES = {"answer.md", "card.png", "explore.html", "figures", "numbers.json", "report.html", "report.pdf"}


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    """Those of `numbers.json`."""
    numbers = json.loads((REPORT / "numbers.json").read_text(encoding="utf-8"))
    return {name: pd.DataFrame(rows) for name, rows in numbers["tables"].items()}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.delenv("PEFT_STUDY_HOME")
    return load_runs("imdb-minilm")


def test_at_least_thirty_runs_of_one_commit_are_compared(runs: Runs) -> None:
    environments = runs.table[["environment.commit", "environment.dirty"]].drop_duplicates()
    assert len(runs.table) >= 30 and len(environments) == 1
    assert not environments["environment.dirty"].item() and "after" not in protocol.planned(runs)


def test_the_tables_of_the_report_are_computed_from_the_records(runs: Runs, tables: dict[str, pd.DataFrame]) -> None:
    for name, table in {"scores": accuracy.summary(runs), "differences": accuracy.against_baseline(runs)}.items():
        told = tables[name][list(table)].astype(table.dtypes)
        pd.testing.assert_frame_equal(told, table, check_exact=False, rtol=0, atol=1e-9)


def test_the_report_in_git_is_whole_and_at_most_three_megabytes() -> None:
    assert {path.name for path in REPORT.iterdir()} - {"runs"} == FILES
    assert sum(path.stat().st_size for path in REPORT.rglob("*") if "runs" not in path.parts[-2:]) < 3e6


def test_the_table_of_the_readme_holds_the_numbers_of_the_report(tables: dict[str, pd.DataFrame]) -> None:
    for size, scores in tables["scores"].groupby("train_size"):
        full = scores.set_index("strategy").loc["full", "accuracy"]
        tfidf = swapped(tables["against_tfidf"]).query("strategy == 'full'")
        tested = [tables["differences"].query("strategy == @name") for name in ("lora", "lora-all")]
        cells = [compared(table[table["train_size"] == size]) for table in (*tested, tfidf)]
        assert f"\n| {size:,} | {100 * full:.1f}% | {' | '.join(cells)} |\n" in README


def compared(table: pd.DataFrame) -> str:
    """A cell of that table: the difference of the only row, if any, with its interval and verdict."""
    cells = [f"{gap(row)} {word(row)}".removeprefix(f"{UNKNOWN} ") for row in table.to_dict("records")]
    return cells[0] if cells else UNKNOWN


def test_every_sentence_that_the_readme_quotes_is_of_the_answer() -> None:
    answer = (REPORT / "answer.md").read_text(encoding="utf-8")
    quoted = "\n".join(line.removeprefix(">").strip() for line in README.splitlines() if line.startswith(">"))
    paragraphs = [" ".join(paragraph.split()) for paragraph in quoted.split("\n\n")]
    assert quoted and all(paragraph in answer for paragraph in paragraphs)
