"""Fine-tune one variant with the transformers `Trainer`, and measure what it took.

Seconds of training are those between a step's begin and its end, so that neither evaluations and checkpoints nor the
padding of its batches are in them.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, PrinterCallback, TrainerCallback, TrainingArguments

from peft_study.data import datasets as assets
from peft_study.data import reviews as data
from peft_study.data import tokenization
from peft_study.errors import StudyError, writing
from peft_study.files import remove
from peft_study.records.layout import CHECKPOINTS
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training import memory, processes, resume
from peft_study.training.callbacks import Schedule, Timer
from peft_study.training.cost import Inference, flops, inference
from peft_study.training.model import ParameterCounts, build, count_parameters
from peft_study.training.prediction import Predictions, classified_at_once, log_loss, pad_batch, predict
from peft_study.training.progress import Tell, silent
from peft_study.training.speed import keep_freed_memory, lean_lora


@dataclass
class Prepared:
    """A variant that is ready to train: its model, its tokenizer, and the examples of each of its parts.

    `folder` is where the pretrained model was read from.
    The `model` is another one after a training that began anew: with smaller batches, or because this one had been
    trained before (`used`). `tables` and `examples` have the keys `train`, `validation`, `test` and, where the variant
    names one, `ood`.
    """

    variant: Variant
    corpus: data.Corpus
    tokenizer: Any
    folder: Path
    model: Any
    model_hash: str
    parameters: ParameterCounts
    tables: dict[str, Any]
    examples: dict[str, list[dict[str, Any]]]
    used: bool = False

    @property
    def bf16(self) -> bool:
        """Whether the variant computes in bfloat16 on this machine."""
        return uses_bf16(self.variant.precision)

    @property
    def precision(self) -> str:
        """What the variant trains in on this machine: bf16, fp16 or fp32."""
        return "bf16" if self.bf16 else "fp16" if self.variant.precision == "fp16" else "fp32"

    def rebuild(self) -> None:
        """Give the model up for one as it was before training: the seed decides its first weights."""
        self.model = None  # free before the next one is there
        self.model = build(str(self.folder), self.variant, self.corpus.labels)
        self.used = False

    def predict(self, part: str, tell: Tell = silent) -> Predictions:
        """One pass of the model over a part."""
        examples, ids = self.examples[part], self.tables[part]["id"]
        with _repeating(self.variant):
            return predict(self.model, examples, ids, self.tokenizer.pad_token_id, bf16=self.bf16, tell=tell)

    def inference(self, count: int = 16) -> Inference:
        """What the model costs to use, measured on the first `count` reviews that it trained on."""
        reviews = [example["input_ids"] for example in self.examples["train"][:count]]
        batch = pad_batch(reviews, self.tokenizer.pad_token_id)
        return inference(self.model, batch, STRATEGIES[self.variant.strategy].merges)


@dataclass(frozen=True)
class Training:
    """What training left: the Trainer's log and the measurements that go into `metrics.json`."""

    log: list[dict[str, Any]]
    step_seconds: np.ndarray
    figures: dict[str, Any]
    arguments: dict[str, Any]


def uses_bf16(precision: str) -> bool:
    """Whether to compute in bfloat16: asked for, or `auto` where the hardware multiplies it natively."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()


def require_precision(precision: str) -> None:
    """Raise `StudyError` where this machine cannot train in `precision`."""
    if precision == "fp16" and not torch.cuda.is_available():
        raise StudyError(
            "precision = 'fp16' needs a GPU, and torch sees none here; set it to auto, bf16 or fp32, or install the "
            "torch that fits the GPU"
        )


def prepare(variant: Variant, corpus: data.Corpus | None = None, tell: Tell = silent) -> Prepared:
    """Load the tokenizer and the model of a variant, and its data unless the `corpus` is at hand."""
    require_precision(variant.precision)
    tell("Loading the reviews", 0, 3)
    corpus = corpus or data.load_corpus(variant)
    tell("Tokenising the reviews", 1, 3)
    tokenizer = tokenization.load_tokenizer(variant)
    train, validation = data.budget(corpus, variant)
    tables = {"train": train, "validation": validation, "test": corpus.test}
    tokens = {split: tokenization.tokenize_texts(texts, tokenizer) for split, texts in corpus.splits.items() if texts}
    tokens |= {"validation": tokens["train"], "test": tokens["train" if corpus.held_out else "test"]}
    if corpus.ood is not None:
        tables["ood"] = corpus.ood
    examples = {part: tokenization.examples(table, tokens[part], variant) for part, table in tables.items()}
    tell("Loading the model", 2, 3)
    folder = assets.model_folder(variant.model)
    model = build(str(folder), variant, corpus.labels)
    weights = assets.weights_hash(folder)
    tell("Reviews, tokens and model", 3, 3)
    return Prepared(variant, corpus, tokenizer, folder, model, weights, count_parameters(model), tables, examples)


def train(prepared: Prepared, folder: Path, callbacks: Sequence[TrainerCallback] = ()) -> Training:
    """Train the prepared model; it ends as the checkpoint that the variant selects.

    A model that has been trained before is first made anew, so that a second call does what the first did.

    The variant's `processes` share the training out; a single one is this very process.
    """
    shared = prepared.variant.processes > 1
    return (processes.train if shared else train_here)(prepared, folder, callbacks)


def train_here(prepared: Prepared, folder: Path, callbacks: Sequence[TrainerCallback] = ()) -> Training:
    """`train` in this process, alone or as one of several.

    `folder` takes the checkpoints while training runs. They are gone when it returns, but for a variant that resumes:
    then they stay until the record is written, whatever ends the training, and the same call goes on from the last.
    Where the memory is not enough, training begins anew with smaller batches if the variant asks for that
    (`auto_batch`), or ends in a `StudyError`.
    """
    checkpoints = folder / CHECKPOINTS
    begun = resume.last(checkpoints, prepared) if prepared.variant.resume else None
    variant = begun.batches(prepared.variant) if begun else prepared.variant
    if prepared.model is None or (prepared.used and begun is None):  # None: interrupted as it was made anew
        prepared.rebuild()
    with _repeating(variant):
        while (found := memory.attempt(partial(_train, prepared, variant, checkpoints, callbacks, begun))) is None:
            less = memory.smaller(variant) if variant.auto_batch else None
            if less is None:
                raise memory.too_little(variant)
            told = f"{variant.batch_size} reviews; it begins anew with {less.batch_size}"
            print(f"The memory was not enough for a batch of {told}.", flush=True)
            variant, begun = less, None
            prepared.rebuild()
    return found


@contextmanager
def _repeating(variant: Variant) -> Iterator[None]:
    """Within it, what is computed for a `deterministic` variant repeats to the bit; afterwards all is as it was."""
    before, cudnn = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    if variant.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # without it cuBLAS refuses
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.deterministic = cudnn


def _train(
    prepared: Prepared,
    variant: Variant,
    checkpoints: Path,
    callbacks: Sequence[TrainerCallback],
    begun: resume.Checkpoint | None,
) -> Training:
    """Train the prepared model with the batches of `variant`, which is the prepared one in all other fields."""
    if begun is None:
        remove(checkpoints)  # of other values, or of larger batches
    arguments = training_arguments(variant, len(prepared.examples["train"]), checkpoints)
    timer, strategy = Timer(), STRATEGIES[variant.strategy]
    own = [strategy.callback(variant)] if strategy.callback else []
    optimizer = strategy.optimizer(prepared.model, variant, arguments) if strategy.optimizer else None
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer = _Trainer(
        model=prepared.model,
        args=arguments,
        train_dataset=prepared.examples["train"],
        eval_dataset=prepared.examples["validation"] or None,
        data_collator=_Collator(prepared.tokenizer.pad_token_id),
        compute_metrics=_validation_metrics,
        callbacks=[timer, Schedule(variant), *own, *callbacks],
        optimizers=(optimizer, None),
    )
    if variant.resume:
        trainer.identity = resume.identity(prepared, variant)
    trainer.remove_callback(PrinterCallback)
    if not variant.auto_batch:  # which needs what a batch that was too large has freed
        keep_freed_memory()
    if begun and begun.state["global_step"] < begun.state["max_steps"]:
        print(f"Training goes on after step {begun.state['global_step']}, where it was cut off.", flush=True)
    prepared.used = True
    try:
        with writing(checkpoints), lean_lora(prepared.model):
            trainer.train(resume_from_checkpoint=str(begun.folder) if begun else None)
            trainer.accelerator.wait_for_everyone()  # another process may still be loading a checkpoint
    finally:
        if not variant.resume:
            remove(checkpoints)
        trainer.accelerator.unwrap_model(prepared.model, keep_fp32_wrapper=False)  # it left the model in autocast
        prepared.model._is_accelerate_prepared = False  # else it would train without autocast, were it trained again
    figures = _figures(trainer, timer) | {"asked_batch_size": prepared.variant.batch_size}
    return Training(trainer.state.log_history, np.array(timer.steps), figures, arguments.to_sanitized_dict())


def training_arguments(variant: Variant, examples: int, checkpoints: Path) -> TrainingArguments:
    """The Trainer's settings for a variant that trains on `examples` reviews."""
    steps = total_steps(variant, examples)
    best = variant.checkpoint == "best"
    evaluate = bool(variant.evaluations and variant.validation_fraction)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=variant.epochs,
        max_steps=variant.max_steps or -1,  # -1: as the epochs say; fixed steps may stop within an epoch or repeat it
        per_device_train_batch_size=variant.batch_size // variant.processes,
        per_device_eval_batch_size=min(
            4 * variant.batch_size,  # where the memory is short, a training batch is small
            classified_at_once("cuda" if torch.cuda.is_available() else "cpu", variant.max_length),
        ),
        gradient_accumulation_steps=variant.gradient_accumulation,
        learning_rate=variant.rate,
        weight_decay=variant.weight_decay,
        warmup_steps=variant.warmup,
        seed=variant.seed,
        bf16=uses_bf16(variant.precision),
        fp16=variant.precision == "fp16",
        full_determinism=variant.deterministic,
        use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),  # bf16 on a CPU must be asked for
        ddp_backend=None if torch.cuda.is_available() or variant.processes == 1 else "gloo",
        ddp_find_unused_parameters=False,
        average_tokens_across_devices=False,  # a classifier's loss is a mean, and would be multiplied by the processes
        train_sampling_strategy="group_by_length",
        include_num_input_tokens_seen="non_padding",
        logging_steps=max(1, steps // 50),
        eval_strategy="steps" if evaluate else "no",  # at the last step; `Schedule` adds those before
        eval_steps=steps,
        save_strategy="steps" if best else "no",
        save_steps=steps,
        save_total_limit=2 if variant.resume else 1,  # the best and the last; with 1 the last would go at the end
        save_only_model=not variant.resume,
        load_best_model_at_end=best,
        metric_for_best_model="eval_loss" if best else None,
        logging_nan_inf_filter=False,  # a loss that is not a number is told, not passed over
        disable_tqdm=True,  # its bars become dead widgets in an executed notebook
        report_to="none",
    )
    if arguments.n_gpu > 1:  # then the Trainer would give each GPU a batch (`DataParallel`), and train without autocast
        arguments._n_gpu = 1
    return arguments


def total_steps(variant: Variant, examples: int) -> int:
    """How many optimizer steps the variant takes over `examples` training reviews: those it fixes, or its epochs'."""
    if variant.max_steps is not None:
        return variant.max_steps
    batches = math.ceil(examples / variant.batch_size)
    return math.ceil(variant.epochs * max(1, math.ceil(batches / variant.gradient_accumulation)))


@dataclass(frozen=True)
class _Collator:
    """Pads a batch to its own longest review."""

    pad: int

    def __call__(self, batch: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        labels = torch.tensor([example["labels"] for example in batch])
        return pad_batch([example["input_ids"] for example in batch], self.pad) | {"labels": labels}


def _validation_metrics(output: EvalPrediction) -> dict[str, float]:
    """Accuracy and cross-entropy of the logits.

    The Trainer's own loss would have what a method adds to it (AdaLoRA: the distance of its factors from orthogonality)
    and, of several processes, the reviews that fill up the last batch.
    """
    right = output.predictions.argmax(-1) == output.label_ids
    return {"accuracy": float(right.mean()), "loss": log_loss(output.predictions, output.label_ids)}


class _Trainer(resume.ResumableTrainer):
    """The Trainer as several processes and batches in parts need it."""

    # A classifier's loss is the mean over what it is given: the parts of an accumulated batch must be averaged. The
    # Trainer would add them up, since these models' `forward` takes any keyword.
    loss_is_scaled_for_ga = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return processes.share(super()._get_train_sampler(train_dataset), self.args.world_size)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return processes.share(super()._get_eval_sampler(eval_dataset), self.args.world_size)


def _of_batches(trainer: _Trainer, count: int = 4) -> dict[str, float]:
    """What follows from an epoch's batches: the share of padding, and floating-point operations of an optimizer step.

    Operations are those of `count` batches, spread over the epoch.
    """
    batches = list(trainer.get_train_dataloader().batch_sampler)
    lengths = [len(example["input_ids"]) for example in trainer.train_dataset]
    positions = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    chosen = batches[:: max(1, len(batches) // count)][:count]
    real = [trainer.data_collator([trainer.train_dataset[i] for i in batch]) for batch in chosen]
    return {
        "padding_share": 1 - sum(lengths[i] for batch in batches for i in batch) / positions,
        "flops_per_step": flops(trainer.model, real)
        * min(trainer.args.gradient_accumulation_steps, len(batches))
        * trainer.args.world_size,
    }


def _figures(trainer: _Trainer, timer: Timer) -> dict[str, Any]:
    """The measurements of a finished training."""
    peak = timer.peak  # before anything else takes memory
    seconds = sum(timer.steps)
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    tokens = int(trainer.state.num_input_tokens_seen)
    best = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    return {
        "seconds": seconds,
        "evaluation_seconds": sum(entry["eval_runtime"] for entry in evaluations),
        "wall_seconds": timer.wall,
        "steps": trainer.state.global_step,
        "planned_steps": trainer.state.max_steps,
        "resumed": timer.resumed,
        "interrupted": trainer.state.global_step < trainer.state.max_steps,
        "selected_step": best or trainer.state.global_step,
        "processes": trainer.args.world_size,
        "batch_size": trainer.args.train_batch_size * trainer.args.world_size,
        "gradient_accumulation": trainer.args.gradient_accumulation_steps,
        "epochs": trainer.state.epoch,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "seconds_per_step": float(np.median(timer.steps)),
        "learning_rate": trainer.args.learning_rate,
        **_of_batches(trainer),
        "trainer_flops": trainer.state.total_flos,
        **peak,
    }
