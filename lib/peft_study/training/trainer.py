"""Fine-tune a prepared model with the transformers `Trainer`, and measure the cost.

`fit` does in one call what notebook 02 does in its cells. Training time is the sum of the durations of optimizer steps,
without evaluations, checkpoints and the padding of batches.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from peft_study.errors import StudyError, writing
from peft_study.files import remove
from peft_study.paths import CHECKPOINTS
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training.callbacks import Schedule, Timer
from peft_study.training.cost import flops, peak_memory, step_scatter
from peft_study.training.memory import attempt, halved, is_memory, too_little
from peft_study.training.prediction import classified_at_once, log_loss, pad_batch

WEIGHTS = "weights.safetensors"  # of a checkpoint: the tensors that train
Examples = Mapping[str, Sequence[dict[str, Any]]]  # by part: those of `data.tokenization.examples`


@dataclass(frozen=True)
class Training:
    """The result of training: the Trainer's log and the measurements for `metrics.json`."""

    log: list[dict[str, Any]]
    step_seconds: np.ndarray
    figures: dict[str, Any]
    arguments: dict[str, Any]


class ClassifierTrainer(Trainer):  # type: ignore[misc]
    """The Trainer for a partially trainable classifier.

    Its checkpoints hold the trainable tensors: peft saves what inference needs, not what training needs (of P-tuning
    the vectors without the network that generates them, of AdaLoRA no pruned ranks), and a frozen encoder needs no
    copy. With `class_weights` (classes,) the training loss weights each text by the weight of its class.
    """

    # A classifier's loss is the mean over what it is given: the parts of an accumulated batch must be averaged. The
    # Trainer would add them up, since these models' `forward` takes any keyword.
    loss_is_scaled_for_ga = False

    def __init__(
        self, model: Any, args: TrainingArguments, class_weights: np.ndarray | None = None, **options: Any
    ) -> None:
        if args.n_gpu > 1:  # then each GPU would get a batch (`DataParallel`), without autocast
            args._n_gpu = 1
        super().__init__(model, args, **options)
        self.class_weights = class_weights
        self.remove_callback(PrinterCallback)

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train, and leave the model outside autocast, as another Trainer requires.

        Raises `StudyError` where memory or disk space is insufficient, and for a second training by the same Trainer.
        """
        if self.state.global_step:
            raise StudyError("the model is already trained; run the notebook again from the cell that loads it")
        try:
            with writing(Path(self.args.output_dir)):
                return super().train(*arguments, **options)
        except RuntimeError as error:
            if is_memory(error):
                raise too_little(self.args.train_batch_size, self.args.gradient_accumulation_steps) from error
            raise
        finally:
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
            self.model._is_accelerate_prepared = False  # else it would train without autocast the next time

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **options: Any) -> Any:
        """The model's loss, with the method's regularisation, plus the change due to class weights.

        The sum over a batch is divided by its number of texts, not, as by torch's weighted mean, by their weights: else
        a batch without a rare class would count as much as one with it, and accumulated batches would not add up to
        a large one.
        """
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **options)
        if self.class_weights is not None:
            weights = torch.as_tensor(self.class_weights, dtype=torch.float32, device=loss.device)[inputs["labels"]]
            each = torch.nn.functional.cross_entropy(outputs.logits.float(), inputs["labels"], reduction="none")
            loss = loss + ((weights - 1) * each).mean()
        return (loss, outputs) if return_outputs else loss

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        if self.state.global_step < self.state.max_steps:  # else resumed after the last step: there is none to take
            super()._run_epoch(*arguments, **options)

    def _trained(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self._trained().items()}, folder / WEIGHTS)

    @contextmanager
    def at_step(self, step: int) -> Iterator[None]:
        """Load the trained tensors of the checkpoint at `step` within the block, and restore the model's own."""
        own = {name: value.detach().clone() for name, value in self._trained().items()}
        self._load_from_checkpoint(str(Path(self.args.output_dir, f"checkpoint-{step}")))
        try:
            yield
        finally:
            self._set_trained(own)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        self._set_trained(load_file(Path(resume_from_checkpoint, WEIGHTS)))

    def _set_trained(self, values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._trained().items():
                value.copy_(values[name])

    def _load_best_model(self) -> None:
        name = Path(self.state.best_model_checkpoint).name  # the folder may have moved since
        self._load_from_checkpoint(str(Path(self.args.output_dir, name)))


@dataclass(frozen=True)
class Collator:
    """Pads a batch with the id `pad` to its longest text."""

    pad: int

    def __call__(self, batch: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The tensors of `pad_batch`, and the `labels`, of the examples of a batch."""
        return pad_batch(batch, self.pad) | {"labels": torch.tensor([example["labels"] for example in batch])}


def validation_metrics(output: EvalPrediction) -> dict[str, float]:
    """Accuracy and cross-entropy of the logits.

    The Trainer's own loss includes class weights and regularisation of the method (in AdaLoRA, of the orthogonality of
    its factors).
    """
    right = output.predictions.argmax(-1) == output.label_ids
    return {"accuracy": float(right.mean()), "loss": log_loss(output.predictions, output.label_ids)}


def uses_bf16(precision: str) -> bool:
    """Whether to compute in bfloat16: on request, or with `auto` where the hardware multiplies it natively.

    Raises `StudyError` where this machine cannot train in `precision`.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise StudyError("precision = 'fp16' needs a GPU, and torch sees none here; take auto, bf16 or fp32")
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()


def set_deterministic(wanted: bool) -> None:
    """Let torch refuse operations that are not bitwise reproducible, or allow all."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # without it cuBLAS refuses
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.deterministic = wanted


def total_steps(variant: Variant, examples: int) -> int:
    """The number of optimizer steps over `examples` training texts: fixed by the variant, or from its epochs."""
    if variant.max_steps is not None:
        return variant.max_steps
    batches = math.ceil(examples / variant.batch_size)
    return math.ceil(variant.epochs * max(1, math.ceil(batches / variant.gradient_accumulation)))


def run_options(variant: Variant, steps: int) -> dict[str, Any]:
    """The `TrainingArguments` for evaluation, checkpoints, logging and the device.

    `steps` is the number of optimizer steps. `Schedule` adds the evaluations and checkpoints before the last step.
    """
    gpu, validated = torch.cuda.is_available(), bool(variant.evaluations and variant.validation_fraction)
    at_once = classified_at_once("cuda" if gpu else "cpu", variant.max_length)
    return {
        "per_device_eval_batch_size": min(at_once, 4 * variant.batch_size),  # small where the memory is short
        "eval_strategy": "steps" if validated else "no",
        "eval_steps": steps,
        "load_best_model_at_end": variant.checkpoint == "best",
        "metric_for_best_model": "eval_loss" if validated else None,
        "save_strategy": "steps" if validated else "no",
        "save_steps": steps,
        "save_total_limit": 2,  # the best and the last, whichever is tested
        "save_only_model": not variant.resume,
        "logging_steps": max(1, steps // 50),
        "logging_nan_inf_filter": False,  # a loss that is not a number must show
        "use_cpu": not (gpu or torch.backends.mps.is_available()),  # bf16 on a CPU must be asked for
        "full_determinism": variant.deterministic,
        "disable_tqdm": True,  # its bars become dead widgets in an executed notebook
        "report_to": "none",
    }


def largest_batch(
    model: torch.nn.Module, examples: Sequence[dict[str, Any]], variant: Variant, pad: int
) -> tuple[int, int]:
    """The largest batch that fits the memory, and the gradient accumulation that keeps the optimizer step.

    The trial is a forward and backward pass over the longest training `examples`, with AdamW's two buffers per trained
    parameter allocated. The random state is restored. Raises `StudyError` where a single text does not fit.
    """
    size, accumulation = variant.batch_size, variant.gradient_accumulation
    longest = sorted(examples, key=lambda example: len(example["input_ids"]))[-size:]
    with torch.random.fork_rng():
        while attempt(partial(_try_step, model, Collator(pad)(longest[-size:]), uses_bf16(variant.precision))) is None:
            if size == 1:
                raise too_little(size, accumulation)
            size, accumulation = halved(size, accumulation)
    return size, accumulation


def _try_step(model: torch.nn.Module, batch: Mapping[str, torch.Tensor], bf16: bool) -> bool:
    """One forward and backward pass; gradients and optimizer state are discarded."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model.to(device).train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        state = [torch.zeros_like(parameter) for parameter in (*trained, *trained)]
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss.backward()
        return bool(state)
    finally:
        model.zero_grad(set_to_none=True)


def last_checkpoint(folder: Path, variant: Variant) -> str | None:
    """The last complete checkpoint in `folder` of the same variant, to resume from; None without one.

    Others are removed: checkpoints of other values, and one that a killed training left incomplete (the Trainer writes
    `trainer_state.json` last).
    """
    identity, values = folder / "variant.json", variant.model_dump_json()
    if not (variant.resume and identity.is_file() and identity.read_text(encoding="utf-8") == values):
        remove(folder)
        with writing(folder):
            folder.mkdir(parents=True)
            identity.write_text(values, encoding="utf-8")
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            remove(checkpoint)
    return get_last_checkpoint(str(folder))


def fit(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    variant: Variant,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> Training:
    """Train a model made by `build`, as notebook 02 does; it ends at the checkpoint that the variant selects.

    Checkpoints are kept in `folder` after training only for a variant that resumes; the same call then resumes from the
    last. Raises `StudyError` where the precision is unavailable, or memory is insufficient.
    """
    bf16 = uses_bf16(variant.precision)
    set_deterministic(variant.deterministic)
    requested, strategy = variant, STRATEGIES[variant.strategy]
    if variant.auto_batch:
        size, accumulation = largest_batch(model, examples["train"], variant, tokenizer.pad_token_id)
        variant = variant.model_copy(update={"batch_size": size, "gradient_accumulation": accumulation})
    checkpoints, timer = folder / CHECKPOINTS, Timer()
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=variant.epochs,
        max_steps=variant.max_steps or -1,  # -1: as the epochs say; fixed steps may stop within an epoch or repeat it
        per_device_train_batch_size=variant.batch_size,
        gradient_accumulation_steps=variant.gradient_accumulation,
        learning_rate=variant.rate,
        warmup_steps=variant.warmup,
        weight_decay=variant.weight_decay,
        bf16=bf16,
        fp16=variant.precision == "fp16",
        seed=variant.seed,
        train_sampling_strategy="group_by_length",
        **run_options(variant, total_steps(variant, len(examples["train"]))),
    )
    labels, classes = [example["labels"] for example in examples["train"]], model.config.num_labels
    counts = np.bincount(labels, minlength=classes).clip(1)
    trainer = ClassifierTrainer(
        model,
        arguments,
        class_weights=len(labels) / (classes * counts) if variant.class_weights else None,
        train_dataset=examples["train"],
        eval_dataset=examples["validation"] or None,
        data_collator=Collator(tokenizer.pad_token_id),
        compute_metrics=validation_metrics,
        callbacks=[timer, Schedule(variant), *strategy.callbacks(variant.peft), *callbacks],
        optimizers=(strategy.optimizer(model, arguments) if strategy.optimizer else None, None),
    )
    try:
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints, requested))
    finally:
        if not variant.resume:
            remove(checkpoints)
    return training_of(trainer, timer, requested)


def training_of(trainer: ClassifierTrainer, timer: Timer, variant: Variant) -> Training:
    """The result of a finished training of `variant`. Peak memory is that of this process."""
    seconds, tokens, peak = sum(timer.steps), timer.tokens[-1], peak_memory()
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    last = trainer.state.global_step
    best = trainer.state.best_global_step or last  # 0 where no validation loss was a number
    selected, other = (best, last) if trainer.args.load_best_model_at_end else (last, best)
    figures = {
        "seconds": seconds,
        "evaluation_seconds": sum(entry["eval_runtime"] for entry in evaluations),
        "wall_seconds": timer.state()["wall"],
        "steps": last,
        "planned_steps": trainer.state.max_steps,
        "resumed": timer.resumed,
        "interrupted": last < trainer.state.max_steps,
        "selected_step": selected,
        "other_step": other if evaluations else None,
        "batch_size": trainer.args.train_batch_size,
        "gradient_accumulation": trainer.args.gradient_accumulation_steps,
        "epochs": trainer.state.epoch,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "seconds_per_step": float(np.median(timer.steps)),
        "step_scatter": step_scatter(timer.steps, np.diff(timer.tokens, prepend=0)),
        "learning_rate": trainer.args.learning_rate,
        "class_weights": None if trainer.class_weights is None else trainer.class_weights.tolist(),
        **_of_batches(trainer),
        "trainer_flops": trainer.state.total_flos,
        **peak,
        "asked_batch_size": variant.batch_size,
    }
    return Training(trainer.state.log_history, np.array(timer.steps), figures, trainer.args.to_sanitized_dict())


def _of_batches(trainer: ClassifierTrainer, count: int = 4) -> dict[str, float]:
    """The share of padding in an epoch's batches, and the floating-point operations of an optimizer step.

    Operations are counted in `count` batches, spread over the epoch, and scaled to the mean number of token positions
    in a batch: those of short texts vary in length.
    """
    batches = list(trainer.get_train_dataloader().batch_sampler)
    lengths = [len(example["input_ids"]) for example in trainer.train_dataset]
    positions = [len(batch) * max(lengths[i] for i in batch) for batch in batches]
    step = slice(None, None, max(1, len(batches) // count))
    real = [trainer.data_collator([trainer.train_dataset[i] for i in batch]) for batch in batches[step][:count]]
    per_position = flops(trainer.model, real) / np.mean(positions[step][:count])
    return {
        "padding_share": 1 - sum(lengths[i] for batch in batches for i in batch) / sum(positions),
        "flops_per_step": float(
            per_position * np.mean(positions) * min(trainer.args.gradient_accumulation_steps, len(batches))
        ),
    }
