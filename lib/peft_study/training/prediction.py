"""Predictions of a trained model, and their metrics.

The metrics use our own `evaluate.Metric`, since `evaluate.load` contacts the hub.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from peft_study.errors import StudyError
from peft_study.statistics.calibration import confidence, log_odds, losses
from peft_study.statistics.scores import METRICS, score

Tell = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is to do


@dataclass(frozen=True)
class Predictions:
    """Predictions for a set of texts.

    ids: (n,) row numbers in the split. labels: (n,) 0, 1, ... logits: (n, classes) float32. seconds: the duration.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    seconds: float

    @property
    def preds(self) -> np.ndarray:
        """The most probable class of each text, shape (n,)."""
        return self.logits.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the predicted class, shape (n,)."""
        return confidence(self.logits)

    def metrics(self) -> dict[str, float]:
        """Every metric of `scores.METRICS` that is defined for these texts, `log_loss` (nats per text) and `n`."""
        odds = log_odds(self.logits[:, :2])[:, 0]
        found = _metrics().compute(predictions=self.preds, references=self.labels)
        found |= {metric: score(metric, self.labels, self.preds, odds) for metric in METRICS if metric not in found}
        return {
            **{metric: value for metric, value in found.items() if np.isfinite(value)},
            "log_loss": log_loss(self.logits, self.labels),
            "n": len(self.labels),
        }


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy of `logits` (n, classes) against `labels` (n,), in nats."""
    return float(np.mean(losses(logits, labels)))


def _metrics() -> Any:
    """Accuracy and macro F1, over the classes that occur among the labels, as one `evaluate` metric without a hub."""
    import datasets
    import evaluate
    from sklearn.metrics import accuracy_score, f1_score

    class _Classification(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> Any:
            kinds = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
            return evaluate.MetricInfo(description="accuracy and macro F1", citation="", features=kinds)

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            every = {"average": "macro", "labels": np.unique(references), "zero_division": 0.0}
            return {
                "accuracy": float(accuracy_score(references, predictions)),
                "macro_f1": float(f1_score(references, predictions, **every)),
            }

    return _Classification(keep_in_memory=True)


def predict(
    model: Any,
    examples: Sequence[dict[str, Any]],
    ids: Sequence[int],
    pad: int,
    batch_size: int | None = None,
    bf16: bool = False,
    tell: Tell = lambda what, done, total: None,
) -> Predictions:
    """Classify `examples` (dicts of `input_ids`, `labels` and any `token_type_ids`) with `model`, in the order given.

    Batches contain texts of similar length, padded with the id `pad` to their longest; `bf16` computes under autocast.
    `batch_size` defaults to `classified_at_once`, and is halved where memory is insufficient. Raises `StudyError` where
    a single text does not fit.
    """
    import torch

    from peft_study.training.memory import attempt

    device = next(model.parameters()).device
    longest = max((len(example["input_ids"]) for example in examples), default=1)
    batch_size = batch_size or classified_at_once(device.type, longest)
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]))
    logits = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    model.eval()
    start = perf_counter()
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        tell("Classifying texts", done := 0, len(order))
        while rows := order[done : done + batch_size]:
            inputs = pad_batch([examples[i] for i in rows], pad)
            if (computed := attempt(partial(_logits, model, inputs, device))) is not None:
                logits[rows] = computed
                tell("Classifying texts", done := done + len(rows), len(order))
            elif len(rows) > 1:
                batch_size = len(rows) // 2
            else:
                raise StudyError("insufficient memory to classify one text; lower max_length")
    labels = np.array([example["labels"] for example in examples], dtype=np.int64)
    return Predictions(np.asarray(ids, dtype=np.int64), labels, logits, perf_counter() - start)


def _logits(model: Any, inputs: dict[str, Any], device: Any) -> np.ndarray:
    """The logits of one batch, (texts, classes)."""
    return model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits.float().cpu().numpy()


def classified_at_once(device: str, tokens: int) -> int:
    """How many texts of a given length to classify at once.

    On a CPU the number that fits its caches, elsewhere one that keeps the device busy within the memory of training.
    """
    return 16 if device == "cpu" else max(1, min(128, 2**15 // tokens))


def pad_batch(examples: Sequence[Mapping[str, Any]], pad: int) -> dict[str, Any]:
    """`input_ids`, `attention_mask` and any `token_type_ids` of examples, (texts, longest) int64 tensors."""
    import torch

    shape = len(examples), max(len(example["input_ids"]) for example in examples)
    padding = {"input_ids": pad, "attention_mask": 0, "token_type_ids": 0}
    named = {"attention_mask", *examples[0]}
    batch = {name: torch.full(shape, number) for name, number in padding.items() if name in named}
    for place, example in enumerate(examples):
        for name, padded in batch.items():
            padded[place, : len(example["input_ids"])] = torch.as_tensor(example.get(name, 1))
    return batch
