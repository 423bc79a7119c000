"""Too little memory: a message that says what to lower, or smaller batches with the same steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_folders import reviews

from peft_study.errors import StudyError
from peft_study.report import run_claims
from peft_study.study.variant import Variant
from peft_study.training import memory
from peft_study.training import trainer as training
from peft_study.training.trainer import Prepared

Make = Callable[..., Variant]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Makes every model that is built run out of memory, as CUDA does, in training on more than so many reviews.

    Returns a list that collects the sizes of the batches that it was given, in training.
    """

    def set_to(reviews: int, after: int = 0, error: type[RuntimeError] = torch.OutOfMemoryError) -> list[int]:
        seen: list[int] = []

        def check(model: torch.nn.Module, inputs: Any, values: dict[str, Any]) -> None:
            if model.training:
                seen.append(len(values["input_ids"]))
                if seen[-1] > reviews and len(seen) > after:
                    raise error("CUDA out of memory. Tried to allocate 2.00 GiB.")

        def build(*arguments: Any) -> torch.nn.Module:
            model = built(*arguments)
            model.register_forward_pre_hook(check, with_kwargs=True)
            return model

        built = training.build
        monkeypatch.setattr(training, "build", build)
        return seen

    return set_to


def trained(variant: Variant, folder: Path) -> tuple[Prepared, training.Training]:
    prepared = training.prepare(variant)
    return prepared, training.train(prepared, folder)


def test_the_message_names_what_to_lower_and_to_what(variant: Make, tmp_path: Path, limit: Any) -> None:
    limit(4)
    with pytest.raises(StudyError) as raised:
        trained(variant(batch_size=8), tmp_path)
    told = str(raised.value)
    assert "batch_size = 8" in told and "max_length = 32" in told and "\n" not in told
    assert "batch_size = 4 with gradient_accumulation = 2" in told and "auto_batch" in told
    assert not (tmp_path / "checkpoints").exists()


def test_another_failure_is_not_taken_for_too_little_memory() -> None:
    def fails() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        memory.attempt(fails)


def test_a_real_allocation_that_is_too_large_counts_as_too_little_memory() -> None:
    assert memory.attempt(lambda: torch.empty(2**58, dtype=torch.uint8)) is None


def test_smaller_batches_give_what_asking_for_them_gives(
    variant: Make, tmp_path: Path, limit: Any, capsys: Any
) -> None:
    fields: dict[str, Any] = {"strategy": "adalora", "dropout": 0.1}  # which keeps a state beside its weights
    asked, result = trained(variant(batch_size=4, gradient_accumulation=2, **fields), tmp_path / "asked")
    seen = limit(4, after := 9)  # after some steps the weights have moved: what is begun anew must not start from them
    found, automatic = trained(variant(batch_size=8, auto_batch=True, **fields), tmp_path / "found")
    assert max(seen[: after + 1]) == 8 and max(seen[after + 1 :]) == 4
    assert np.array_equal(found.predict("test").logits, asked.predict("test").logits)
    assert [entry.get("loss") for entry in automatic.log] == [entry.get("loss") for entry in result.log]
    used = {name: automatic.figures[name] for name in ("asked_batch_size", "batch_size", "gradient_accumulation")}
    assert used == {"asked_batch_size": 8, "batch_size": 4, "gradient_accumulation": 2}
    assert automatic.figures["steps"] == len(automatic.step_seconds) == result.figures["steps"]
    assert "not enough for a batch of 8 reviews; it begins anew with 4" in capsys.readouterr().out
    assert "each step averaged over 2 batches of 4" in run_claims.cost(automatic)
    assert "memory was not enough" not in run_claims.cost(result)


def test_one_review_that_does_not_fit_is_the_end(variant: Make, tmp_path: Path, limit: Any) -> None:
    seen = limit(0)
    with pytest.raises(StudyError, match="batch_size = 1 and max_length = 32; lower max_length") as raised:
        trained(variant(batch_size=6, auto_batch=True), tmp_path)
    assert seen == [6, 3, 1] and "auto_batch" not in str(raised.value)


def test_a_model_that_begins_anew_has_the_classes_of_its_data(variant: Make, tmp_path: Path, limit: Any) -> None:
    texts = reviews(60)
    texts["label"] = [("good", "bad", "so-so")[row % 3] for row in range(len(texts))]
    texts.to_json(tmp_path / "texts.jsonl", orient="records", lines=True)
    limit(4)
    fields: dict[str, Any] = {"dataset": str(tmp_path / "texts.jsonl"), "train_size": 30, "test_size": 12}
    prepared, _ = trained(variant(batch_size=8, auto_batch=True, ood_dataset=None, **fields), tmp_path)
    assert prepared.predict("test").logits.shape == (12, 3)
    assert set(prepared.model.config.id2label.values()) == {"good", "bad", "so-so"}


@given(size=st.integers(2, 500), batches=st.integers(1, 9))
def test_a_smaller_batch_is_half_or_the_next_factor_of_an_odd_one(size: int, batches: int) -> None:
    less = memory.smaller(Variant(batch_size=size, gradient_accumulation=batches))
    assert less is not None and less.batch_size * less.gradient_accumulation == size * batches
    assert less.batch_size == size // 2 if size % 2 == 0 else less.batch_size < size / 2
