"""The two ways side by side: the same reviews, the same steps, the obvious way and ours."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Protocol

import numpy as np
import torch
from transformers import TrainerCallback

from benchmarks import obvious
from peft_study.data import reviews as data
from peft_study.study.variant import Variant
from peft_study.training import trainer as training
from peft_study.training.cost import flops, now
from peft_study.training.prediction import classified_at_once


@dataclass(frozen=True)
class Work:
    """What was done in how many seconds: reviews, their tokens without padding, floating-point operations.

    `padding` is the share of the positions that hold no token of a review.
    """

    seconds: float
    reviews: int
    tokens: float
    flops: float
    padding: float


def clock() -> float:
    """Seconds of the processor, over the threads at work on it: the time that other programs take does not count.

    On a GPU it is the time by the clock, once the GPU has finished.
    """
    return now() if torch.cuda.is_available() else process_time() / torch.get_num_threads()


class Timer(TrainerCallback):  # type: ignore[misc]
    """How long the optimizer steps of a training take, the same for both ways."""

    def __init__(self) -> None:
        self._steps: list[float] = []
        self._begin = 0.0

    @property
    def median(self) -> float:
        """Seconds of a median step, without the first, which is slower."""
        return median(self._steps[1:])

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Look at the clock."""
        self._begin = clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Look at it again."""
        self._steps.append(clock() - self._begin)


class Way(Protocol):
    """One way of fine-tuning, ready to be measured again and again."""

    def train(self, steps: int) -> Work:
        """Train for some steps; the work of a median step, without the first."""

    def predict(self) -> Work:
        """Classify the test reviews once."""


class Ours:
    """The study's own code, as a run calls it."""

    def __init__(self, variant: Variant, corpus: data.Corpus) -> None:
        self._prepared = training.prepare(variant, corpus)

    def train(self, steps: int) -> Work:
        """A training that goes on with the weights of the last one."""
        variant = self._prepared.variant.model_copy(update={"max_steps": steps + 1})
        timer = Timer()
        with tempfile.TemporaryDirectory() as folder:
            found = training.train(replace(self._prepared, variant=variant), Path(folder), [timer])
        tokens, operations, padding = (found.figures[name] for name in ("tokens", "flops_per_step", "padding_share"))
        return Work(timer.median, variant.batch_size, tokens / (steps + 1), operations, padding)

    def predict(self) -> Work:
        """One pass, as at the end of a run."""
        start = clock()
        self._prepared.predict("test")
        seconds = clock() - start
        lengths = [len(example["input_ids"]) for example in self._prepared.examples["test"]]
        size = classified_at_once(next(self._prepared.model.parameters()).device.type, max(lengths))
        operations = _forward(self._prepared.model, lengths, size)
        return Work(seconds, len(lengths), sum(lengths), operations, _padding(lengths, size))


class Obvious:
    """The obvious way, see `obvious`."""

    def __init__(self, variant: Variant, corpus: data.Corpus) -> None:
        self._variant, self._model = variant, obvious.build(variant)
        train, _ = data.budget(corpus, variant)
        self._train, self._test = (
            obvious.tokenize(table["text"], table["label"], variant) for table in (train, corpus.test)
        )

    def train(self, steps: int) -> Work:
        """A training that goes on with the weights of the last one."""
        timer, size = Timer(), self._variant.batch_size
        with tempfile.TemporaryDirectory() as folder:
            obvious.trainer(self._model, self._variant, folder, self._train, steps=steps + 1, callbacks=[timer]).train()
        rows, share = self._train[:size], _share(self._train)
        operations = flops(self._model, [{name: torch.tensor([row[name] for row in rows]) for name in rows[0]}])
        tokens = size * self._variant.max_length * share
        return Work(timer.median, size, tokens, operations, 1 - share)

    def predict(self) -> Work:
        """One pass of the Trainer's `predict`."""
        with tempfile.TemporaryDirectory() as folder:
            made = obvious.trainer(self._model, self._variant, folder, self._train)
            start = clock()
            made.predict(self._test)
            seconds = clock() - start
        positions, share = len(self._test) * self._variant.max_length, _share(self._test)
        operations = _forward(self._model, [self._variant.max_length] * len(self._test), len(self._test))
        return Work(seconds, len(self._test), positions * share, operations, 1 - share)


WAYS: dict[str, type[Ours] | type[Obvious]] = {"obvious": Obvious, "ours": Ours}


def _share(rows: Sequence[dict[str, Any]]) -> float:
    """The share of the positions of rows of one length that hold a token."""
    return float(np.mean([np.mean(row["attention_mask"]) for row in rows]))


def _batches(lengths: Sequence[int], size: int) -> list[np.ndarray]:
    """The lengths, by size, in batches."""
    ordered = np.sort(lengths)
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def _padding(lengths: Sequence[int], size: int) -> float:
    """The share of padding where every batch of reviews of like length is as long as its longest."""
    return 1 - sum(lengths) / sum(int(batch.max()) * len(batch) for batch in _batches(lengths, size))


def _forward(model: torch.nn.Module, lengths: Sequence[int], size: int) -> float:
    """Floating-point operations of classifying reviews of these lengths."""
    batches = [torch.ones(len(batch), int(batch.max()), dtype=torch.long) for batch in _batches(lengths, size)]
    return flops(model, [{"input_ids": ids} for ids in batches]) * len(batches)


def matmul_peak(dtype: torch.dtype, tries: int = 3) -> float:
    """Floating-point operations per second of a large matrix product, the best of some tries."""
    device, size = ("cuda", 8192) if torch.cuda.is_available() else ("cpu", 2048)
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = min(_seconds_of_product(one, other) for _ in range(tries))
    return 2 * size**3 / best


def _seconds_of_product(one: torch.Tensor, other: torch.Tensor) -> float:
    start = clock()
    torch.mm(one, other)
    return clock() - start
