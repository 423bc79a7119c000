"""From pretrained weights to a model that a strategy has prepared, and what can be done with it once it is trained.

What counts as adapter, backbone and head; the adapter folded into the weights; a saved model loaded again.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from peft_study.data.labels import LABELS
from peft_study.errors import StudyError
from peft_study.records.layout import label_names
from peft_study.strategies.adapters import Adapter
from peft_study.strategies.encoders import architecture, is_part
from peft_study.strategies.table import STRATEGIES
from peft_study.training.speed import read_first_token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from peft_study.study.variant import Variant


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

    peft calls what it adds "default", and keeps the untrained original of the head, which is not counted, beside the
    copy that trains.
    """
    head = architecture(model.config.model_type).head  # type: ignore[union-attr]
    counts: dict[str, int] = dict.fromkeys(ParameterCounts.__dataclass_fields__, 0)
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        kind = "head" if is_part(name, head) else "adapter" if is_part(name, ["default"]) else "backbone"
        counts[kind] += parameter.numel()
        counts[f"trainable_{kind}"] += parameter.numel() * parameter.requires_grad
    return ParameterCounts(**counts)


def require_possible(variant: Variant, model_type: str) -> None:
    """Raise `StudyError` with the reason, and what would work, where the strategy cannot work on such a model."""
    if reason := STRATEGIES[variant.strategy].impossible.get(model_type):
        raise StudyError(f"strategy = {variant.strategy!r} does not work on {variant.model!r}: {reason}")


def attention() -> str:
    """Which implementation of attention to use.

    On a CPU the fused attention's backward pass is slow: plain products make a whole step of full fine-tuning 1.2 times
    as fast, one of LoRA 1.5 times (lib/NOTES.md).
    """
    import torch

    return "sdpa" if torch.cuda.is_available() else "eager"


def check_adapter(path: str, variant: Variant) -> None:
    """Try the parameters and modules that a variant sets for its adapter, on random weights in the shape of `path`'s.

    Raises `StudyError` where peft refuses them, with whatever it says.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    plain = AutoModelForSequenceClassification.from_config(config)
    try:
        STRATEGIES[variant.strategy].prepare(plain, variant)
    except StudyError:
        raise
    except Exception as error:  # values that nobody foresaw lead to whatever they lead to
        raise StudyError(f"strategy = {variant.strategy!r} with peft = {variant.peft}: {error}") from error


def build(path: str, variant: Variant, labels: Sequence[str] = LABELS) -> torch.nn.Module:
    """The pretrained classifier in the folder `path`, prepared for the variant's strategy.

    The seed is set first: the head's and the adapter's initial weights must follow it. Weights are read from
    safetensors only; no code of the model's folder is run. Raises `StudyError` for weights that cannot be read or that
    are of another model, and for a strategy that cannot work on such a model.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed
    from transformers.utils import logging

    names: dict[str, Any] = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False, **names)
    family = architecture(config.model_type)
    require_possible(variant, config.model_type)
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
            attn_implementation=attention(),
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # damaged, or of other shapes
        raise StudyError(f"the weights in {path} do not load: {str(error).splitlines()[0]}") from error
    # transformers fills what the file lacks with random numbers; only a head, and BERT's pooler, may begin so
    absent = sorted(name for name in loading["missing_keys"] if not is_part(name, (*family.head, "pooler")))
    if absent:
        raise StudyError(f"the weights in {path} are of another model: {len(absent)} are absent, the first {absent[0]}")
    prepare = STRATEGIES[variant.strategy].prepare
    if isinstance(prepare, Adapter) and any(is_part(name, ["pooler"]) for name in loading["missing_keys"]):
        raise StudyError(
            f"the weights in {path} have no pooler: it would begin as random numbers, and what "
            f"strategy = {variant.strategy!r} saves would be without it; take full or last2, which train and save it, "
            "or other weights"
        )
    return read_first_token(prepare(model, variant))


def merged(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of a trained `model` with its adapter folded into the weights: a plain transformers classifier."""
    from peft.utils import ModulesToSaveWrapper

    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # peft unwraps single layers only; RoBERTa's head is two
            plain.set_submodule(name, module.modules_to_save["default"])
    return read_first_token(plain.merge_and_unload())  # type: ignore[operator]


def load(folder: Path) -> torch.nn.Module:
    """A run's saved model (its `model/`), the adapter on its base model or all weights, with its classes' names."""
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification

    adapted = (folder / "adapter_config.json").exists()
    kind = AutoPeftModelForSequenceClassification if adapted else AutoModelForSequenceClassification
    names = dict(enumerate(label_names(folder.parent)))
    model: torch.nn.Module = kind.from_pretrained(
        str(folder),
        id2label=names,
        label2id={name: i for i, name in names.items()},
        trust_remote_code=False,
        dtype="float32",  # as it was trained, whatever its base model was published in
        attn_implementation=attention(),
    )
    return read_first_token(model).eval()


def save_merged(folder: Path, output: Path) -> None:
    """Fold the adapter in `folder` (a run's `model/`) into its base model and save it as a plain transformers model.

    `output` then loads with `transformers.pipeline("text-classification", ...)`, without peft. Raises `StudyError`
    where there is no adapter.
    """
    if not (folder / "adapter_config.json").exists():
        raise StudyError(f"{folder} has no adapter to be merged: it is a plain transformers model, and loads as it is")
    from transformers import AutoTokenizer

    merged(load(folder)).save_pretrained(str(output))  # type: ignore[operator]
    AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False).save_pretrained(str(output))
