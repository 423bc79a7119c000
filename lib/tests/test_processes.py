"""One training by two processes: what it learns is what one process learns, and its record is of one run."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import TrainerCallback

from peft_study.errors import StudyError
from peft_study.study.variant import Variant
from peft_study.training import callbacks, processes
from peft_study.training import trainer as training
from peft_study.widgets.stopping import StopOnInterrupt

Make = Callable[..., Variant]


def went(variant: Variant, folder: Path, *callbacks: TrainerCallback) -> tuple[training.Prepared, training.Training]:
    prepared = training.prepare(variant)
    return prepared, training.train(prepared, folder, callbacks)


def losses(result: training.Training, kind: str) -> dict[int, float]:
    return {entry["step"]: entry[kind] for entry in result.log if kind in entry}


def test_two_processes_learn_what_one_does_and_leave_one_record(
    variant: Make, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields: dict[str, Any] = {"strategy": "full", "train_size": 200, "validation_fraction": 0.2, "epochs": 3.0}
    fields |= {"model": str(tiny["bert"])}  # DistilBERT's head has a dropout, which every process draws for itself
    one, alone = went(variant(**fields), tmp_path / "one")
    two, shared = went(variant(processes=2, **fields), tmp_path / "two", callbacks.PlainProgress())
    assert losses(shared, "loss") == pytest.approx(losses(alone, "loss"), rel=1e-3, abs=1e-3)
    assert losses(shared, "eval_loss") == pytest.approx(losses(alone, "eval_loss"), rel=1e-3, abs=1e-3)
    assert np.allclose(two.predict("test").logits, one.predict("test").logits, atol=0.05)
    assert two.predict("test").metrics()["accuracy"] > 0.9
    assert two.predict("test").metrics()["accuracy"] == one.predict("test").metrics()["accuracy"]
    same = ("steps", "selected_step", "tokens", "batch_size", "gradient_accumulation", "epochs", "interrupted")
    assert {name: shared.figures[name] for name in same} == {name: alone.figures[name] for name in same}
    assert (alone.figures["processes"], shared.figures["processes"]) == (1, 2)
    assert shared.figures.keys() == alone.figures.keys() and len(shared.step_seconds) == shared.figures["steps"]
    assert shared.figures["flops_per_step"] == pytest.approx(alone.figures["flops_per_step"], rel=0.05)
    assert list((tmp_path / "two").iterdir()) == []
    assert capsys.readouterr().out.count("validation loss") == 2


class Interrupt(TrainerCallback):  # type: ignore[misc]
    """Presses ■ once, after the third step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_ends_all_processes_after_the_same_step(variant: Make, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    _, result = went(variant(processes=2, epochs=20.0), tmp_path, StopOnInterrupt(), Interrupt())
    assert result.figures["interrupted"] and 3 < result.figures["steps"] < 240
    assert max(losses(result, "eval_loss")) == result.figures["steps"] == result.figures["selected_step"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("script", "told"),
    [('echo "no space left" > "$3/fault.txt"; exit 1', "no space left"), ("kill -9 $$", "was killed")],
)
def test_a_process_that_fails_ends_the_others_with_one_message(
    variant: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    prepared = training.prepare(variant(processes=2))
    worker = tmp_path / "worker"
    worker.write_text(f'#!/bin/sh\n[ "$RANK" = 0 ] && exec sleep 100\n{script}\n')
    worker.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(worker))
    with pytest.raises(StudyError, match=f"one of the 2 processes of this training failed: .*{told}"):
        training.train(prepared, tmp_path / "run")


def test_more_processes_than_gpus_are_refused(variant: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = training.prepare(variant(processes=2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(StudyError, match="processes = 2, and there are 1 GPUs that this run may use"):
        training.train(prepared, tmp_path)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"batch_size": 9}, "batch_size = 9 cannot be shared out to processes = 2; take a multiple"),
        ({"resume": True}, "resume and auto_batch work with one process alone"),
        ({"auto_batch": True}, "resume and auto_batch work with one process alone"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(variant: Make, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        variant(processes=2, **fields)
