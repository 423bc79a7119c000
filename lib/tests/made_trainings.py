"""A run on tiny models as notebook 02 makes it: its reviews, tokenizer, examples and model, trained by `fit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from peft_study.data.datasets import model_folder
from peft_study.data.reviews import Reviews, load_reviews
from peft_study.data.tokenization import load_tokenizer, tokenize
from peft_study.study.variant import Variant
from peft_study.training.model import build
from peft_study.training.prediction import Predictions, predict
from peft_study.training.trainer import Training, fit, uses_bf16


@dataclass
class Run:
    """One run, ready to be trained."""

    variant: Variant
    reviews: Reviews
    tokenizer: Any
    examples: dict[str, list[dict[str, Any]]]
    model: Any

    def train(self, folder: Path, *callbacks: TrainerCallback) -> Training:
        return fit(self.model, self.tokenizer, self.examples, self.variant, folder, callbacks)

    def predict(self, part: str = "test") -> Predictions:
        ids, bf16 = self.reviews.parts[part]["id"], uses_bf16(self.variant.precision)
        return predict(self.model, self.examples[part], ids, self.tokenizer.pad_token_id, bf16=bf16)


def make_run(variant: Variant) -> Run:
    """The run of a variant, not yet trained."""
    reviews, tokenizer = load_reviews(variant), load_tokenizer(variant)
    model = build(model_folder(variant.model), variant, reviews.labels)
    return Run(variant, reviews, tokenizer, tokenize(reviews, tokenizer, variant), model)


def validation_losses(training: Training) -> dict[int, float]:
    """The validation loss by step."""
    return {entry["step"]: entry["eval_loss"] for entry in training.log if "eval_loss" in entry}


def training_losses(training: Training) -> list[float]:
    """The losses on training batches, as they were logged."""
    return [entry["loss"] for entry in training.log if "loss" in entry]
