"""A training that was killed goes on from its last checkpoint, and ends as if nothing had happened."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import TrainerCallback

from peft_study import paths
from peft_study.report import run_claims
from peft_study.study.variant import Variant
from peft_study.training import resume
from peft_study.training import trainer as training
from peft_study.training.trainer import Prepared, Training
from peft_study.widgets import live_chart

Make = Callable[..., Variant]
RUN = """
import os, signal, sys
from pathlib import Path
from transformers import TrainerCallback
from peft_study import training
from peft_study.config import Variant

class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **_):
        if state.global_step + 1 == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

training.train(training.prepare(Variant.model_validate_json(sys.argv[1])), Path(sys.argv[2]), [Kill()])
"""


class Cut(TrainerCallback):  # type: ignore[misc]
    """Ends a training in the midst of a step, at once."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self.step:
            raise KeyboardInterrupt


class Count(TrainerCallback):  # type: ignore[misc]
    """Counts the steps that were taken."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps.append(state.global_step)


def went(variant: Variant, folder: Path, *callbacks: TrainerCallback) -> tuple[Prepared, Training]:
    prepared = training.prepare(variant)
    return prepared, training.train(prepared, folder, callbacks)


def cut(variant: Variant, folder: Path, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        went(variant, folder, Cut(step))


def lasting(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A log without what a clock has measured, and without its last entry, the sums of one part."""
    clock = ("_runtime", "_per_second")
    return [{key: value for key, value in entry.items() if not key.endswith(clock)} for entry in log[:-1]]


@pytest.fixture
def asked(variant: Make) -> Make:
    """Makes variants of 24 steps, 12 an epoch, with dropout, that resume."""
    return lambda **changes: variant(**{"dropout": 0.2, "resume": True, "strategy": "full"} | changes)


@pytest.mark.parametrize(
    ("step", "fields"),
    [
        (20, {"strategy": "lora-plus", "lora_dropout": 0.1}),
        (20, {"checkpoint": "last", "validation_fraction": 0.0, "evaluations": 0, "gradient_accumulation": 2,
              "batch_size": 4}),
        (20, {"strategy": "p-tuning"}),
        (22, {"strategy": "bitfit", "precision": "bf16", "max_steps": 30, "epochs": 1.0}),
    ],
)  # fmt: skip
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(
    asked: Make, tmp_path: Path, step: int, fields: dict[str, Any]
) -> None:
    whole, result = went(asked(**fields), tmp_path / "whole")
    cut(asked(**fields), tmp_path / "cut", step)
    torch.manual_seed(step)
    np.random.seed(step)
    count = Count()
    resumed, again = went(asked(**fields), tmp_path / "cut", count)
    assert 1 < count.steps[0] <= step and count.steps[-1] == result.figures["steps"]
    assert again.figures["resumed"] == [count.steps[0] - 1] and result.figures["resumed"] == []
    assert np.array_equal(resumed.predict("test").logits, whole.predict("test").logits)
    assert lasting(again.log) == lasting(result.log)
    same = ("steps", "planned_steps", "selected_step", "tokens", "epochs", "interrupted", "trainer_flops")
    assert {name: again.figures[name] for name in same} == {name: result.figures[name] for name in same}
    assert len(again.step_seconds) == again.figures["steps"]
    assert again.figures["seconds"] == pytest.approx(again.step_seconds.sum())
    assert again.figures["seconds"] < again.figures["wall_seconds"]


def test_a_training_may_be_killed_twice_at_any_step_and_its_folder_moved(asked: Make, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"learning_rate": 0.03, "evaluations": 8}  # overshoots: an early checkpoint is the best
    whole, result = went(asked(**fields), tmp_path / "whole")
    folder = tmp_path / "cut"
    for step in (8, 14, 22):  # the second is resumed from the end of an epoch
        cut(asked(**fields), folder, step)
        folder = folder.rename(tmp_path / f"cut in step {step}")
    resumed, again = went(asked(**fields), folder)
    assert len(again.figures["resumed"]) == 3 and again.figures["resumed"] == sorted(again.figures["resumed"])
    assert again.figures["selected_step"] == result.figures["selected_step"]
    assert np.array_equal(resumed.predict("test").logits, whole.predict("test").logits)
    assert "cut off and went on from the checkpoint after step" in run_claims.curve(again)
    assert "cut off" not in run_claims.curve(result)


def test_what_kill_9_leaves_is_resumed(asked: Make, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, asked().model_dump_json(), str(tmp_path / "cut"), "18"]
    done = subprocess.run(command, cwd=paths.LIB, env=os.environ | {"PYTHONPATH": str(paths.LIB)}, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    plain, _ = went(asked(resume=False), tmp_path / "plain")  # which has no checkpoints to go on from
    resumed, again = went(asked(), tmp_path / "cut")
    assert again.figures["resumed"] == [17]
    assert np.array_equal(resumed.predict("test").logits, plain.predict("test").logits)


def test_after_the_last_step_nothing_is_trained_again(asked: Make, tmp_path: Path) -> None:
    whole, result = went(asked(epochs=1.5), tmp_path / "run")
    count = Count()
    resumed, again = went(asked(epochs=1.5), tmp_path / "run", count)
    assert count.steps == [] and again.figures["resumed"] == [] and again.figures["steps"] == result.figures["steps"]
    assert np.array_equal(resumed.predict("test").logits, whole.predict("test").logits)
    assert again.step_seconds == pytest.approx(result.step_seconds)


# --- which checkpoint is taken


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all tests of this module share."""
    return tmp_path_factory.mktemp("once")


@pytest.fixture
def left(asked: Make, once: Path) -> Path:
    """The checkpoints of a training that was cut in its 20th step; they name the folder in which they lie."""
    if not (once / "kept").exists():
        cut(asked(), once / "run", 20)
        (once / "run" / "checkpoints").rename(once / "kept")
    shutil.rmtree(once / "run")
    shutil.copytree(once / "kept", once / "run" / "checkpoints")
    return once / "run" / "checkpoints"


def steps(folder: Path) -> list[int]:
    return sorted(int(one.name.removeprefix("checkpoint-")) for one in folder.iterdir())


@pytest.mark.parametrize(
    "missing", ["trainer_state.json", "optimizer.safetensors", "random-0.json", "weights.safetensors"]
)
def test_a_half_written_checkpoint_is_never_read(left: Path, asked: Make, missing: str) -> None:
    older, newest = steps(left)
    file = left / f"checkpoint-{newest}" / missing
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found = resume.last(left, training.prepare(asked()))
    assert found is not None and found.state["global_step"] == older and steps(left) == [older]


def test_without_the_best_checkpoint_there_is_nothing_to_go_on_from(left: Path, asked: Make) -> None:
    state = json.loads((left / f"checkpoint-{steps(left)[-1]}" / "trainer_state.json").read_text())
    assert state["best_global_step"] in steps(left)
    shutil.rmtree(state["best_model_checkpoint"])
    remaining = resume.last(left, training.prepare(asked()))
    assert remaining is None and steps(left) == []


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"batch_size": 4}])
def test_a_checkpoint_of_other_values_is_not_taken(left: Path, asked: Make, change: dict[str, Any]) -> None:
    assert resume.last(left, training.prepare(asked(**change))) is None
    assert steps(left) == []


def test_a_checkpoint_of_other_packages_is_not_taken(left: Path, asked: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "version", lambda name: "9.9")
    assert resume.last(left, training.prepare(asked())) is None


def test_a_checkpoint_of_other_code_of_ours_is_not_taken(
    left: Path, asked: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "fingerprint", lambda *_: "other")
    assert resume.last(left, training.prepare(asked())) is None


def test_no_pickle_is_ever_loaded(left: Path, asked: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was loaded")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refused)
    _, result = went(asked(), left.parent)
    assert result.figures["resumed"] == [17]


def test_two_checkpoints_at_most_are_on_the_disk_and_none_once_the_record_is_written(left: Path, asked: Make) -> None:
    from peft_study.records import write as records

    assert len(steps(left)) <= 2
    prepared, result = went(asked(), left.parent)
    assert len(steps(left)) <= 2
    records.write_run(left.parent, prepared, result, prepared.predict("test"), None, None, prepared.inference())
    assert not left.exists()
    assert json.loads((left.parent / "metrics.json").read_text())["training"]["resumed"] == [17]


def test_smaller_batches_are_kept_when_training_goes_on(
    asked: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[int] = []

    def build(*arguments: Any) -> torch.nn.Module:
        model = built(*arguments)
        model.register_forward_pre_hook(check, with_kwargs=True)
        return model

    def check(model: torch.nn.Module, _: Any, values: dict[str, Any]) -> None:
        if model.training:
            began.append(len(values["input_ids"]))
            if began[-1] > 4:
                raise torch.OutOfMemoryError("CUDA out of memory.")

    built = training.build
    monkeypatch.setattr(training, "build", build)
    cut(asked(auto_batch=True), tmp_path, 15)
    began.clear()
    _, result = went(asked(auto_batch=True), tmp_path)
    assert max(began) == 4 and result.figures["resumed"] == [12]
    assert (result.figures["asked_batch_size"], result.figures["batch_size"]) == (8, 4)


def test_a_strategy_whose_checkpoints_lack_something_is_refused(asked: Make) -> None:
    with pytest.raises(ValidationError, match=r"a checkpoint of the strategy 'adalora' lacks .*; set resume to"):
        asked(strategy="adalora")


def test_the_time_left_is_told_by_the_pace_since_the_resumption() -> None:
    from types import SimpleNamespace

    state = SimpleNamespace(global_step=15, max_steps=20)
    assert "about 5 s left" in live_chart._time_left(state, 5.0, 10)
