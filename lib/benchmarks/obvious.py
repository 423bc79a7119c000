"""The obvious way to fine-tune a classifier: what one writes from the documentation, and what ours is measured against.

float32, every review padded to the window, batches in random order, the Trainer's defaults for everything else, and
twice an epoch an evaluation of the whole test set.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging

from peft_study.data import datasets as assets
from peft_study.data import tokenization
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant


def build(variant: Variant) -> torch.nn.Module:
    """The pretrained classifier, prepared for the variant's strategy."""
    logging.set_verbosity_error()  # that the head is new is no news
    logging.disable_progress_bar()
    torch.manual_seed(variant.seed)
    folder = assets.model_folder(variant.model)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, local_files_only=True)
    return STRATEGIES[variant.strategy].prepare(model, variant)


def tokenize(texts: Sequence[str], labels: Sequence[int], variant: Variant) -> list[dict[str, Any]]:
    """Reviews as the Trainer takes them, all as long as the window."""
    tokenizer = tokenization.load_tokenizer(variant)
    encoded = tokenizer(list(texts), truncation=True, padding="max_length", max_length=variant.max_length)
    kept = ("input_ids", "attention_mask")
    return [{name: encoded[name][row] for name in kept} | {"labels": int(label)} for row, label in enumerate(labels)]


def trainer(
    model: torch.nn.Module,
    variant: Variant,
    folder: str,
    train: Sequence[dict[str, Any]],
    test: Sequence[dict[str, Any]] | None = None,
    steps: int = -1,
    callbacks: Sequence[Any] = (),
) -> Trainer:
    """A Trainer of the variant; with `test` it evaluates on all of it twice an epoch. `steps` cuts training short."""
    every = math.ceil(len(train) / variant.batch_size / 2)
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=variant.epochs,
        max_steps=steps,
        per_device_train_batch_size=variant.batch_size,
        learning_rate=variant.rate,
        weight_decay=variant.weight_decay,
        seed=variant.seed,
        eval_strategy="no" if test is None else "steps",
        eval_steps=every,
        save_strategy="no",
        dataloader_pin_memory=torch.cuda.is_available(),  # the default, less a warning
        disable_tqdm=True,
        report_to="none",
    )
    made = Trainer(
        model=model,
        args=arguments,
        train_dataset=list(train),
        eval_dataset=None if test is None else list(test),
        compute_metrics=lambda output: {"accuracy": float(np.mean(output.predictions.argmax(-1) == output.label_ids))},
        callbacks=list(callbacks),
    )
    made.remove_callback(PrinterCallback)
    return made
