"""Expectations: those that were written before training, checked by the tests of the comparison."""

import pandas as pd
import pytest
from made_runs import EDGES, MATRIX, make_runs, make_words

from peft_study.analysis import accuracy, expectations
from peft_study.analysis.costs import costs
from peft_study.analysis.tfidf import Baseline
from peft_study.records.read import Runs


def outcomes(runs: Runs, tfidf: Baseline | None = None) -> pd.DataFrame:
    """The checked expectations of some runs."""
    summary = accuracy.summary(runs)
    ood = accuracy.summary(runs, part="ood_") if accuracy.has_ood(runs) else summary.iloc[:0]
    against, versus = accuracy.against_baseline(runs), accuracy.against_tfidf(runs, tfidf)
    return expectations.checked(expectations.Evidence(runs, summary, against, costs(runs), versus, ood))


@pytest.mark.parametrize("edge", EDGES)
def test_the_checked_expectations_are_those_that_were_written_before_and_one_seed_decides_none(edge: str) -> None:
    runs = EDGES[edge]()
    checked = outcomes(runs, make_words())
    assert checked["expectation"].tolist() == expectations.listed(runs.study)
    allowed = {"yes", "no", "undecided"} if runs.table["seed"].nunique() == 3 else {"undecided"}
    assert set(checked["held"]) <= allowed and "nan" not in checked.to_csv()


LESS, GAIN, TIME, TFIDF, OOD = "full fine-tuning", "larger budget", "training time", "TF-IDF", "own domain"


@pytest.mark.parametrize(
    ("expected", "accuracies", "held"),
    [
        (LESS, {"lora": 0.8}, "yes"),
        (LESS, {"lora": 0.97}, "no"),
        (LESS, {"lora-n00250": 0.8}, "undecided"),
        (GAIN, {"n00250": 0.75}, "yes"),
        (GAIN, {"n01000": 0.75}, "no"),
        (GAIN, {}, "undecided"),
        (TIME, {}, "yes"),
        (TFIDF, {"": 0.85}, "yes"),
        (TFIDF, {"lora-n00250": 0.6}, "no"),
        (TFIDF, {"": 0.72}, "undecided"),
        (OOD, {}, "yes"),
        (OOD, {"full": 0.5}, "no"),
        (OOD, {"full": 0.68}, "undecided"),
    ],
)
def test_an_expectation_is_held_or_not_by_tests_alone(expected: str, accuracies: dict[str, float], held: str) -> None:
    found = outcomes(make_runs(accuracies, matrix=MATRIX | {"seed": [1, 2, 3]}), make_words())
    assert found.loc[found["expectation"].str.contains(expected), "held"].item() == held


def test_an_expectation_that_does_not_apply_to_a_study_is_left_out() -> None:
    runs = make_runs(baseline="lora", ood=None, defaults={"ood_dataset": None}, matrix=MATRIX | {"train_size": [250]})
    assert outcomes(runs)["expectation"].tolist() == [
        "Every fine-tuned model is better than TF-IDF at the same budget."
    ]
    assert outcomes(runs)["held"].tolist() == ["undecided"]
