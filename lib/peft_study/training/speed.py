"""What makes a model faster without changing what it computes. lib/NOTES.md has what each is worth, and what was worth
nothing.
"""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft_study.strategies.encoders import architecture, in_blocks

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def read_first_token(model: torch.nn.Module) -> torch.nn.Module:
    """Let the last block of `model`'s encoder compute no more than the classifier reads: the first token, [CLS].

    From the output of its attention on, the block goes on with that token alone, and leaves out nine twelfths of its
    multiplications by weights. What it returns at the other positions means nothing. Weights and logits stay the same.
    """
    family, last = architecture(model.config.model_type), model.config.num_hidden_layers - 1  # type: ignore[union-attr]
    narrowed = re.compile(in_blocks([family.attention[3], family.feed_forward[0]], number=str(last)))
    for name, module in model.named_modules():
        if narrowed.fullmatch(name):
            module.register_forward_pre_hook(_first_token)
    return model


def _first_token(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Of a layer's input, shape (reviews, tokens, width), the first token.

    It is copied: a frozen layer would multiply a view of another tensor review by review.
    """
    states, *others = inputs
    return states[:, :1].contiguous(), *others


@contextmanager
def lean_lora(model: torch.nn.Module) -> Iterator[None]:
    """Within it, LoRA's layers compute B(scale · Ax) where peft has scale · B(Ax): r numbers a token to scale, not all.

    Nor is x cast to the precision of A's weights only to be cast back by autocast. Only plain LoRA: layers with a
    variant of peft's (DoRA, say) stay as they are.
    """
    from peft.tuners.lora.layer import Linear

    layers = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    for layer in layers:
        layer.lora_variant, layer.cast_input_dtype_enabled = dict.fromkeys(layer.lora_A, _ScaledInside), False
    try:
        yield
    finally:
        for layer in layers:
            layer.lora_variant, layer.cast_input_dtype_enabled = {}, True


def _is_plain(layer: Any) -> bool:
    """Whether a layer of LoRA has no variant, nor a bias in B, which peft scales as well (`lora_bias`)."""
    return not layer.lora_variant and all(b.bias is None for b in layer.lora_B.values())


class _ScaledInside:
    """LoRA's forward pass, in the place where peft takes those of its variants."""

    @staticmethod
    def forward(layer: Any, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **_: Any) -> torch.Tensor:
        """The base layer's `result` with the adapter's part added, as `LoraVariant.forward` is documented."""
        inner = layer.lora_A[active_adapter](layer.lora_dropout[active_adapter](x))
        return result + layer.lora_B[active_adapter](inner * layer.scaling[active_adapter])


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to a gigabyte, rather than hand it back and ask for it at the next step.

    Every step allocates the same large tensors anew, and the system fills every page of fresh memory with zeros first.
    With glibc only; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        c = ctypes.CDLL(None)
        c.mallopt(_M_MMAP_MAX, 0)
        c.mallopt(_M_TRIM_THRESHOLD, 2**30)
