"""Expectations: those that were written before training, checked by what the runs show."""

import pandas as pd
import pytest
from made_runs import EDGES, make_runs, make_words

from peft_study.analysis import accuracy, expectations
from peft_study.analysis.costs import costs
from peft_study.analysis.tfidf import Baseline
from peft_study.records.read import Runs

pytestmark = pytest.mark.usefixtures("cheap_garbage")


def outcomes(runs: Runs, words: Baseline | None = None) -> pd.DataFrame:
    """The checked expectations of some runs."""
    summary = accuracy.summary(runs)
    ood = accuracy.summary(runs, part="ood_") if accuracy.has_ood(runs) else summary.iloc[:0]
    against, versus = accuracy.against_baseline(runs), accuracy.against_words(runs, words)
    return expectations.checked(expectations.Evidence(runs, summary, against, costs(runs), versus, ood))


@pytest.mark.parametrize("edge", EDGES)
def test_the_checked_expectations_are_those_that_were_written_before(edge: str) -> None:
    checked = outcomes(EDGES[edge](), make_words())
    pd.testing.assert_frame_equal(checked[["expectation"]], expectations.listed())
    assert set(checked["held"]) <= {"yes", "no", "undetermined"} and "nan" not in checked.to_csv()


@pytest.mark.parametrize(
    ("number", "runs", "held"),
    [
        (1, {"lora": 0.85}, "yes"),
        (1, {"lora": 0.97}, "no"),
        (1, "no run of the baseline", "undetermined"),
        (1, "another baseline", "undetermined"),
        (2, {"n00250": 0.8}, "yes"),
        (2, {"n01000": 0.8}, "no"),
        (2, {}, "undetermined"),
        (2, "a single size", "undetermined"),
        (3, {}, "yes"),
        (3, "only runs of the baseline", "undetermined"),
        (4, {"": 0.85}, "yes"),
        (4, {"lora-n00250": 0.6}, "no"),
        (5, {}, "yes"),
        (5, {"full": 0.5}, "no"),
        (5, {"full": 0.68}, "undetermined"),
        (5, "no other reviews", "undetermined"),
    ],
)
def test_an_expectation_holds_where_the_numbers_say_so_and_not_without_evidence(
    number: int, runs: str | dict[str, float], held: str
) -> None:
    evidence = EDGES[runs]() if isinstance(runs, str) else make_runs(runs)
    assert outcomes(evidence, make_words()).loc[number, "held"] == held
    if number == 4:
        assert outcomes(evidence).loc[4, "held"] == "undetermined", "no bag of words to beat"
