"""The benchmark measures both ways at the same work, and the plain way pads every review to the window."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmark
from peft_study.data.reviews import load_reviews
from peft_study.study.variant import Variant


@pytest.mark.slow
def test_training_and_inference_are_measured_both_ways_and_compared_round_by_round(
    tiny: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--model", str(tiny["bert"]), "--dataset", str(tiny["reviews"])]
    sizes = ["--rounds", "2", "--batch-size", "4", "--max-length", "32", "--reviews", "12"]
    assert benchmark.main([*data, *sizes, "--strategies", "full", "lora"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["training", "training", "inference", "inference"]
    for row in rows:
        middle, low, high = map(float, re.search(r"(\d+\.\d+) \[(\d+\.\d+), (\d+\.\d+)\]", row).groups())  # type: ignore[union-attr]
        assert 0 < low <= middle <= high
    assert [row.split()[-1] for row in rows if "Full" in row] == ["1.00", "1.00"]


def test_the_plain_way_pads_every_review_to_the_window(variant: Callable[..., Variant]) -> None:
    asked = variant(strategy="lora")
    plain = benchmark.Plain(asked, load_reviews(asked))
    assert {len(row["input_ids"]) for row in [*plain.train_set, *plain.test_set]} == {asked.max_length}
    assert next(plain.model.parameters()).dtype.itemsize == 4
