"""What makes a model faster leaves its logits, its gradients, its saved weights and its merged copy as they were."""

import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from made_pairs import pairs
from peft.tuners.lora.layer import Linear

from peft_study.study.variant import Variant
from peft_study.training import cost, speed
from peft_study.training import model as models
from peft_study.training.prediction import pad_batch

Make = Callable[..., Variant]


def batch() -> dict[str, torch.Tensor]:
    rows = [torch.randint(5, 40, (length,), generator=torch.Generator().manual_seed(length)) for length in (30, 12, 1)]
    return pad_batch(rows, pad=0) | {"labels": torch.tensor([0, 1, 1])}


def shaken(model: Any) -> Any:
    """The model with every trainable weight moved, so that adapters do something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=generator) * 0.05
    return model.eval()


def learned(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The logits of a pass, and the gradients that it leaves."""
    model.zero_grad()
    output = model(**batch())
    output.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return output.logits.detach(), gradients


@pytest.mark.parametrize(("strategy", "family"), pairs())
def test_the_first_token_alone_gives_the_same_logits_and_gradients(
    variant: Make, families: dict[str, str], strategy: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = variant(strategy=strategy, model=families[family])
    narrow = shaken(models.build(asked.model, asked))
    monkeypatch.setattr(models, "read_first_token", lambda model: model)
    wide = shaken(models.build(asked.model, asked))
    (logits, gradients), (expected, wanted) = learned(narrow), learned(wide)
    torch.testing.assert_close(logits, expected)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)


def test_a_merged_model_reads_the_first_token_alone_too(variant: Make, families: dict[str, str]) -> None:
    asked = variant(strategy="lora-all", model=families["bert"])
    made = models.build(asked.model, asked)
    assert cost.flops(models.merged(made), [batch()]) < cost.flops(made, [batch()])


@pytest.mark.parametrize("strategy", ["lora", "lora-all", "rslora", "dora", "adalora", "full"])
def test_the_scale_inside_lora_gives_the_same_logits_and_gradients(variant: Make, strategy: str) -> None:
    asked = variant(strategy=strategy, lora_r=4, lora_alpha=12)
    made = shaken(models.build(asked.model, asked))
    expected, wanted = learned(made)
    with speed.lean_lora(made):
        logits, gradients = learned(made)
    torch.testing.assert_close(logits, expected)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)


def test_a_bias_of_lora_is_scaled_as_peft_scales_it(variant: Make) -> None:
    asked = variant(strategy="lora", lora_r=4, lora_alpha=12, peft={"lora_bias": True})
    made = shaken(models.build(asked.model, asked))
    expected, _ = learned(made)
    with speed.lean_lora(made):
        torch.testing.assert_close(learned(made)[0], expected)


def test_the_scale_is_inside_while_training_and_back_in_its_place_afterwards(variant: Make) -> None:
    asked = variant(strategy="lora")
    made = models.build(asked.model, asked)
    layers = [module for module in made.modules() if isinstance(module, Linear)]
    with pytest.raises(KeyboardInterrupt), speed.lean_lora(made):
        assert all(layer.lora_variant for layer in layers)
        raise KeyboardInterrupt
    assert layers and not any(layer.lora_variant for layer in layers)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_is_freed_stays_with_the_process() -> None:
    """Of a large tensor that is made again and again, the pages are asked for once."""
    code = """
import resource, sys, torch
from peft_study import speed
if sys.argv[1:]: speed.keep_freed_memory()
for _ in range(10): torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = [
        int(subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True).stdout)
        for arguments in ([], ["keep"])
    ]
    assert faults[1] < faults[0] / 10
