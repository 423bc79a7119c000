"""Macro F1 is one number: in a run's metrics, its record, its model card and the report, whoever wrote the record."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_foreign import edit, replace_arrays, write_bare
from made_runs import make_study
from sklearn.metrics import f1_score

from peft_study.analysis.accuracy import summary
from peft_study.records import model_card
from peft_study.records.read import load_runs
from peft_study.training.prediction import Predictions

RUN = "full-n00250-s1"
QUICK = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
CLASS = st.integers(0, 8)


@QUICK
@given(st.lists(st.tuples(CLASS, CLASS), min_size=1, max_size=40), st.booleans())
@example([(0, 0)], True)  # one class, one review
@example([(1, 1), (1, 8), (1, 1)], False)  # one class, and the largest is predicted alone
@example([(0, 0), (7, 0), (8, 8)], True)  # classes that no review has
def test_macro_f1_is_the_same_wherever_it_stands(pairs: list[tuple[int, int]], foreign: bool) -> None:
    labels, preds = np.array(pairs).T
    expected = f1_score(labels, preds, labels=np.unique(labels), average="macro", zero_division=0)
    logits = np.full((len(labels), 10), -1.0, dtype=np.float32)
    logits[np.arange(len(labels)), preds] = 2.0
    trained = Predictions(np.arange(len(labels)), labels, logits, 0.0).metrics()
    assert trained["macro_f1"] == pytest.approx(expected)

    make_study(matrix={"strategy": ["full"], "train_size": [250], "seed": [1]})
    write_bare(RUN, count=len(labels))
    replace_arrays(RUN, preds=preds, labels=labels, logits=None if foreign else logits)
    edit(RUN, lambda blocks: blocks.update(evaluation={"test": {"macro_f1": 0.123} if foreign else trained}))
    runs = load_runs("made")
    assert not runs.missing, json.dumps(runs.missing)
    scores = summary(runs)
    assert runs.table.loc[RUN, "test.macro_f1"] == pytest.approx(expected), (
        "another program's own figure does not count"
    )
    assert scores["macro_f1"].item() == pytest.approx(expected)
    card = model_card._scores("test", runs.arrays(RUN))[3]
    assert card == f"{100 * expected:.1f}"
