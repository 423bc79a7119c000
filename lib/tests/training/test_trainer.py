"""Real trainings of tiny models: that they learn, repeat, select and measure what they say."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_trainings import Run, make_run, training_losses, validation_losses
from transformers import TrainerCallback

from peft_study.errors import StudyError
from peft_study.paths import PROGRESS
from peft_study.study.variant import Variant
from peft_study.training import trainer
from peft_study.training.callbacks import PlainProgress
from peft_study.training.prediction import Predictions, log_loss
from peft_study.training.trainer import Training

Make = Callable[..., Variant]


@dataclass(frozen=True)
class Trained:
    """A finished training, what it predicts, and what was in its folder."""

    run: Run
    training: Training
    test: Predictions
    left: list[Path]


@pytest.fixture(scope="session")
def trained(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Trains a tiny variant, once a session for the same fields."""
    known: dict[str, Trained] = {}
    cache = tmp_path_factory.mktemp("cache")
    fixed: dict[str, Any] = {"model": str(tiny["distilbert"]), "dataset": str(tiny["reviews"]), "ood_dataset": None}
    fixed |= {"train_size": 200, "test_size": None, "max_length": 32, "precision": "fp32", "evaluations": 3}
    rates = {"full": 5e-3, "lora": 1e-2}

    def run(repeat: int = 0, callbacks: Any = (), **fields: Any) -> Trained:
        asked = {"strategy": "lora", "epochs": 3.0} | fields
        variant = Variant(**(fixed | {"learning_rate": rates[asked["strategy"]]} | asked))
        key = f"{repeat} {variant} {callbacks}"
        if key not in known:
            folder = tmp_path_factory.mktemp("run")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PEFT_STUDY_CACHE", str(cache))
                made = make_run(variant)
                result = made.train(folder, *callbacks)
            known[key] = Trained(made, result, made.predict(), list(folder.iterdir()))
        return known[key]

    return run


# --- what is learnt


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_learning_is_real(trained: Callable[..., Trained], strategy: str) -> None:
    run = trained(strategy=strategy)
    assert run.test.metrics()["accuracy"] >= 0.9
    assert list(validation_losses(run.training).values())[-1] < 0.5


def test_a_training_repeats_bit_for_bit_and_dropout_and_the_seed_make_a_difference(
    trained: Callable[..., Trained],
) -> None:
    fields: dict[str, Any] = {"strategy": "full", "epochs": 1.0, "dropout": 0.3}
    first = trained(**fields)
    torch.manual_seed(12345)
    again = trained(repeat=1, **fields)
    assert np.array_equal(first.test.logits, again.test.logits)
    assert training_losses(first.training) == training_losses(again.training)
    for change in ({"dropout": 0.0}, {"seed": 43}):
        assert not np.array_equal(first.test.logits, trained(**fields | change).test.logits)


def test_training_changes_only_what_the_strategy_trains(variant: Make, tmp_path: Path) -> None:
    run = make_run(variant(strategy="lora", epochs=1.0))
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    run.train(tmp_path)
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


# --- which checkpoint


def test_the_last_checkpoint_predicts_unless_the_one_with_the_lowest_validation_loss_is_asked_for(
    trained: Callable[..., Trained],
) -> None:
    overshoots: dict[str, Any] = {"strategy": "full", "learning_rate": 0.05, "epochs": 4.0, "evaluations": 8}
    run = trained(**overshoots, checkpoint="best")
    losses, validation = validation_losses(run.training), run.run.predict("validation")
    best = min(losses, key=losses.__getitem__)
    assert best == run.training.figures["selected_step"] < run.training.figures["steps"]
    assert log_loss(validation.logits, validation.labels) == pytest.approx(losses[best], abs=1e-4)
    accuracies = {entry["step"]: entry["eval_accuracy"] for entry in run.training.log if "eval_accuracy" in entry}
    assert validation.metrics()["accuracy"] == pytest.approx(accuracies[best])
    last = trained(**overshoots)
    loss, validation = validation_losses(last.training)[max(losses)], last.run.predict("validation")
    assert last.training.figures["selected_step"] == last.training.figures["steps"] == max(losses)
    assert log_loss(validation.logits, validation.labels) == pytest.approx(loss, abs=1e-4)
    steps = [[result.training.figures[name] for name in ("selected_step", "other_step")] for result in (run, last)]
    assert steps == [[best, max(losses)], [max(losses), best]]


# --- how often and how much


@pytest.mark.parametrize("asked", [1, 5, 7, 50])
def test_evaluations_are_as_many_as_asked_at_most_one_a_step_evenly_spread_and_one_at_the_end(
    trained: Callable[..., Trained], asked: int
) -> None:
    run = trained(strategy="full", epochs=0.5, evaluations=asked)  # 12 steps
    steps = list(validation_losses(run.training))
    assert len(steps) == min(asked, 12) and steps[-1] == run.training.figures["steps"] == 12
    assert max(np.diff([0, *steps])) - min(np.diff([0, *steps])) <= 1


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"epochs": 0.5}, 12),
        ({"epochs": 1.5, "gradient_accumulation": 4, "batch_size": 7}, 11),
        ({"epochs": 2.0, "batch_size": 500}, 2),
        ({"epochs": 1.0, "max_steps": 50}, 50),
        ({"epochs": 1.0, "max_steps": 9, "gradient_accumulation": 4}, 9),
    ],
)
def test_the_trainer_takes_the_steps_that_were_counted(
    trained: Callable[..., Trained], fields: dict[str, Any], steps: int
) -> None:
    run = trained(strategy="full", **fields)
    assert trainer.total_steps(run.run.variant, 180) == steps
    assert run.training.figures["steps"] == len(run.training.step_seconds) == steps


@pytest.mark.parametrize("accumulation", [1, 4])
def test_tokens_are_counted_without_padding(trained: Callable[..., Trained], accumulation: int) -> None:
    run = trained(strategy="full", epochs=2.0, gradient_accumulation=accumulation)
    by_hand = 2 * sum(len(example["input_ids"]) for example in run.run.examples["train"])
    assert run.training.figures["tokens"] == by_hand
    assert run.training.figures["tokens_per_second"] == pytest.approx(by_hand / run.training.figures["seconds"])


def test_four_batches_of_eight_that_share_a_step_train_as_one_of_thirty_two_does(
    trained: Callable[..., Trained],
) -> None:
    whole, parts = (
        trained(validation_fraction=0.36, batch_size=batch, gradient_accumulation=32 // batch) for batch in (32, 8)
    )
    assert len(whole.run.examples["train"]) == 128
    losses = [training_losses(run.training) for run in (whole, parts)]
    assert len(losses[0]) == whole.training.figures["steps"] == parts.training.figures["steps"] == 12
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(whole.test.logits, parts.test.logits, atol=1e-2)


@pytest.mark.parametrize("parts", [1, 3])
def test_class_weights_let_every_class_count_alike_in_the_training_loss_alone(
    variant: Make, tmp_path: Path, parts: int
) -> None:
    """One step over all 90 training texts, of which every tenth is of class 1, against torch's weighted mean."""
    fields = {"batch_size": 90 // parts, "gradient_accumulation": parts, "evaluations": 1}
    run = make_run(variant(strategy="full", class_weights="balanced", max_steps=1, epochs=1, **fields))
    examples = run.examples["train"]
    for number, example in enumerate(examples):
        example["labels"] = int(number % 10 == 0)
    batch = trainer.Collator(run.tokenizer.pad_token_id)(examples)
    weights = [90 / (2 * 81), 90 / (2 * 9)]
    run.model.dropout.p = 0.0  # that of the head
    logits = run.model(**batch).logits
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"], torch.tensor(weights))
    expected.backward()
    gradient = torch.stack([value.grad.norm() for value in run.model.parameters()]).norm()
    run.model.zero_grad()
    training = run.train(tmp_path)
    first = training.log[0]
    assert first["loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert first["grad_norm"] == pytest.approx(gradient.item(), rel=1e-4)
    assert training.figures["class_weights"] == pytest.approx(weights)
    validation = run.predict("validation")
    assert list(validation_losses(training).values()) == pytest.approx(
        [log_loss(validation.logits, validation.labels)], abs=1e-4
    )


def test_seconds_of_training_leave_evaluations_out(trained: Callable[..., Trained]) -> None:
    class Slow(TrainerCallback):  # type: ignore[misc]
        def on_evaluate(self, *_: Any, **__: Any) -> None:
            import time

            time.sleep(0.5)

    run = trained(strategy="full", epochs=0.2, callbacks=[Slow()], evaluations=2)
    figures = run.training.figures
    assert figures["seconds"] == pytest.approx(run.training.step_seconds.sum())
    assert figures["seconds"] + figures["evaluation_seconds"] + 1.0 <= figures["wall_seconds"]
    assert figures["seconds_per_step"] == np.median(run.training.step_seconds) > 0
    assert figures["step_scatter"] >= 1
    assert figures["peak_memory_bytes"] > 50 * 2**20


def test_the_rate_warms_up_to_the_one_in_force_and_falls(trained: Callable[..., Trained]) -> None:
    rates = [entry["learning_rate"] for entry in trained(strategy="full").training.log if "learning_rate" in entry]
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(5e-3, rel=0.05)
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert 0 < peak < 0.25 * len(rates)


# --- precision


@pytest.mark.parametrize(("precision", "bf16"), [("bf16", True), ("fp32", False)])
def test_the_precision_asked_for_is_the_one_computed_in(
    trained: Callable[..., Trained], tmp_path: Path, precision: str, bf16: bool
) -> None:
    seen: list[bool] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
            linear = next(module for name, module in model.named_modules() if name.endswith("lin1"))
            self.hook = linear.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype == torch.bfloat16))

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.hook.remove()

    run = trained(strategy="full", precision=precision, epochs=0.2, callbacks=[Watch()], repeat=2)
    assert set(seen) == {bf16}
    seen.clear()
    run.run.train(tmp_path, Watch())  # once more, with another Trainer
    assert set(seen) == {bf16}
    assert run.training.arguments["bf16"] is bf16
    assert {parameter.dtype for parameter in run.run.model.parameters()} == {torch.float32}


def test_auto_is_bf16_just_where_the_hardware_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert not trainer.uses_bf16("auto")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert trainer.uses_bf16("auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not trainer.uses_bf16("auto")
    assert trainer.uses_bf16("bf16")


def test_fp16_trains_with_scaled_losses_where_there_is_a_gpu(trained: Callable[..., Trained]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU: torch.cuda sees none on this machine")
    run = trained(strategy="full", precision="fp16")
    assert run.training.arguments["fp16"] and run.training.figures["peak_memory_of"] == "GPU, allocated"


def test_a_deterministic_run_refuses_what_may_differ_and_repeats_to_the_bit(trained: Callable[..., Trained]) -> None:
    seen: list[bool] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            seen.append(torch.are_deterministic_algorithms_enabled())

    runs = [trained(deterministic=True, epochs=0.5, callbacks=[Watch()], repeat=place) for place in (3, 4)]
    plain = trained(epochs=0.5, callbacks=[Watch()])
    assert seen == [True, True, False], "the next training is as it asks"
    assert np.array_equal(runs[0].test.logits, runs[1].test.logits)
    assert np.array_equal(runs[0].test.logits, plain.test.logits), "on a CPU it changes nothing"


# --- what is left behind


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (RuntimeError("the device is gone"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), StudyError),
    ],
)
def test_the_checkpoints_are_gone_afterwards_and_after_a_failure(
    trained: Callable[..., Trained], variant: Make, tmp_path: Path, raised: Exception, seen: type[Exception]
) -> None:
    class Fails(TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, *_: Any, **__: Any) -> None:
            assert list(Path(args.output_dir).iterdir())
            raise raised

    with pytest.raises(seen):
        make_run(variant(strategy="full", epochs=0.5)).train(tmp_path / "run", Fails())
    assert not list((tmp_path / "run").iterdir()) and trained(strategy="full").left == []


def test_progress_is_a_line_for_every_evaluation_and_tenth(variant: Make, tmp_path: Path, capsys: Any) -> None:
    make_run(variant(strategy="full")).train(tmp_path, PlainProgress())
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.startswith("step")]
    assert sum("validation loss" in line for line in lines) == 2
    assert 8 <= sum("training loss" in line for line in lines) <= 12
    assert lines == out.splitlines()
    assert err == ""
    position = json.loads((tmp_path / PROGRESS).read_text())
    assert position["step"] == position["steps"] and position["loss"] > 0
