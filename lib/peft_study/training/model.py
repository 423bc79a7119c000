"""Build the model of a strategy, and merge or load a trained one.

`build` is what notebook 02 does step by step. Parameters are counted as backbone, adapter and head.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_study.data.datasets import model_folder
from peft_study.data.labels import LABELS
from peft_study.data.tokenization import load_tokenizer
from peft_study.errors import StudyError, one_line, quoted
from peft_study.strategies.adapters import LORA_FIELDS
from peft_study.strategies.encoders import NUMBER, find_parts, pattern, set_dropout
from peft_study.strategies.table import STRATEGIES
from peft_study.training.prediction import pad_batch

CLASSIFIER = "classifier_config.json"  # beside an adapter, of which transformers takes config.json for a whole model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig

    from peft_study.study.variant import Variant


def count_parameters(model: torch.nn.Module) -> dict[str, int]:
    """Count the scalar parameters of a prepared `model`: `backbone`, `adapter`, `head`, and the `total`.

    The counts of trainable ones are `trainable_backbone`, `trainable_adapter`, `trainable_head`, and their sum
    `trainable`. peft names its additions "default", and keeps the untrained original of the head, which is not counted,
    beside the trainable copy.
    """
    parts = find_parts(model.config)  # type: ignore[arg-type]
    kinds = ("backbone", "adapter", "head")
    counts = dict.fromkeys([*kinds, *(f"trainable_{kind}" for kind in kinds)], 0)
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue
        kind = "head" if parts.is_head(name) else "adapter" if "default" in name.split(".") else "backbone"
        counts[kind] += parameter.numel()
        counts[f"trainable_{kind}"] += parameter.numel() * parameter.requires_grad
    sums = {"total": sum(counts[kind] for kind in kinds)}
    return counts | sums | {"trainable": sum(counts[f"trainable_{kind}"] for kind in kinds)}


def attention() -> str:
    """The attention implementation to use.

    On a CPU the backward pass of fused attention is slow: with plain products a step of full fine-tuning is 1.2 times
    as fast, a step of LoRA 1.5 times (lib/NOTES.md).
    """
    import torch

    return "sdpa" if torch.cuda.is_available() else "eager"


def class_settings(labels: Sequence[str]) -> dict[str, Any]:
    """The fields of a model's configuration that define its classes, one per text."""
    names = dict(enumerate(labels))
    numbers = {name: i for i, name in names.items()}
    return {"id2label": names, "label2id": numbers, "problem_type": "single_label_classification"}


def model_options(variant: Variant, labels: Sequence[str], folder: Path | str | None = None) -> dict[str, Any]:
    """The arguments of `from_pretrained` besides the folder of the variant's model (or another `folder`).

    The configuration has the classes of the task and the variant's dropout. Weights are read from safetensors only, no
    code in the model's folder is run, and mismatches are reported for `require_pretrained`. Raises `StudyError` for an
    invalid configuration, and for a strategy that cannot work on such a model.
    """
    from transformers import AutoConfig

    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    path = Path(folder or model_folder(variant.model))
    try:
        config = AutoConfig.from_pretrained(path, num_labels=len(labels), **class_settings(labels), **safe)
    except Exception as error:  # a value of another type: every configuration says it in its own way
        raise StudyError(f"model = {variant.model!r}: config.json does not load: {one_line(error, 300)}") from error
    if getattr(config, "is_decoder", False):
        raise StudyError(
            f"model = {variant.model!r}: config.json has is_decoder, so the classifier would read only the first "
            "token, which attends to no other; use an encoder"
        )
    try:
        parts = find_parts(config)
    except StudyError as error:
        raise StudyError(f"model = {variant.model!r}: {error}") from error
    if reason := STRATEGIES[variant.strategy].impossible.get(config.model_type):
        raise StudyError(f"strategy = {variant.strategy!r} does not work on {variant.model!r}: {reason}")
    vars(config).pop("new_pooler", None)  # of weights that `new_head` completed
    if parts.is_decoder and config.pad_token_id is None:  # it finds the last token of a text by it
        config.pad_token_id = load_tokenizer(variant).pad_token_id
    if variant.dropout is not None:
        set_dropout(config, variant.dropout)
    return safe | {
        "config": config,
        "use_safetensors": True,
        "dtype": "float32",
        "attn_implementation": attention(),
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # of the head; others are refused
    }


def require_pretrained(model: torch.nn.Module, loading: Mapping[str, Any], variant: Variant) -> None:
    """Raise `StudyError` for a `model` that `from_pretrained` loaded only in part.

    transformers initialises missing weights at random, which is accepted of the head and of BERT's pooler. With
    `keep_head` the head must be present and have the task's classes.
    """
    if variant.keep_head:
        _require_own_head(model, loading, variant)
    parts = find_parts(model.config)  # type: ignore[arg-type]
    mismatched = {name for name, *_ in loading["mismatched_keys"]}
    absent = {name for name in loading["missing_keys"] if "pooler" not in name.split(".")} | mismatched
    if others := sorted(name for name in absent if not parts.is_head(name)):
        what = f"{len(others)} tensors are absent or of another shape, the first {others[0]}"
        raise StudyError(f"the weights of {variant.model!r} do not match config.json: {what}")
    if extra := sorted(name for name in loading["unexpected_keys"] if parts.block(name) is not None):
        raise StudyError(
            f"the weights of {variant.model!r} hold {len(extra)} tensors of blocks that config.json does not define, "
            f"the first {extra[0]}; use the config.json that belongs to them"
        )


def _require_own_head(model: Any, loading: Mapping[str, Any], variant: Variant) -> None:
    """Refuse to keep an absent head, or one whose classes or their order differ from the task's."""
    labels, keep = list(model.config.id2label.values()), f"keep_head: the head of {variant.model!r}"
    own = json.loads(Path(model.name_or_path, "config.json").read_text(encoding="utf-8"))
    for_texts = own.get("problem_type") in (None, model.config.problem_type) and all(
        kind.endswith("ForSequenceClassification") for kind in own.get("architectures") or ()
    )
    unlike = [*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])]
    if any(map(find_parts(model.config).is_head, unlike)) or not for_texts:
        raise StudyError(
            f"{keep} is absent, or does not distinguish {len(labels)} classes of texts; set keep_head to false for a "
            "new head"
        )
    by_number = own.get("id2label") or {}
    names = [str(by_number[number]) for number in sorted(by_number, key=int)]
    generic = all(re.fullmatch(r"LABEL_\d+", name) for name in names)
    if not generic and list(map(str.casefold, names)) != list(map(str.casefold, labels)):
        raise StudyError(
            f"{keep} has the classes {quoted(names)} and the task {quoted(labels)}, in this order; label_names "
            "renames or reorders those of the task, and keep_head: false makes a new head"
        )


def brings_head(model: torch.nn.Module, loading: Mapping[str, Any]) -> bool:
    """Whether the weights hold the output layer of a classification head."""
    output = find_parts(model.config).head[-1]  # type: ignore[arg-type]
    return not any(name.startswith(f"{output}.") for name in loading["missing_keys"])


def lacks_pooler(model: torch.nn.Module, loading: Mapping[str, Any]) -> bool:
    """Whether the weights lack the encoder's pooler, as those of a masked language model of BERT do."""
    is_head = find_parts(model.config).is_head  # type: ignore[arg-type]
    return any("pooler" in name.split(".") and not is_head(name) for name in loading["missing_keys"])


def new_head(model: torch.nn.Module, loading: Mapping[str, Any], variant: Variant) -> str:
    """Replace a pretrained classification head by a new one under the seed, unless `keep_head`.

    Returns a sentence on the head. A pooler that the weights lack is from here on a part of it, which trains and is
    saved with it. Without a pretrained head nothing else changes.
    """
    import torch
    from transformers import set_seed

    pooler = ""
    if lacks_pooler(model, loading):
        model.config.new_pooler = True  # type: ignore[union-attr]
        pooler = " The weights lack the pooler, which is new and trains with the head."
    if variant.keep_head:
        return "The classification head of the pretrained weights is kept (`keep_head`)."
    if not brings_head(model, loading):
        return f"The classification head is newly initialised.{pooler}"
    parts = find_parts(model.config)  # type: ignore[arg-type]
    set_seed(variant.seed)
    with torch.no_grad():
        for name, module in model.named_modules():
            if parts.is_head(name):
                for parameter in module.parameters(recurse=False):
                    parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # else it would stay as loaded
                model._init_weights(module)  # type: ignore[operator]
    return f"A newly initialised classification head replaces that of the pretrained weights.{pooler}"


def peft_config(variant: Variant, encoder: PretrainedConfig) -> PeftConfig | None:
    """peft's configuration of the variant's adapter; None for strategies that train the encoder's own parameters.

    `encoder` is the model's configuration. Raises `StudyError` for parameters that peft refuses.
    """
    if (adapter := STRATEGIES[variant.strategy].adapter) is None:
        return None
    rank = {name: getattr(variant, name) for name in LORA_FIELDS}
    try:
        return adapter.config(encoder, variant.target_modules, variant.peft, **rank)
    except StudyError as error:
        raise StudyError(f"strategy = {variant.strategy!r}, {error}") from error


def set_trainable(model: torch.nn.Module, variant: Variant) -> None:
    """Set `requires_grad` for the parameters that the strategy trains, and for the head; freeze all others.

    Raises `StudyError` for a model without such parameters.
    """
    trains, parts = STRATEGIES[variant.strategy].trains, find_parts(model.config)  # type: ignore[arg-type]
    names = [name for name, _ in model.named_parameters() if not parts.is_head(name)]
    chosen = {name for name in names if trains and trains(name, parts)}
    if trains and not chosen:
        fault = f"{variant.model!r} has no parameter that it would train; full, head and lora-all work on it"
        raise StudyError(f"strategy = {variant.strategy!r}: {fault}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = parts.is_head(name) or name in chosen


def apply_strategy(model: Any, variant: Variant) -> torch.nn.Module:
    """A classifier prepared for the variant's strategy. Raises `StudyError` where peft cannot adapt it."""
    from peft import get_peft_model

    if (config := peft_config(variant, model.config)) is None:
        set_trainable(model, variant)
        return model
    names = [f".{name}" for name, _ in model.named_modules()]
    for asked in variant.target_modules or ():
        if not any(name.endswith(f".{asked}") for name in names):
            layers = ", ".join(name.rpartition(f"{NUMBER}.")[2] for name in find_parts(model.config).modules("all"))
            fault = (
                f"target_modules = {quoted(variant.target_modules)}: {variant.model!r} has no module {quoted(asked)}"
            )
            raise StudyError(f"{fault}; its linear layers are {layers}")
    try:
        return get_peft_model(model, config)
    except Exception as error:  # peft found no such module, or cannot adapt it so: every method says it in its own way
        fields = f"target_modules = {variant.target_modules}" if variant.target_modules else f"peft = {variant.peft}"
        raise StudyError(f"strategy = {variant.strategy!r}, {fields}: {one_line(error, 300)}") from error


def build(folder: Path | str, variant: Variant, labels: Sequence[str] = LABELS) -> torch.nn.Module:
    """The pretrained classifier in `folder`, prepared for the variant's strategy.

    The seed is set first, since the initial weights of head and adapter depend on it. Raises `StudyError` for weights
    that do not load or belong to another model, and for a strategy that cannot work on such a model.
    """
    from transformers import AutoModelForSequenceClassification, set_seed

    options = model_options(variant, labels, folder)
    quiet()
    set_seed(variant.seed)
    model, loading = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    require_pretrained(model, loading, variant)
    new_head(model, loading, variant)
    return read_first_token(apply_strategy(model, variant))


def quiet() -> None:
    """Silence transformers' warning of a new head, and its progress bars."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def read_first_token(model: torch.nn.Module) -> torch.nn.Module:
    """Restrict the last block of `model` to the first token, [CLS], if that is all that the classifier reads.

    After its attention, the block then computes that token only, which saves nine twelfths of its multiplications by
    weights. Its outputs at other positions are meaningless. Weights and logits are unchanged: two short texts are
    classified both ways, and where their logits differ, as with a mean over tokens, the model stays as it is.
    """
    import torch

    parts = find_parts(model.config)  # type: ignore[arg-type]
    narrowed = re.compile(pattern([*parts.attention[-1:], *parts.feed_forward[:-1]], number=str(parts.blocks - 1)))
    whole, hooks = _two_texts(model), []
    for name, module in model.named_modules():
        if narrowed.fullmatch(name):
            hooks.append(module.register_forward_pre_hook(_first_token))
    first = _two_texts(model)
    if whole is None or first is None or not torch.allclose(whole, first, rtol=1e-4, atol=1e-5):
        for hook in hooks:
            hook.remove()
    return model


def read_every_token(model: torch.nn.Module) -> torch.nn.Module:
    """Undo `read_first_token`, so that the last block's outputs at all positions can be read."""
    for module in model.modules():
        for number, hook in list(module._forward_pre_hooks.items()):
            if hook is _first_token:
                del module._forward_pre_hooks[number]
    return model


def _two_texts(model: torch.nn.Module) -> torch.Tensor | None:
    """The logits of two short texts, (2, classes); None where the model does not classify them."""
    import torch

    pad, training = getattr(model.config, "pad_token_id", None) or 0, model.training  # type: ignore[union-attr]
    words = [number for number in range(8) if number != pad]
    batch = pad_batch([{"input_ids": words[:4]}, {"input_ids": words[4:6]}], pad)
    try:
        with torch.no_grad():
            device = next(model.parameters()).device
            return model.eval()(**{name: tensor.to(device) for name, tensor in batch.items()}).logits.float()
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None
    finally:
        model.train(training)


def _first_token(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The first token of a layer's input of shape (texts, tokens, width).

    It is copied: a frozen layer would multiply a view text by text.
    """
    states, *others = inputs
    return states[:, :1].contiguous(), *others


def merged(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of a trained `model` with its adapter merged into the weights: a plain transformers classifier."""
    from peft.utils import ModulesToSaveWrapper

    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # peft unwraps single layers only; RoBERTa's head is two
            plain.set_submodule(name, module.modules_to_save["default"])
    return read_first_token(plain.merge_and_unload())  # type: ignore[operator]


def load(folder: Path, labels: Sequence[str] | None = None, base: Path | None = None) -> torch.nn.Module:
    """A run's saved model (its `model/`): the adapter on its base model, or all weights.

    The names of an adapter's classes are `labels`, else those in `CLASSIFIER` beside it; its base model is in the
    folder `base`, else where the adapter says. Raises `StudyError` where there are no names, where the base model is
    gone, and where adapter, base model and classes do not match.
    """
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForSequenceClassification

    adapted, source, options = (folder / "adapter_config.json").exists(), str(folder), dict[str, Any]()
    if adapted:
        config = PeftConfig.from_pretrained(str(folder))
        source = str(base or config.base_model_name_or_path)
        if Path(source).is_absolute() and not Path(source).is_dir():
            raise StudyError(
                f"{folder} does not load on {source}: this folder of its base model is gone; restore it, or write "
                "where it is now into adapter_config.json (base_model_name_or_path)"
            )
        options = {"revision": config.revision, "ignore_mismatched_sizes": True}  # it may have a head of its own
    if adapted or labels:
        options |= class_settings(labels or read_classes(folder))
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            source,
            **options,
            trust_remote_code=False,
            dtype="float32",  # as it was trained, whatever its base model was published in
            attn_implementation=attention(),
        )
        if adapted:  # separately, since every tensor of the adapter must fit
            model = PeftModel.from_pretrained(model, str(folder))
    except (OSError, RuntimeError, ValueError) as error:
        raise StudyError(f"{folder} does not load on {source}: {one_line(error, 300)}") from error
    return read_first_token(model).eval()


def write_classes(folder: Path, model: Any) -> None:
    """Write the configuration of the classifier `model` beside its adapter, for `read_classes`."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model.get_base_model()).__name__]
    config.to_json_file(folder / CLASSIFIER)


def read_classes(folder: Path) -> tuple[str, ...]:
    """The class names of an adapter, in order. Raises `StudyError` where they are absent."""
    try:
        names = json.loads((folder / CLASSIFIER).read_text(encoding="utf-8"))["id2label"]
        return tuple(names[str(number)] for number in range(len(names)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{folder} holds an adapter and no {CLASSIFIER} with the names of its classes in their order (id2label); "
            "copy that file from the run that trained it, or give the names as labels"
        ) from error
