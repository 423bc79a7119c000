"""A training that was killed resumes from its last checkpoint, and ends where it would have, within noise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_trainings import Run, make_run, validation_losses
from transformers import TrainerCallback

from peft_study.study.variant import Variant
from peft_study.training.trainer import Training, last_checkpoint

Make = Callable[..., Variant]


class Cut(TrainerCallback):  # type: ignore[misc]
    """Ends a training in the midst of a step, at once; `step` 0 ends none. Counts the steps that were taken."""

    def __init__(self, step: int = 0) -> None:
        self.step, self.steps = step, list[int]()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self.step:
            raise KeyboardInterrupt

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps.append(state.global_step)


def went(variant: Variant, folder: Path, *callbacks: TrainerCallback) -> tuple[Run, Training]:
    run = make_run(variant)
    return run, run.train(folder, *callbacks)


def cut(variant: Variant, folder: Path, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        went(variant, folder, Cut(step))


@pytest.fixture
def asked(variant: Make) -> Make:
    """Makes variants of 24 steps, 12 an epoch, with dropout, that resume."""
    return lambda **changes: variant(
        **{"dropout": 0.2, "resume": True, "strategy": "full", "train_size": 100} | changes
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy": "lora-plus", "lora_dropout": 0.1},
        {"evaluations": 0, "gradient_accumulation": 2, "batch_size": 4},
        {"strategy": "p-tuning"},
        {"strategy": "bitfit", "precision": "bf16", "max_steps": 24, "epochs": 1.0},
    ],
)
def test_a_resumed_training_takes_the_remaining_steps_and_is_measured_as_a_whole(
    asked: Make, tmp_path: Path, fields: dict[str, Any]
) -> None:
    _, result = went(asked(**fields), tmp_path / "whole")
    cut(asked(**fields), tmp_path / "cut", 20)
    count = Cut()
    _, again = went(asked(**fields), tmp_path / "cut", count)
    assert 1 < count.steps[0] <= 20 and count.steps[-1] == result.figures["steps"]
    assert again.figures["resumed"] == [count.steps[0] - 1] and result.figures["resumed"] == []
    same = ("steps", "planned_steps", "epochs", "interrupted", "batch_size")
    assert {name: again.figures[name] for name in same} == {name: result.figures[name] for name in same}
    assert again.figures["tokens"] == pytest.approx(result.figures["tokens"], rel=0.1)
    assert list(validation_losses(again)) == list(validation_losses(result))
    assert len(again.step_seconds) == again.figures["steps"]
    assert again.figures["seconds"] == pytest.approx(again.step_seconds.sum())
    assert again.figures["seconds"] < again.figures["wall_seconds"]


def test_within_its_first_epoch_a_resumed_training_is_the_uninterrupted_one(asked: Make, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"epochs": 1.0, "dropout": 0.0}
    whole, result = went(asked(**fields), tmp_path / "whole")
    cut(asked(**fields), tmp_path / "cut", 9)
    resumed, again = went(asked(**fields), tmp_path / "cut")
    assert again.figures["resumed"] and again.figures["selected_step"] == result.figures["selected_step"]
    np.testing.assert_allclose(resumed.predict().logits, whole.predict().logits, atol=1e-4)


@pytest.mark.parametrize("rule", ["best", "last"])
def test_a_training_may_be_killed_twice_and_its_folder_moved(asked: Make, tmp_path: Path, rule: str) -> None:
    fields: dict[str, Any] = {"learning_rate": 0.06, "evaluations": 8}  # overshoots: an early checkpoint is the best
    fields |= {"checkpoint": rule}
    folder = tmp_path / "cut"
    for step in (8, 22):
        cut(asked(**fields), folder, step)
        folder = folder.rename(tmp_path / f"cut in step {step}")
    run, again = went(asked(**fields), folder)
    assert len(again.figures["resumed"]) == 2 and again.figures["resumed"] == sorted(again.figures["resumed"])
    losses, validation = validation_losses(again), run.predict("validation")
    best, last = min(losses, key=losses.__getitem__), max(losses)
    selected, other = (best, last) if rule == "best" else (last, best)
    assert (again.figures["selected_step"], again.figures["other_step"]) == (selected, other)
    assert validation.metrics()["log_loss"] == pytest.approx(losses[selected], abs=1e-4)
    assert {best, last} == set(steps(folder / "checkpoints")), "what the other rule selects is there, too"


def test_after_the_last_step_nothing_is_trained_again(asked: Make, tmp_path: Path) -> None:
    whole, result = went(asked(epochs=1.5), tmp_path / "run")
    count = Cut()
    resumed, again = went(asked(epochs=1.5), tmp_path / "run", count)
    assert count.steps == [] and again.figures["resumed"] == [] and again.figures["steps"] == result.figures["steps"]
    assert np.array_equal(resumed.predict().logits, whole.predict().logits)
    assert again.step_seconds == pytest.approx(result.step_seconds)


# --- which checkpoint is taken


@pytest.fixture
def left(asked: Make, tmp_path: Path) -> Path:
    """The checkpoints of a training that was cut in its 20th step."""
    cut(asked(), tmp_path, 20)
    return tmp_path / "checkpoints"


def steps(folder: Path) -> list[int]:
    return sorted(int(checkpoint.name.removeprefix("checkpoint-")) for checkpoint in folder.glob("checkpoint-*"))


def test_a_half_written_checkpoint_is_never_read_nor_one_of_other_values(left: Path, asked: Make) -> None:
    older, newest = steps(left)  # two at most are kept
    assert (left / f"checkpoint-{newest}" / "weights.safetensors").is_file()
    state = left / f"checkpoint-{newest}" / "trainer_state.json"
    state.write_bytes(state.read_bytes()[:-10])
    assert last_checkpoint(left, asked()) == str(left / f"checkpoint-{older}") and steps(left) == [older]
    assert last_checkpoint(left, asked(learning_rate=1e-3)) is None and steps(left) == []


def test_checkpoints_are_read_without_running_code(left: Path, asked: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    load, restricted = torch.load, list[bool]()

    def watched(*arguments: Any, **options: Any) -> Any:
        restricted.append(options.get("weights_only") is True)
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", watched)
    _, result = went(asked(), left.parent)
    assert result.figures["resumed"] == [17] and restricted and all(restricted)
