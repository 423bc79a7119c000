"""How a strategy trains an encoder: some of its own parameters, or an adapter of peft.

torch, transformers and peft are imported within functions, so that reading a study stays fast.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_study.errors import StudyError, unknown
from peft_study.strategies.encoders import Parts, find_parts, pattern

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig, TrainerCallback, TrainingArguments

LORA_FIELDS = {"lora_r": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}  # of a variant -> of peft
_EXPECTED = (  # warnings of methods that work as intended
    "`is_gradient_checkpointing` is deprecated",
    "Unsupported layer type .*LayerNorm",
    "Failed to load the CUDA extension",  # BOFT's, which has a fallback
    "fan_in_fan_out is set to",  # LoRA's, which adjusts it to GPT-2's layers
    "Setting boft_n_butterfly_factor to 1",
    "Sparse invariant checks are implicitly disabled",  # SHiRA's
)
# peft accepts "eva" and "lora_ga" too, and without activations or gradients leaves the weights random.
_INITS = ("gaussian", "mica", "olora", "orthogonal", "pissa")
UNKNOWN_STEPS = 10**9  # AdaLoRA requires a number before the steps are known; `budget_callback` sets it
LORA_PLUS_RATIO = 16.0  # of the rate of B to that of A: the paper's recommendation


def last_blocks(count: int) -> Callable[[str, Parts], bool]:
    """Whether a parameter, by its name, belongs to the last `count` blocks or to the layers after them."""

    def trains(name: str, parts: Parts) -> bool:
        block = parts.block(name)
        if block is None:
            return any(name.startswith(f"{module}.") for module in parts.after)
        return block >= parts.blocks - count

    return trains


class Adapter:
    """An adapter of peft; the head trains in full.

    `method` is the name of peft's configuration class. `targets` names the adapted modules: those of `Parts.modules`,
    or none ("") for methods that adapt the input. `values` are peft parameters that the strategy sets; a function takes
    the encoder's configuration. A study's own `peft` overrides all of them.
    """

    def __init__(self, method: str, targets: str = "query-value", **values: Any) -> None:
        self.method, self.targets, self.values = method, targets, values

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields of a variant that this adapter uses and not every strategy does."""
        rank = {"LoraConfig": tuple(LORA_FIELDS), "AdaLoraConfig": ("lora_alpha", "lora_dropout")}  # AdaLoRA: init_r
        return (*rank.get(self.method, ()), *(["target_modules"] if self.targets else []), "peft")

    @property
    def merges(self) -> bool:
        """Whether the adapter can be merged into the weights: not into the input, and no router that reads the text."""
        return self.targets != "" and self.method != "LilyConfig"

    def config(
        self,
        encoder: PretrainedConfig,
        target_modules: Sequence[str] | None = None,
        own: Mapping[str, Any] | None = None,
        **rank: float,
    ) -> PeftConfig:
        """peft's configuration of the adapter on an `encoder` of this configuration.

        `target_modules` replaces the strategy's own modules, `own` are further parameters of peft, `rank` the values of
        `LORA_FIELDS`. Raises `StudyError` for parameters that peft does not know or refuses.
        """
        import peft

        kind, own = getattr(peft, self.method), own or {}
        self.virtual_tokens(own)
        parts = find_parts(encoder)
        values: dict[str, Any] = {"task_type": "SEQ_CLS", "modules_to_save": list(parts.head)}
        if target_modules:
            values["target_modules"] = list(target_modules)
        elif self.targets:
            if not (modules := parts.modules(self.targets)):
                fault = f"model type {encoder.model_type!r} has no {self.targets} layers to adapt"
                raise StudyError(f"{fault}; full, bitfit, ln and lora-all work on it, or name target_modules")
            values["target_modules"] = pattern(modules)
        values |= {LORA_FIELDS[name]: value for name, value in rank.items() if name in self.reads}
        values |= {key: value(encoder) if callable(value) else value for key, value in self.values.items()}
        # a study cannot set parameters that the model or a field of the variant determines
        fixed = {*inspect.signature(peft.PeftConfig).parameters, "modules_to_save", "target_modules"}
        fixed |= {LORA_FIELDS[name] for name in self.reads if name in LORA_FIELDS}
        allowed = [name for name in inspect.signature(kind).parameters if name not in fixed]
        if strange := [name for name in own if name not in allowed]:
            raise StudyError(f"peft: {unknown('parameter', strange[0], allowed)} (those of peft's {self.method})")
        if isinstance(start := own.get("init_lora_weights"), str) and not start.startswith(_INITS):
            raise StudyError(f"peft: {unknown('init_lora_weights', start, _INITS)}, true and false")
        warnings.filterwarnings("ignore", "|".join(_EXPECTED))
        try:
            return kind(**values | copy.deepcopy(dict(own)))  # peft fills the lists that it is given
        except (ValueError, TypeError) as error:
            raise StudyError(f"peft = {own}: {error}") from error

    def virtual_tokens(self, own: Mapping[str, Any]) -> int:
        """The number of positions that the adapter takes from the input, given the parameters `own` of peft."""
        if (count := (self.values | dict(own)).get("num_virtual_tokens")) is None:
            return 0
        if type(count) is not int or count < 1:
            raise StudyError(f"peft = {own}: num_virtual_tokens = {count!r}; it must be a whole number above 0")
        return count


def feed_forward_out(encoder: PretrainedConfig) -> str:
    """The second linear layer of every feed-forward part, whose input (IA)³ scales instead of its output."""
    return pattern(find_parts(encoder).modules("feed-forward-out"))


def hidden_size(encoder: PretrainedConfig) -> int:
    """The hidden size of the encoder."""
    return int(encoder.hidden_size)


def at_most(rank: int) -> Callable[[PretrainedConfig], int]:
    """peft's default `rank`, lowered on encoders whose hidden size is too small for it."""
    return lambda encoder: min(rank, hidden_size(encoder) // 4)


def divisor(limit: int) -> Callable[[PretrainedConfig], int]:
    """The largest divisor of the hidden size up to `limit`, for methods that cut weights into equal parts."""
    return lambda encoder: next(size for size in range(limit, 0, -1) if hidden_size(encoder) % size == 0)


PROMPT: Mapping[str, Any] = {  # peft cannot read these sizes from every encoder's configuration
    "num_virtual_tokens": 16,
    "num_transformer_submodules": 1,
    "token_dim": hidden_size,
    "num_layers": lambda encoder: int(encoder.num_hidden_layers),
    "num_attention_heads": lambda encoder: int(encoder.num_attention_heads),
}


def lora_plus(model: torch.nn.Module, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """AdamW with a higher rate for B than for A [hayou2024]; the arguments' rate is that of A."""
    import torch
    from peft.optimizers import create_loraplus_optimizer

    return create_loraplus_optimizer(  # type: ignore[no-any-return]
        model,  # type: ignore[arg-type]
        torch.optim.AdamW,
        lr=arguments.learning_rate,
        loraplus_lr_ratio=LORA_PLUS_RATIO,
        loraplus_weight_decay=arguments.weight_decay,
    )


def budget_callback(parameters: Mapping[str, Any]) -> TrainerCallback:
    """AdaLoRA's schedule [zhang2023]: pruning starts after a tenth of the steps and ends when half of them are left.

    `tinit`, `tfinal` and `deltaT` among the study's `parameters` of peft override it.
    """
    from transformers import TrainerCallback

    class Budget(TrainerCallback):  # type: ignore[misc]
        pattern: Any = None  # which ranks are left

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            config, steps = model.peft_config["default"], state.max_steps
            planned = {"tinit": steps // 10, "tfinal": steps // 2, "deltaT": max(1, steps // 100)}
            for name, value in (planned | dict(parameters) | {"total_step": steps}).items():
                setattr(config, name, value)
            if config.tinit + config.tfinal >= config.total_step:
                raise StudyError(
                    f"peft: tinit = {config.tinit} and tfinal = {config.tfinal} leave none of the {steps} steps for "
                    "pruning; lower them, or train longer"
                )

        def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            config = model.peft_config["default"]
            config.rank_pattern = self.pattern
            model.base_model.update_and_allocate(state.global_step + 1)  # the Trainer counts the step after this
            # With a pattern peft saves the ranks that are left, and cannot load a layer that has none; without one it
            # saves all, the pruned ones as zeros.
            self.pattern, config.rank_pattern = config.rank_pattern, None

    return Budget()
