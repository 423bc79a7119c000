"""What others reported of a study, beside what its own runs reached: read strictly, set side by side, shown as such."""

import re
from pathlib import Path

import pandas as pd
import pytest
from made_runs import make_runs

from peft_study import paths
from peft_study.analysis import reference
from peft_study.analysis.accuracy import summary
from peft_study.analysis.costs import costs
from peft_study.errors import StudyError
from peft_study.records.read import Runs

HEAD = "# source: a study ([Ada 2025](https://example.org))\n# protocol: one seed was run\n"
ROWS = "strategy,train_size,accuracy,macro_f1,seconds,trainable\nfull,250,0.9,0.89,100,1000\nlora,1000,0.5,,,\n"


def write(text: str) -> Path:
    """Writes the reference of the study `made`."""
    file = paths.study_folder("made") / reference.FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def beside(runs: Runs) -> tuple[reference.Reference | None, pd.DataFrame]:
    found = reference.load_reference(runs.study.name)
    return found, reference.beside(found, summary(runs), costs(runs), runs.study.metric)


def test_every_reported_variant_that_ran_stands_beside_its_run() -> None:
    runs = make_runs({"full": 0.91, "lora": 0.85})
    write(HEAD + ROWS + "head,250,0.8,,,\n")
    _, table = beside(runs)
    assert list(zip(table["strategy"], table["train_size"], strict=True)) == [("full", 250), ("lora", 1000)]
    assert table["difference"].tolist() == pytest.approx([1.0, 35.0])


def test_several_seeds_are_one_row_and_without_a_reference_there_is_nothing_to_compare() -> None:
    matrix = {"strategy": ["full", "lora"], "train_size": [250], "seed": [1, 2], "epochs": [4, 16]}
    runs = make_runs(matrix=matrix)
    assert beside(runs)[0] is None and beside(runs)[1].empty
    write(HEAD + ROWS)
    table = beside(runs)[1]
    assert table["epochs"].tolist() == [4, 16]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROWS, r"does not say its source; begin it with a line `# source: \.\.\.`"),
        (HEAD + ROWS + "lroa,250,0.9,,,\n", r"line 6: unknown strategy 'lroa'; did you mean 'lora'"),
        (HEAD + ROWS + "lora,250,90,,,\n", r"line 6: accuracy = '90': input should be less than or equal to 1"),
        (HEAD + ROWS + "\n# a note\nlora,250,nan,,,\n", r"line 8: accuracy = 'nan': input should be a finite number"),
        (HEAD + ROWS + "lora,250,0.9,,,,7\n", r"line 6: unknown key 'too many'"),
        (HEAD + ROWS.replace("seconds", "hours"), r"line 4: unknown key 'hours'.* allowed: strategy, train_size,"),
        (HEAD + ROWS + 'lora,"250,0.9,,,\n', "is not readable as CSV"),
        (HEAD + ROWS + "full,250,0.8,,,\n", "has two rows for full with train_size 250; remove one of them"),
    ],
)
def test_a_fault_of_the_file_is_one_error_with_its_line(text: str, said: str) -> None:
    file = write(text)
    with pytest.raises(StudyError, match=f"(?s){re.escape(str(file))}.*{said}"):
        reference.load_reference("made")


def test_what_the_seed_study_reported_is_set_beside_its_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEFT_STUDY_HOME")
    found = reference.load_reference("imdb")
    assert found is not None and "yjh-jy 2025" in found.source
    accuracy = found.table.set_index(["strategy", "train_size"])["accuracy"]
    assert len(accuracy) == 6 and accuracy["full", 25000] == 0.91636 and accuracy["lora", 5000] == 0.86892
