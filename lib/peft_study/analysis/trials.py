"""Does a strategy work on an encoder? Each is tried on a toy task, the way that a run goes: trained, saved, loaded.

The toy reviews are made here and learned in a few steps, so that a trial takes seconds and needs no data set.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from peft_study.data import reviews as data
from peft_study.data.datasets import model_folder
from peft_study.data.tokenization import load_tokenizer, tokenize
from peft_study.errors import StudyError, message, unknown
from peft_study.records import write as records
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training import model as models
from peft_study.training.model import ParameterCounts
from peft_study.training.prediction import log_loss, predict
from peft_study.training.trainer import fit

TOLERANCE = 1e-5  # between logits that differ by rounding alone
GENTLE = 1e-2  # the highest rate: those that are best on reviews may overshoot in the first steps on an untrained model
THINGS = ("the film", "the plot", "the scene", "the end")
VERDICTS = (("dull", "bad", "awful", "boring"), ("good", "fine", "superb", "moving"))  # negative, positive
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """What a trial measured.

    The differences are the largest between two models' logits: `start`, of the prepared model from the pretrained
    classifier; `reloaded`, of the model loaded again from the trained one; `merged`, of the merged one from it, None
    where it does not merge, and `unmerged` says why if it should. `losses` are the cross-entropies on the toy reviews
    before and after training, in nats; `flops` those of a step; `model_bytes` the size of the saved weights; `idle`
    counts the tensors that should train and did not change.
    """

    start: float
    losses: tuple[float, float]
    reloaded: float
    merged: float | None
    unmerged: str
    parameters: ParameterCounts
    model_bytes: int
    flops: float
    idle: int

    @property
    def faults(self) -> list[str]:
        """What is not as it must be of a strategy that works."""
        before, after = self.losses
        found = {
            f"the loss does not fall: {before:.4f} before training, {after:.4f} after": not after < before,
            f"{self.idle} of the tensors that should train did not change": self.idle > 0,
            "the head does not train": self.parameters.trainable_head < self.parameters.head,
            f"loaded again, its logits differ by {self.reloaded:.0e}": self.reloaded != 0,
            f"merged, its logits differ by {self.merged or 0:.0e}": not (self.merged or 0) <= TOLERANCE,
            f"it is said to merge, but {self.unmerged}": bool(self.unmerged),
        }
        return [fault for fault, holds in found.items() if holds]


@dataclass(frozen=True)
class Attempt:
    """The trial of one strategy: what it measured, or the error that stopped it. `seconds` is how long it took."""

    strategy: str
    measured: Measured | None
    error: str
    seconds: float

    @property
    def faults(self) -> list[str]:
        """Why the strategy does not work; empty where it does."""
        if self.measured is None:
            return [self.error]
        counts = self.measured.parameters
        alone = self.strategy != "head" and counts.trainable == counts.trainable_head
        return [*self.measured.faults, *(["nothing but the head trains"] if alone else [])]

    @property
    def label(self) -> str:
        """The strategy's name in prose."""
        return STRATEGIES[self.strategy].label

    def __str__(self) -> str:
        return f"{self.label:<22} {self.seconds:5.1f} s   {'; '.join(self.faults) or 'works'}"


def toy_variant(model: str, strategy: str = "full") -> Variant:
    """A variant that trains `model` on the toy reviews for a few steps, at the strategy's own rate or `GENTLE`."""
    pool = toy_corpus().pool
    return Variant(
        model=model,
        dataset="toy",
        ood_dataset=None,
        strategy=strategy,
        train_size=len(pool),
        validation_fraction=0.0,
        checkpoint="last",
        max_length=32,
        batch_size=len(pool),  # each step sees both classes evenly, so that the loss must fall
        epochs=12.0,
        precision="fp32",
        learning_rate=min(STRATEGIES[strategy].learning_rate, GENTLE),
    )


def toy_corpus() -> data.Corpus:
    """Thirty-two short reviews, half of each class, whose class shows in two of their words."""
    pairs = list(itertools.product(THINGS, range(4)))
    rows = [
        (f"{thing} was {words[i]} and {words[i - 1]}", label, rank)
        for rank, (thing, i) in enumerate(pairs)
        for label, words in enumerate(VERDICTS)
    ]
    pool = pd.DataFrame(rows, columns=["text", "label", "rank"]).rename_axis("id").reset_index()
    texts = {"train": pool["text"].tolist()}
    return data.Corpus(pool, pool.drop(columns="rank"), None, texts, True, len(pool), 0, "toy")


def every(model: str, strategies: Sequence[str] | None = None) -> Iterator[Attempt]:
    """Try full fine-tuning, by which the others are measured, then each of `strategies` (None: all) on `model`.

    Raises `StudyError` for an unknown strategy, and for a model that cannot be loaded or is of no known family.
    """
    names = list(dict.fromkeys(["full", *(STRATEGIES if strategies is None else strategies)]))
    if strange := [name for name in names if name not in STRATEGIES]:
        raise StudyError(f"strategies: {unknown('strategy', strange[0], STRATEGIES)}")
    corpus = toy_corpus()
    plain = plain_logits(model, corpus)
    for name in names:
        yield attempt(toy_variant(model, name), corpus, plain)


def plain_logits(model: str, corpus: data.Corpus) -> np.ndarray:
    """What the pretrained classifier, with its new head and nothing else, says of the training reviews: (n, 2)."""
    _, tokenizer, examples, plain = _prepared(toy_variant(model), corpus)
    return predict(plain, examples["train"], range(len(examples["train"])), tokenizer.pad_token_id).logits


def _prepared(variant: Variant, corpus: data.Corpus) -> tuple[data.Reviews, Any, dict[str, Any], Any]:
    """The reviews, the tokenizer, the examples and the model of a trial."""
    reviews, tokenizer = data.load_reviews(variant, corpus), load_tokenizer(variant)
    model = models.build(model_folder(variant.model), variant, reviews.labels)
    return reviews, tokenizer, tokenize(reviews, tokenizer, variant), model


def attempt(variant: Variant, corpus: data.Corpus, plain: np.ndarray) -> Attempt:
    """Try the variant's strategy; `plain` are the logits that `plain_logits` gives for its model."""
    start = perf_counter()
    measured, error = _tried(lambda: _measure(variant, corpus, plain))
    return Attempt(variant.strategy, measured, error, perf_counter() - start)


def _measure(variant: Variant, corpus: data.Corpus, plain: np.ndarray) -> Measured:
    """Prepare, train, save, load and merge, as a run and its users do."""
    reviews, tokenizer, examples, model = _prepared(variant, corpus)
    counts = models.count_parameters(model)

    def logits(other: Any) -> np.ndarray:
        device = next(model.parameters()).device
        return predict(other.to(device), examples["train"], reviews.train["id"], tokenizer.pad_token_id).logits

    before, labels = logits(model), reviews.train["label"].to_numpy()
    first = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    with tempfile.TemporaryDirectory() as scratch:
        figures = fit(model, tokenizer, examples, variant, Path(scratch)).figures
        after = logits(model)
        idle = [name for name, value in model.named_parameters() if name in first and value.equal(first[name])]
        size = records.save_model(Path(scratch, "model"), model, tokenizer, variant)
        again = logits(models.load(Path(scratch, "model"), reviews.labels))
    merged, unmerged = None, ""
    if STRATEGIES[variant.strategy].merges:
        merged, unmerged = _tried(lambda: _apart(logits(models.merged(model)), after))
    return Measured(
        start=_apart(before, plain),
        losses=(log_loss(before, labels), log_loss(after, labels)),
        reloaded=_apart(again, after),
        merged=merged,
        unmerged=unmerged,
        parameters=counts,
        model_bytes=size,
        flops=figures["flops_per_step"],
        idle=len(idle),
    )


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference between two models' logits."""
    return float(np.abs(one - other).max())


def _tried(work: Callable[[], T]) -> tuple[T | None, str]:
    """What `work` returns, or the line that says why it cannot.

    A strategy may be anybody's code, and may raise anything: one that is broken must not hide how the others fare.
    """
    try:
        return work(), ""
    except Exception as error:
        return None, message(type(error).__name__, str(error))
