"""Strategy name -> model ready to train, and what its parameters are for.

`STRATEGIES` is the only list of strategies. torch, transformers and peft are imported where a model is made, so that
reading a study stays instant.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from peft_study.errors import StudyError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from peft_study.config import Variant


@dataclass(frozen=True)
class Strategy:
    """How one strategy fine-tunes.

    `prepare` takes a pretrained classifier and a variant and returns the model with `requires_grad` set on exactly the
    parameters to train. `learning_rate` is the peak rate used where the variant names none.
    """

    label: str
    description: str
    learning_rate: float
    prepare: Callable[[PreTrainedModel, Variant], torch.nn.Module]
    citation: str = ""


@dataclass(frozen=True)
class Architecture:
    """The names that a family of encoders gives to its parts."""

    head: tuple[str, ...]
    query_value: tuple[str, ...]
    linears: tuple[str, ...]
    dropouts: tuple[str, ...] = ("hidden_dropout_prob", "attention_probs_dropout_prob")


_BERT_LINEARS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
ARCHITECTURES = {
    "distilbert": Architecture(
        head=("pre_classifier", "classifier"),
        query_value=("q_lin", "v_lin"),
        linears=("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
        dropouts=("dropout", "attention_dropout"),
    ),
    "bert": Architecture(head=("classifier",), query_value=("query", "value"), linears=_BERT_LINEARS),
    "roberta": Architecture(head=("classifier",), query_value=("query", "value"), linears=_BERT_LINEARS),
}


def architecture(model_type: str) -> Architecture:
    """The architecture of a transformers `model_type`, or a `StudyError` naming those that are known."""
    if model_type not in ARCHITECTURES:
        raise StudyError(
            f"model type {model_type!r} is not supported; supported: {', '.join(ARCHITECTURES)}. "
            "Add an entry to ARCHITECTURES in lib/peft_study/strategies.py"
        )
    return ARCHITECTURES[model_type]


def _train_only(wanted: Callable[[str], bool]) -> Callable[[PreTrainedModel, Variant], torch.nn.Module]:
    """A `prepare` that trains the backbone's parameters whose name is `wanted`, and the head."""

    def prepare(model: PreTrainedModel, variant: Variant) -> torch.nn.Module:
        head = architecture(model.config.model_type).head
        for name, parameter in model.named_parameters():
            parameter.requires_grad = wanted(name) or _is_part(name, head)
        return model

    return prepare


def _lora(targets: str) -> Callable[[PreTrainedModel, Variant], torch.nn.Module]:
    """A `prepare` that puts LoRA on the `Architecture` field `targets`; the head trains in full."""

    def prepare(model: PreTrainedModel, variant: Variant) -> torch.nn.Module:
        from peft import LoraConfig, TaskType, get_peft_model

        family = architecture(model.config.model_type)
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=variant.lora_r,
            lora_alpha=variant.lora_alpha,
            lora_dropout=variant.lora_dropout,
            target_modules=variant.target_modules or list(getattr(family, targets)),
            modules_to_save=list(family.head),
        )
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # by peft
                return get_peft_model(model, config)
        except ValueError as error:  # peft found none of the names, or a module it cannot adapt
            raise StudyError(f"target_modules = {config.target_modules}: {error}") from error

    return prepare


_HU = "hu2022"
STRATEGIES: dict[str, Strategy] = {
    "full": Strategy("Full fine-tuning", "every weight trains", 1e-4, _train_only(lambda name: True)),
    "head": Strategy(
        "Head only", "the encoder is frozen; only the classification head trains", 5e-3, _train_only(lambda name: False)
    ),
    "bitfit": Strategy(
        "BitFit",
        "only the bias terms and the head train",
        2e-3,
        _train_only(lambda name: name.endswith(".bias")),
        "benzaken2022",
    ),
    "lora": Strategy(
        "LoRA (query, value)",
        "a low-rank update of every query and value projection, and the head, train",
        2e-3,
        _lora("query_value"),
        _HU,
    ),
    "lora-all": Strategy(
        "LoRA (all linear)",
        "a low-rank update of all six linear layers of every encoder block, and the head, train",
        1e-3,
        _lora("linears"),
        _HU,
    ),
}


@dataclass(frozen=True)
class ParameterCounts:
    """How many scalar parameters there are, by purpose, and how many of each train."""

    backbone: int
    adapter: int
    head: int
    trainable_backbone: int
    trainable_adapter: int
    trainable_head: int

    @property
    def total(self) -> int:
        """All parameters of the model."""
        return self.backbone + self.adapter + self.head

    @property
    def trainable(self) -> int:
        """The parameters that an optimizer step may change."""
        return self.trainable_backbone + self.trainable_adapter + self.trainable_head

    def as_dict(self) -> dict[str, int]:
        """All counts, with the two sums, for `metrics.json`."""
        return asdict(self) | {"total": self.total, "trainable": self.trainable}


def count_parameters(model: torch.nn.Module) -> ParameterCounts:
    """Count the parameters of a prepared `model` as backbone, adapter and head.

    peft keeps the untrained original of the head beside the copy that trains; the original is not counted.
    """
    head = architecture(model.config.model_type).head  # type: ignore[union-attr]
    counts: dict[str, int] = dict.fromkeys(ParameterCounts.__dataclass_fields__, 0)
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        kind = "head" if _is_part(name, head) else "adapter" if "lora_" in name else "backbone"
        counts[kind] += parameter.numel()
        counts[f"trainable_{kind}"] += parameter.numel() * parameter.requires_grad
    return ParameterCounts(**counts)


def _is_part(name: str, parts: Iterable[str]) -> bool:
    """Whether a parameter's dotted `name` runs through one of the modules `parts`."""
    return not set(name.split(".")).isdisjoint(parts)


def build(path: str, variant: Variant, labels: tuple[str, str]) -> torch.nn.Module:
    """The pretrained classifier in the folder `path`, prepared for the variant's strategy.

    The seed is set first: the head's and the adapter's initial weights must follow it. Weights are read from
    safetensors only; no code of the model's folder is run. Raises `StudyError` for weights that cannot be read or that
    are of another model.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed
    from transformers.utils import logging

    names: dict[str, Any] = {
        "num_labels": 2,
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False, **names)
    family = architecture(config.model_type)
    if variant.dropout is not None:
        for name in family.dropouts:
            setattr(config, name, variant.dropout)

    logging.set_verbosity_error()  # that the head is new is no news
    logging.disable_progress_bar()
    set_seed(variant.seed)
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            path,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype="float32",
            # On a CPU the fused attention's backward pass is slow: plain products make a whole step of full fine-tuning
            # 1.2 times as fast, one of LoRA 1.5 times (lib/NOTES.md).
            attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # damaged, or of other shapes
        raise StudyError(f"the weights in {path} do not load: {str(error).splitlines()[0]}") from error
    # transformers fills what the file lacks with random numbers; only a head, and BERT's pooler, may begin so
    absent = sorted(name for name in loading["missing_keys"] if not _is_part(name, (*family.head, "pooler")))
    if absent:
        raise StudyError(f"the weights in {path} are of another model: {len(absent)} are absent, the first {absent[0]}")
    return STRATEGIES[variant.strategy].prepare(model, variant)
