"""Floating-point operations against counts by hand, and what inference costs with and without merging."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_trainings import make_run

from peft_study.study.variant import Variant
from peft_study.training import cost
from peft_study.training.callbacks import Timer
from peft_study.training.model import build, merged

Make = Callable[..., Variant]


def batch(reviews: int, length: int) -> dict[str, torch.Tensor]:
    """Random reviews of one length."""
    ids = torch.randint(5, 40, (reviews, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def labelled(reviews: int = 4, length: int = 20) -> dict[str, torch.Tensor]:
    return batch(reviews, length) | {"labels": torch.arange(reviews) % 2}


def model(variant: Variant) -> Any:
    return build(variant.model, variant)


class PretendEvent:
    """A CUDA event of a device that takes 30 ms for every one that it is asked to record."""

    recorded = waited = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        PretendEvent.recorded += 1
        self.moment = 30 * self.recorded

    def synchronize(self) -> None:
        PretendEvent.waited += 1

    def elapsed_time(self, end: "PretendEvent") -> int:
        return end.moment - self.moment


def test_on_a_gpu_steps_are_timed_by_events_for_which_no_step_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", PretendEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: pytest.fail("the program waits for the device"))
    timer = Timer()
    for _ in range(4):
        timer.on_step_begin()
        timer.on_step_end()
    assert PretendEvent.recorded == 8 and PretendEvent.waited == 0
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert timer.state()["steps"] == [0.03] * 4 == timer.state()["steps"]


def test_steps_scatter_beside_other_programs_and_not_by_the_length_of_their_texts() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(50, 500, 3000)
    quiet = (0.02 + 0.0002 * tokens) * rng.lognormal(0, 0.05, 3000)
    quiet[:10] *= 8  # the first steps are slow
    assert 1.05 < cost.step_scatter(quiet, tokens) < 1.25 < np.quantile(quiet, 0.9) / np.quantile(quiet, 0.1)
    busy = quiet * np.where(rng.random(3000) < 0.3, 2, 1)
    assert 1.8 < cost.step_scatter(busy, tokens) < 2.5
    assert cost.step_scatter(quiet[:20], np.zeros(20)) > 1, "tokens that nobody counted"
    assert cost.step_scatter([0.5], np.array([80])) == 1


def test_operations_are_those_of_the_matrix_products_by_hand(variant: Make) -> None:
    reviews, length, h, f, blocks = 4, 20, 32, 64, 2
    tokens = reviews * length
    whole, last = tokens * (4 * h * h + 2 * h * f), tokens * 3 * h * h + reviews * (h * h + 2 * h * f)
    layers = 2 * ((blocks - 1) * whole + last)  # the last block ends with one token of each review
    attention = blocks * 2 * 2 * reviews * length * length * h
    head = 2 * reviews * (h * h + h * 2)
    forward = layers + attention + head
    full = cost.flops(model(variant(strategy="full")), [labelled(reviews, length)])
    assert full == pytest.approx(3 * forward, rel=0.01)  # the gradients of inputs and of weights are as much again each
    frozen = cost.flops(model(variant(strategy="head")), [labelled(reviews, length)])
    assert frozen == pytest.approx(layers + attention + 3 * head, rel=0.01)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_step_is_as_many_batches_as_are_accumulated(variant: Make, tmp_path: Path, accumulation: int) -> None:
    run = make_run(variant(strategy="lora", epochs=1.0, gradient_accumulation=accumulation))
    measured = run.train(tmp_path).figures["flops_per_step"]
    ids = [len(example["input_ids"]) for example in run.examples["train"]]
    low, high = (cost.flops(run.model, [labelled(8, length)]) for length in (min(ids), max(ids)))
    assert accumulation * low <= measured <= accumulation * high


@pytest.mark.parametrize("strategy", ["lora", "ia3", "adalora"])
def test_a_merged_model_says_the_same_and_the_model_itself_stays_unmerged(variant: Make, strategy: str) -> None:
    made = model(variant(strategy=strategy)).eval()
    for name, parameter in made.named_parameters():
        if ".default" in name and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    before = {name: parameter.clone() for name, parameter in made.named_parameters()}
    found = cost.inference(made, batch(3, 20), merges=True, repeats=3)
    assert found["merge_difference"] is not None and found["merge_difference"] <= 1e-5
    for kind in ("seconds", "merged_seconds"):
        low, high = found[f"{kind}_quartiles"]
        assert 0 < low <= found[kind] <= high
    assert all(torch.equal(parameter, before[name]) for name, parameter in made.named_parameters())
    found = cost.inference(made, batch(2, 10), merges=False, repeats=3)
    assert found["merged_seconds"] is None and found["merge_difference"] is None


def test_after_training_in_bf16_the_model_computes_in_float32_again(variant: Make, tmp_path: Path) -> None:
    run = make_run(variant(strategy="lora", epochs=0.2, precision="bf16"))
    before = run.model.forward
    run.train(tmp_path)
    assert run.model.forward == before
    found = cost.inference(run.model, batch(3, 20), merges=True, repeats=3)
    assert found["merge_difference"] is not None and found["merge_difference"] <= 1e-5


def test_a_merged_model_reads_the_first_token_alone_too(variant: Make, families: dict[str, str]) -> None:
    made = model(variant(strategy="lora-all", model=families["bert"]))
    assert cost.flops(merged(made), [labelled()]) < cost.flops(made, [labelled()])
