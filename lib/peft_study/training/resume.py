"""Going on with a training that was killed, from its last checkpoint, as if nothing had happened.

A checkpoint holds `trainer_state.json`, which is the Trainer's, every weight that trains, and what the Trainer would
save as pickles: the optimizer, the learning rate's schedule, the scale of fp16's losses and the random numbers. Here
they are safetensors and JSON. No pickle is ever loaded: one can run code as it is read. The Trainer writes
`trainer_state.json` last; a checkpoint in which that cannot be read, or which lacks a file, was being written when the
training was killed, and is not taken. Nor is one of other values, other reviews, another pretrained model, other
packages or other code of ours.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import Trainer

from peft_study import paths
from peft_study.files import fingerprint, remove, replacing

if TYPE_CHECKING:
    from peft_study.study.variant import Variant
    from peft_study.training.trainer import Prepared

WEIGHTS, OPTIMIZER, SCHEDULE = "weights.safetensors", "optimizer.safetensors", "schedule.json"
RANDOM, STATE = "random-{}.json", "trainer_state.json"
PACKAGES = ("torch", "transformers", "accelerate", "peft")
_CODE = [f for p in ("training", "strategies", "data") for f in (paths.LIB / "peft_study" / p).glob("*.py")]


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its folder, the Trainer's state, and the values it belongs to."""

    folder: Path
    state: dict[str, Any]
    identity: dict[str, Any]

    @property
    def best(self) -> str | None:
        """The name of the checkpoint that was the best so far, where one is to be kept."""
        path = self.state["best_model_checkpoint"]
        return Path(path).name if path else None

    def batches(self, variant: "Variant") -> "Variant":
        """The variant with the batches that the killed training used, which may be smaller than those asked for."""
        return variant.model_copy(update=self.identity["batches"])


def identity(prepared: "Prepared", variant: "Variant") -> dict[str, Any]:
    """What a training depends on: `variant` is the one that trains, with batches that fit into the memory."""
    return {
        "variant": prepared.variant.model_dump(),
        "batches": {name: getattr(variant, name) for name in ("batch_size", "gradient_accumulation")},
        "model": prepared.model_hash,
        "reviews": prepared.corpus.fingerprint,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "precision": prepared.precision,
        "packages": {name: version(name) for name in PACKAGES},
        "code": fingerprint(*_CODE),
    }


def last(folder: Path, prepared: "Prepared") -> Checkpoint | None:
    """The last whole checkpoint in `folder` of the prepared training; all that it does not need is removed."""
    wanted = identity(prepared, prepared.variant)
    found = [one for one in _whole(folder) if one.identity | {"batches": None} == wanted | {"batches": None}]
    kept = {one.folder.name for one in found}
    found = [one for one in found if (one.best or one.folder.name) in kept]
    chosen = max(found, key=lambda one: one.state["global_step"], default=None)
    needed = {chosen.folder.name, chosen.best} if chosen else set()
    for other in folder.glob("*"):
        if other.name not in needed:
            remove(other)
    if chosen and chosen.best:  # the Trainer wrote where it was then, and the folder may have moved since
        chosen.state["best_model_checkpoint"] = str(folder / chosen.best)
        with replacing(chosen.folder / STATE) as partial:
            partial.write_text(json.dumps(chosen.state), encoding="utf-8")
    return chosen


def _whole(folder: Path) -> Iterator[Checkpoint]:
    """The checkpoints in `folder` of which nothing is missing."""
    for one in folder.glob("checkpoint-*"):
        try:
            state, schedule = (json.loads((one / name).read_text(encoding="utf-8")) for name in (STATE, SCHEDULE))
            for name in (OPTIMIZER, WEIGHTS):
                with safe_open(one / name, "pt"):  # its header says how long the file is
                    pass
            json.loads((one / RANDOM.format(0)).read_text(encoding="utf-8"))
        except (OSError, ValueError, SafetensorError):
            continue
        yield Checkpoint(one, state, schedule["identity"])


def random_state() -> dict[str, Any]:
    """The state of every generator of random numbers that a training draws from, as JSON can hold it."""
    name, keys, *rest = np.random.get_state()
    found = {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest], "cpu": torch.get_rng_state().tolist()}
    return found | ({"cuda": torch.cuda.get_rng_state().tolist()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, Any]) -> None:
    """Go on with the random numbers of `random_state`."""
    number, keys, gauss = state["python"]
    random.setstate((number, tuple(keys), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(torch.tensor(state["cpu"], dtype=torch.uint8))
    if "cuda" in state:
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8))


class ResumableTrainer(Trainer):  # type: ignore[misc]
    """The Trainer, whose checkpoints hold no pickle, and resume to the bit.

    What the Trainer has peft save is made for use, not for training: of p-tuning it is the vectors without the network
    that makes them, which would then be applied to its own results. So a checkpoint has the weights themselves.

    The Trainer draws the order of an epoch's reviews anew when it resumes in the midst of one, from whatever random
    numbers there are. Here it draws from those of the epoch's begin.
    """

    identity: dict[str, Any]  # of the training, written into every checkpoint
    _epoch_began: dict[str, Any] | None = None

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            return  # resumed after the last step; the Trainer would take one more
        if self._epoch_began is not None and options["epoch"] == options["epochs_trained"]:
            set_random_state(self._epoch_began)
        self._epoch_began = random_state()
        super()._run_epoch(*arguments, **options)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.args.should_save:  # else another process does
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            trained = {name: value.contiguous() for name, value in self._trained().items()}
            save_file(trained, folder / WEIGHTS)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        saved, trained = load_file(Path(resume_from_checkpoint, WEIGHTS)), self._trained()
        with torch.no_grad():
            for name, value in trained.items():
                value.copy_(saved[name])

    def _trained(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _save_rng_state(self, output_dir: str) -> None:
        now = random_state()
        began = now if self.state.epoch == int(self.state.epoch) else self._epoch_began
        file = Path(output_dir, RANDOM.format(self.args.process_index))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"now": now, "epoch": began}), encoding="utf-8")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            set_random_state(self._random(checkpoint)["now"])

    def _random(self, checkpoint: str) -> dict[str, Any]:
        return json.loads(Path(checkpoint, RANDOM.format(self.args.process_index)).read_text(encoding="utf-8"))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.args.should_save:
            return  # another process does
        optimizer = self.optimizer.state_dict()
        tensors = {
            f"{number}.{name}": tensor.contiguous()
            for number, values in optimizer["state"].items()
            for name, tensor in values.items()
        }
        save_file(tensors, Path(output_dir, OPTIMIZER))
        content = {
            "identity": self.identity,
            "groups": optimizer["param_groups"],
            "schedule": self.lr_scheduler.state_dict(),
            "scale": scaler.state_dict() if (scaler := self.accelerator.scaler) else None,
        }
        Path(output_dir, SCHEDULE).write_text(json.dumps(content), encoding="utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        content = json.loads(Path(checkpoint, SCHEDULE).read_text(encoding="utf-8"))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in load_file(Path(checkpoint, OPTIMIZER)).items():
            number, name = key.split(".")
            state.setdefault(int(number), {})[name] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": content["groups"]})
        self.lr_scheduler.load_state_dict(content["schedule"])
        if content["scale"]:
            self.accelerator.scaler.load_state_dict(content["scale"])
        self._epoch_began = self._random(checkpoint)["epoch"]

    def _save_scaler(self, output_dir: str) -> None:
        """With the schedule; the Trainer's is a pickle."""

    def _load_scaler(self, checkpoint: str | None) -> None:
        """With the schedule."""
