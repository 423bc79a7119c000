"""Predictions do not depend on how they are batched, and the metrics are the field's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn import metrics

from peft_study.errors import StudyError
from peft_study.study.variant import Variant
from peft_study.training.prediction import Predictions, log_loss, predict

QUICK = settings(deadline=None, max_examples=25)
# as large as scikit-learn does not clip
LOGITS = arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(2, 5)), elements=st.floats(-10, 10, width=32))


def labelled(logits: np.ndarray, seed: int) -> Predictions:
    """These logits with random labels."""
    labels = np.random.default_rng(seed).integers(0, logits.shape[1], len(logits))
    return Predictions(np.arange(len(logits)), labels, logits, 0.0)


@QUICK
@given(LOGITS, st.integers(0, 99))
def test_the_metrics_are_those_of_scikit_learn(logits: np.ndarray, seed: int) -> None:
    made = labelled(logits, seed)
    found = made.metrics()
    assert found["n"] == len(logits)
    assert found["accuracy"] == metrics.accuracy_score(made.labels, made.preds)
    occurring = {"labels": np.unique(made.labels), "average": "macro", "zero_division": 0}
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(made.labels, made.preds, **occurring))
    assert found["balanced_accuracy"] == pytest.approx(metrics.recall_score(made.labels, made.preds, **occurring))
    assert ("auc" in found) == (set(made.labels) == {0, 1})
    exact = softmax(logits.astype(np.float64), axis=1)
    assert found["log_loss"] == pytest.approx(
        metrics.log_loss(made.labels, exact, labels=range(logits.shape[1])), abs=1e-6
    )


def test_log_loss_of_a_sure_and_wrong_prediction_is_finite() -> None:
    sure = np.array([[300.0, -300.0]], dtype=np.float32)
    assert log_loss(sure, np.array([1])) == pytest.approx(600)
    assert log_loss(sure, np.array([0])) == pytest.approx(0)


def test_metrics_ask_no_network_and_leave_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    from evaluate import config

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    monkeypatch.setattr(config, "HF_METRICS_CACHE", str(tmp_path))
    assert labelled(np.zeros((4, 2), dtype=np.float32), 0).metrics()["n"] == 4
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.fixture(scope="module")
def model(tiny: dict[str, Path]) -> Any:
    """A tiny classifier with a random head, and much dropout, which predictions leave out."""
    from peft_study.training.model import build

    return build(str(tiny["bert"]), Variant(model=str(tiny["bert"]), strategy="full", dropout=0.5), ("no", "yes"))


def random_examples(count: int, seed: int) -> list[dict[str, Any]]:
    """Random token ids of random lengths."""
    rng = np.random.default_rng(seed)
    return [{"input_ids": rng.integers(5, 60, rng.integers(2, 40)).tolist(), "labels": i % 2} for i in range(count)]


@settings(deadline=None, max_examples=10)
@given(batch_size=st.integers(1, 30), seed=st.integers(0, 99), count=st.integers(1, 24))
def test_predictions_depend_neither_on_batches_nor_on_order(model: Any, batch_size: int, seed: int, count: int) -> None:
    examples, ids = random_examples(count, seed), np.arange(100, 100 + count)
    found = predict(model, examples, ids, pad=0, batch_size=batch_size)
    assert found.ids.tolist() == ids.tolist()
    assert found.labels.tolist() == [example["labels"] for example in examples]
    one_by_one = np.concatenate([predict(model, [example], [0], pad=0).logits for example in examples])
    np.testing.assert_allclose(found.logits, one_by_one, atol=1e-5)
    order = np.random.default_rng(seed).permutation(count)
    shuffled = predict(model, [examples[i] for i in order], ids[order], pad=0, batch_size=batch_size)
    np.testing.assert_allclose(shuffled.logits, found.logits[order], atol=1e-5)


def test_where_the_memory_is_short_fewer_reviews_are_classified_at_once(model: Any) -> None:
    examples, seen = random_examples(20, 3), []

    def full(_: Any, inputs: Any, values: dict[str, Any]) -> None:
        seen.append(len(values["input_ids"]))
        if seen[-1] > bears:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    expected = predict(model, examples, range(20), pad=0).logits
    hook = model.register_forward_pre_hook(full, with_kwargs=True)
    try:
        bears = 5
        np.testing.assert_allclose(predict(model, examples, range(20), pad=0).logits, expected, atol=1e-5)
        assert seen == [16, 8, 4, 4, 4, 4, 4]
        bears = 0
        with pytest.raises(StudyError, match="classify one text; lower max_length"):
            predict(model, examples, range(20), pad=0)
    finally:
        hook.remove()


def test_bf16_predicts_nearly_the_same_and_no_reviews_give_no_predictions(model: Any) -> None:
    assert predict(model, [], [], pad=0).logits.shape == (0, 2)
    examples = random_examples(20, 0)
    exact, coarse = (predict(model, examples, range(20), pad=0, bf16=bf16).logits for bf16 in (False, True))
    assert coarse.dtype == np.float32
    np.testing.assert_allclose(exact, coarse, atol=0.1)
    assert not np.array_equal(exact, coarse)
