"""The two ways side by side: the same reviews, the same steps, the obvious way and ours."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks import obvious
from peft_study import data, training
from peft_study.config import Variant
from peft_study.cost import flops


@dataclass(frozen=True)
class Work:
    """What was done in how many seconds: reviews, their tokens without padding, floating-point operations."""

    seconds: float
    reviews: float
    tokens: float
    flops: float


class Way(Protocol):
    """One way of fine-tuning, ready to be measured again and again."""

    def train(self, steps: int) -> Work:
        """Train for some steps; the work of a median step."""

    def predict(self) -> Work:
        """Classify the test reviews."""


class Ours:
    """The study's own code, as a run calls it."""

    def __init__(self, variant: Variant, corpus: data.Corpus) -> None:
        self._prepared = training.prepare(variant, corpus)
        self._flops = 0.0

    def train(self, steps: int) -> Work:
        """A median step of a fresh training, without the first."""
        variant = self._prepared.variant.model_copy(update={"max_steps": steps + 1})
        with tempfile.TemporaryDirectory() as folder:
            found = training.train(replace(self._prepared, variant=variant), Path(folder))
        tokens, self._flops = found.figures["tokens"] / (steps + 1), found.figures["flops_per_step"]
        return Work(float(np.median(found.step_seconds[1:])), variant.batch_size, tokens, self._flops)

    def predict(self) -> Work:
        """One pass over the test reviews."""
        found = self._prepared.predict("test")
        tokens = sum(len(example["input_ids"]) for example in self._prepared.examples["test"])
        return Work(found.seconds, len(found.ids), tokens, 0.0)


class Obvious:
    """The obvious way, see `obvious`."""

    def __init__(self, variant: Variant, corpus: data.Corpus) -> None:
        self._variant, self._model = variant, obvious.build(variant)
        train, _ = data.budget(corpus, variant)
        self._train, self._test = (
            obvious.tokenize(table["text"], table["label"], variant) for table in (train, corpus.test)
        )

    def train(self, steps: int) -> Work:
        """A median step of a fresh training, without the first."""
        timer = training.Timer()
        with tempfile.TemporaryDirectory() as folder:
            obvious.trainer(self._model, self._variant, folder, self._train, steps=steps + 1, callbacks=[timer]).train()
        size = self._variant.batch_size
        return Work(float(np.median(timer.steps[1:])), size, size * _mean_tokens(self._train), self._flops())

    def _flops(self) -> float:
        rows = self._train[: self._variant.batch_size]
        return flops(self._model, [{name: torch.tensor([row[name] for row in rows]) for name in rows[0]}])

    def predict(self) -> Work:
        """One pass over the test reviews."""
        with tempfile.TemporaryDirectory() as folder:
            made = obvious.trainer(self._model, self._variant, folder, self._train)
            start = perf_counter()
            made.predict(self._test)
            seconds = perf_counter() - start
        return Work(seconds, len(self._test), len(self._test) * _mean_tokens(self._test), 0.0)


WAYS: dict[str, type[Ours] | type[Obvious]] = {"obvious": Obvious, "ours": Ours}


def _mean_tokens(rows: list[dict[str, Any]]) -> float:
    return float(np.mean([sum(row["attention_mask"]) for row in rows]))


def matmul_peak(dtype: torch.dtype, size: int = 2048, tries: int = 3) -> float:
    """Floating-point operations per second of a large matrix product, the best of some tries."""
    one, other = (torch.randn(size, size).to(dtype) for _ in range(2))
    best = min(_seconds_of_product(one, other) for _ in range(tries))
    return 2 * size**3 / best


def _seconds_of_product(one: torch.Tensor, other: torch.Tensor) -> float:
    start = perf_counter()
    torch.mm(one, other)
    return perf_counter() - start
