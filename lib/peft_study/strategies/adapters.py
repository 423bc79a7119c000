"""The ways in which strategies prepare a model: choose among its own parameters, or add an adapter with peft.

torch, transformers and peft are imported where a model is made, so that reading a study stays instant.
"""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from peft_study.errors import StudyError, unknown
from peft_study.strategies.encoders import Architecture, architecture, in_blocks, is_part

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel, TrainerCallback, TrainingArguments

    from peft_study.study.variant import Variant

LORA_FIELDS = {"lora_r": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}  # of a variant -> of peft
_NO_NEWS = (  # warnings of methods that work as they should
    "`is_gradient_checkpointing` is deprecated",
    "Unsupported layer type .*LayerNorm",
    "Failed to load the CUDA extension",  # BOFT's; it has another way
    "Setting boft_n_butterfly_factor to 1",
    "Sparse invariant checks are implicitly disabled",  # SHiRA's
)
_OURS = {  # parameters of peft that a study cannot set there: they follow from the model, or are fields of a variant
    "task_type",
    "peft_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "modules_to_save",
    "target_modules",
}
UNKNOWN_STEPS = 10**9  # AdaLoRA wants a number before the training is planned; `budget_callback` puts the real one
LORA_PLUS_RATIO = 16.0  # of the rate of B to that of A: the paper's recommendation


def train_only(wanted: Callable[[str], bool]) -> Callable[[PreTrainedModel, Variant], torch.nn.Module]:
    """A `prepare` that trains the backbone's parameters whose name is `wanted`, and the head."""

    def prepare(model: PreTrainedModel, variant: Variant) -> torch.nn.Module:
        head = architecture(model.config.model_type).head
        for name, parameter in model.named_parameters():
            parameter.requires_grad = wanted(name) or is_part(name, head)
        return model

    return prepare


def train_last(blocks: int) -> Callable[[PreTrainedModel, Variant], torch.nn.Module]:
    """A `prepare` that trains the last `blocks` blocks of the encoder, what follows them, and the head."""

    def prepare(model: PreTrainedModel, variant: Variant) -> torch.nn.Module:
        count = model.config.num_hidden_layers
        last = rf".*\.layer\.({'|'.join(str(i) for i in range(max(0, count - blocks), count))})\..*|.*\.pooler\..*"
        return train_only(lambda name: re.fullmatch(last, name) is not None)(model, variant)

    return prepare


class Adapter:
    """A `prepare` that adds one of peft's adapters to the encoder; the head trains in full.

    `method` is the name of peft's configuration class. `targets` says which modules it adapts: a name that
    `Architecture.linears` knows, `norms`, or nothing for methods that adapt the input. `values` are peft parameters
    that the strategy sets; a function takes the model's configuration. The variant's `peft` overrides all of them.
    """

    def __init__(self, method: str, targets: str = "", **values: Any) -> None:
        self.method, self.targets, self.values = method, targets, values

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields of a variant that this adapter reads and not every strategy does."""
        rank = {"LoraConfig": tuple(LORA_FIELDS), "AdaLoraConfig": ("lora_alpha", "lora_dropout")}  # AdaLoRA: init_r
        return (*rank.get(self.method, ()), *(["target_modules"] if self.targets else []), "peft")

    def __call__(self, model: PreTrainedModel, variant: Variant) -> torch.nn.Module:
        """The model with the adapter in it. Raises `StudyError` where peft refuses the parameters or the modules."""
        from peft import get_peft_model

        config = self.config(model.config, variant)
        for message in _NO_NEWS:
            warnings.filterwarnings("ignore", message)
        try:
            return get_peft_model(model, config)
        except (ValueError, AssertionError, TypeError) as error:  # peft found no such module, or cannot adapt it so
            where = f"target_modules = {variant.target_modules}" if variant.target_modules else _named(variant)
            raise StudyError(f"{where}: {error}") from error

    def config(self, encoder: PretrainedConfig, variant: Variant) -> PeftConfig:
        """peft's configuration for a variant on an encoder; a `StudyError` for parameters that it does not take."""
        import peft

        kind = getattr(peft, self.method)
        family = architecture(encoder.model_type)
        values = {"task_type": "SEQ_CLS", "modules_to_save": list(family.head)}
        if self.targets:
            values["target_modules"] = variant.target_modules or self._targets(family)
        values |= {LORA_FIELDS[name]: getattr(variant, name) for name in self.reads if name in LORA_FIELDS}
        values |= {key: value(encoder) if callable(value) else value for key, value in self.values.items()}
        ours = _OURS | {LORA_FIELDS[name] for name in self.reads if name in LORA_FIELDS}
        known = [name for name in inspect.signature(kind).parameters if name not in ours]
        for name in variant.peft:
            if name not in known:
                told = unknown("parameter", name, known)
                raise StudyError(f"strategy = {variant.strategy!r}, peft: {told} (those of peft's {self.method})")
        try:
            return kind(**values | copy.deepcopy(variant.peft))  # peft fills the lists it is given
        except (ValueError, TypeError) as error:
            raise StudyError(f"{_named(variant)}: {error}") from error

    def virtual_tokens(self, variant: Variant) -> int:
        """How many of the encoder's positions the adapter takes from the reviews."""
        count = ({"num_virtual_tokens": 0} | self.values | variant.peft)["num_virtual_tokens"]
        if not isinstance(count, int) or count < 0:
            raise StudyError(f"{_named(variant)}: num_virtual_tokens = {count!r}; it must be a whole number above 0")
        return count

    def _targets(self, family: Architecture) -> str | list[str]:
        return list(family.norms) if self.targets == "norms" else in_blocks(family.linears(self.targets))


def _named(variant: Variant) -> str:
    """A variant's strategy and what it sets of it, for an error."""
    return f"strategy = {variant.strategy!r}" + (f" with peft = {variant.peft}" if variant.peft else "")


def feed_forward_out(encoder: PretrainedConfig) -> str:
    """The second linear layer of every feed-forward part, where (IA)³ scales the input and not the output."""
    return in_blocks(architecture(encoder.model_type).linears("feed-forward-out"))


def hidden_size(encoder: PretrainedConfig) -> int:
    """The length of the vector that the encoder makes of a token."""
    return int(encoder.hidden_size)


def at_most(rank: int) -> Callable[[PretrainedConfig], int]:
    """peft's default `rank`, or less on an encoder that is too narrow for it."""
    return lambda encoder: min(rank, hidden_size(encoder) // 4)


PROMPT: Mapping[str, Any] = {  # peft cannot read these sizes from every encoder's configuration
    "num_virtual_tokens": 16,
    "num_transformer_submodules": 1,
    "token_dim": hidden_size,
    "num_layers": lambda encoder: int(encoder.num_hidden_layers),
    "num_attention_heads": lambda encoder: int(encoder.num_attention_heads),
}


def lora_plus(model: torch.nn.Module, variant: Variant, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """AdamW with a higher rate for B than for A [hayou2024]; the variant's rate is that of A."""
    import torch
    from peft.optimizers import create_loraplus_optimizer

    optimizer: torch.optim.Optimizer = create_loraplus_optimizer(
        model,  # type: ignore[arg-type]
        torch.optim.AdamW,
        lr=variant.rate,
        loraplus_lr_ratio=LORA_PLUS_RATIO,
        loraplus_weight_decay=variant.weight_decay,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
    )
    return optimizer


def budget_callback(variant: Variant) -> TrainerCallback:
    """AdaLoRA's schedule [zhang2023]: after a tenth of the steps it prunes, until half of them are left.

    Any of `tinit`, `tfinal` and `deltaT` that the variant's `peft` names is taken instead.
    """
    from transformers import TrainerCallback

    class Budget(TrainerCallback):  # type: ignore[misc]
        pattern: Any = None  # which ranks are left

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            config, steps = model.peft_config["default"], state.max_steps
            own = {"tinit": steps // 10, "tfinal": steps // 2, "deltaT": max(1, steps // 100)}
            for name, value in (own | {"total_step": steps} | variant.peft).items():
                setattr(config, name, value)
            if config.tinit + config.tfinal >= config.total_step:
                raise StudyError(
                    f"peft: tinit = {config.tinit} and tfinal = {config.tfinal} leave none of the {steps} steps for "
                    "pruning; lower them, or train for longer"
                )

        def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            config = model.peft_config["default"]
            config.rank_pattern = self.pattern
            model.base_model.update_and_allocate(state.global_step + 1)  # the Trainer counts the step after this
            # With a pattern peft saves the ranks that are left, and cannot load a layer that has none; without one it
            # saves all, the pruned ones as zeros.
            self.pattern, config.rank_pattern = config.rank_pattern, None

    return Budget()
