"""Training and inference speed of the study relative to a plain implementation: `python lib/benchmark.py`.

The plain implementation follows the documentation: float32, every text padded to `max_length`, batches in random order,
the Trainer's defaults. In each round both train on the same texts for one epoch and classify as many, in turns, so that
other load slows both; ratios are taken within a round, their median and range over rounds. The first round warms up and
is excluded. Only optimizer steps are timed.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import get_peft_model
from transformers import AutoModelForSequenceClassification, PrinterCallback, Trainer, TrainingArguments, set_seed

from peft_study.data.datasets import model_folder
from peft_study.data.reviews import Reviews, load_reviews
from peft_study.data.tokenization import load_tokenizer, tokenize
from peft_study.strategies.table import label
from peft_study.study.variant import Variant
from peft_study.training.callbacks import Timer
from peft_study.training.cost import now
from peft_study.training.model import build, peft_config, quiet, set_trainable
from peft_study.training.prediction import predict
from peft_study.training.trainer import fit, uses_bf16

STRATEGIES = ("full", "lora", "lora-all")
Key = tuple[str, str, str]  # task, strategy, way


class Ours:
    """The study's own functions, as a run calls them."""

    def __init__(self, variant: Variant, reviews: Reviews) -> None:
        self.variant, self.reviews, self.tokenizer = variant, reviews, load_tokenizer(variant)
        self.examples = tokenize(reviews, self.tokenizer, variant)
        self.model: Any = build(model_folder(variant.model), variant, reviews.labels)

    def train(self) -> float:
        """Seconds of the steps of an epoch, which continues from the weights of the last round."""
        with tempfile.TemporaryDirectory() as folder:
            return float(fit(self.model, self.tokenizer, self.examples, self.variant, Path(folder)).step_seconds.sum())

    def predict(self) -> float:
        """Seconds of one pass over the test texts."""
        bf16 = uses_bf16(self.variant.precision)
        pad = self.tokenizer.pad_token_id
        return predict(self.model, self.examples["test"], self.reviews.test["id"], pad, bf16=bf16).seconds


class Plain:
    """The plain implementation."""

    def __init__(self, variant: Variant, reviews: Reviews) -> None:
        set_seed(variant.seed)
        folder, classes = model_folder(variant.model), len(reviews.labels)
        options = {"num_labels": classes, "dtype": "float32", "local_files_only": True}
        model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
        if config := peft_config(variant, model.config):
            model = get_peft_model(model, config)
        else:
            set_trainable(model, variant)
        self.variant, self.model = variant, model
        self.train_set, self.test_set = self._examples(reviews.train), self._examples(reviews.test)

    def _examples(self, table: pd.DataFrame) -> list[dict[str, Any]]:
        window = {"truncation": True, "padding": "max_length", "max_length": self.variant.max_length}
        encoded = load_tokenizer(self.variant)(table["text"].tolist(), **window)
        columns = {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": table["label"],
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _trainer(self, folder: str) -> Trainer:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=self.variant.epochs,
            per_device_train_batch_size=self.variant.batch_size,
            learning_rate=self.variant.rate,
            save_strategy="no",
            dataloader_pin_memory=torch.cuda.is_available(),  # the default, less a warning
            disable_tqdm=True,
            report_to="none",
        )
        trainer = Trainer(self.model, arguments, train_dataset=self.train_set)
        trainer.remove_callback(PrinterCallback)
        return trainer

    def train(self) -> float:
        """Seconds of the steps of an epoch, which continues from the weights of the last round."""
        timer = Timer()
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(folder)
            trainer.add_callback(timer)
            trainer.train()
        return sum(timer.steps)

    def predict(self) -> float:
        """Seconds of one pass over the test texts."""
        with tempfile.TemporaryDirectory() as folder:
            trainer, start = self._trainer(folder), now()
            trainer.predict(self.test_set)
            return now() - start


def measure(variants: Mapping[str, Variant], rounds: int) -> pd.DataFrame:
    """A row per task and strategy: reviews per second both ways, and the ratio with its range over rounds.

    The last column is the time of the study's way over that of its full fine-tuning.
    """
    ways: dict[tuple[str, str], Plain | Ours] = {}
    for name, variant in variants.items():
        reviews = load_reviews(variant)
        ways |= {(name, "plain"): Plain(variant, reviews), (name, "ours"): Ours(variant, reviews)}
    seconds: dict[Key, list[float]] = {}
    for count in range(rounds + 1):
        print(f"round {count} of {rounds}" if count else "warm-up", file=sys.stderr, flush=True)
        for task in ("train", "predict"):
            for (name, way), measured in ways.items():
                taken = getattr(measured, task)()
                seconds.setdefault((task, name, way), []).extend([taken] if count else [])
    return pd.DataFrame(
        [_row(task, variant, seconds) for task in ("train", "predict") for variant in variants.values()]
    )


def _row(task: str, variant: Variant, seconds: Mapping[Key, Sequence[float]]) -> dict[str, str]:
    """One row of the table."""
    plain, ours = (np.array(seconds[task, variant.strategy, way]) for way in ("plain", "ours"))
    full = np.array(seconds.get((task, "full", "ours"), np.nan))
    reviews, ratio = variant.train_size, plain / ours
    return {
        "task": {"train": "training", "predict": "inference"}[task],
        "strategy": label(variant.strategy),
        "plain (reviews/s)": f"{reviews / np.median(plain):.1f}",
        "ours (reviews/s)": f"{reviews / np.median(ours):.1f}",
        "times as fast": f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]",
        "time / full's": f"{np.median(ours / full):.2f}",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the options ask for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--reviews", type=int, default=64, help="reviews to train on, and to classify (default: 64)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--model", default="bundled:all-MiniLM-L6-v2")
    parser.add_argument("--dataset", default="bundled:imdb")
    options = parser.parse_args(arguments)
    common = {"model": options.model, "dataset": options.dataset, "ood_dataset": None, "test_size": options.reviews}
    common |= {"batch_size": options.batch_size, "max_length": options.max_length, "epochs": 1}
    common |= {"train_size": options.reviews, "validation_fraction": 0}
    quiet()
    variants = {name: Variant(strategy=name, **common) for name in options.strategies}
    print(measure(variants, options.rounds).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
