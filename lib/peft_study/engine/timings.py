"""How long a training step takes here: measured once for each kind of step, then kept in the cache.

A kind of step is what its time depends on: the machine, the model's shape, the strategy, the batch and the window. The
weights do not matter, so that random ones are measured before the real ones are fetched.
"""

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft_study import paths
from peft_study.data import datasets as assets
from peft_study.data import hub
from peft_study.errors import StudyError
from peft_study.files import fingerprint, replacing
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant

# The shapes of models that may not have been fetched yet; what they leave out is transformers' default.
SHAPES: dict[str, dict[str, Any]] = {
    "bundled:all-MiniLM-L6-v2": {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "vocab_size": 30522,
    },
    "distilbert/distilbert-base-uncased": {
        "model_type": "distilbert",
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "vocab_size": 30522,
    },
}
_SIZES = sorted({field for known in SHAPES.values() for field in known})  # what the time of a step depends on
_CODE = [*(paths.LIB / "peft_study").glob("training/*.py"), paths.LIB / "peft_study" / "strategies" / "adapters.py"]


@dataclass(frozen=True)
class Machine:
    """Where the runs would run: the threads of each, how many go side by side, and the GPUs that they go to."""

    threads: int
    together: int
    gpus: list[str]


@dataclass(frozen=True)
class Timing:
    """What one kind of training costs here, were this machine at work on nothing else.

    step_seconds: an optimizer step over the whole batch. review_seconds: the prediction of one review. memory: bytes at
    the peak of training, without the reviews. trained: bytes of the weights that train. saved: of what is kept of a
    trained model. weights: of the model before.
    """

    step_seconds: float
    review_seconds: float
    memory: float
    trained: int
    saved: int
    weights: int


def shape(name: str) -> dict[str, Any] | None:
    """The configuration of a model by its name, from its folder, the caches, or what is known; None if none has it."""
    try:
        found = json.loads(_config(name).read_text(encoding="utf-8"))
    except (OSError, ValueError, StudyError):
        found = None
    return found if isinstance(found, dict) else SHAPES.get(hub.split(name)[0])


def _config(name: str) -> Path:
    """Where a model's `config.json` is, or would be."""
    if name.startswith("bundled:"):
        return paths.cache() / name.removeprefix("bundled:") / "config.json"
    folder = assets.local(name)
    return folder / "config.json" if folder else hub.cached(name, "config.json") or Path("absent")


def kind(variant: Variant, config: dict[str, Any], where: Machine) -> str:
    """The name of the kind of step that `variant` takes here, of the model with this configuration."""
    reads = {"strategy", "max_length", "batch_size", "gradient_accumulation", "precision", "deterministic", "dropout"}
    values = variant.model_dump(include=reads | set(STRATEGIES[variant.strategy].reads))
    sizes = {name: config.get(name) for name in _SIZES}
    machine = [platform.node(), platform.machine(), os.cpu_count(), where.threads, where.gpus, version("torch")]
    told = json.dumps([machine, fingerprint(*_CODE), sizes, values], sort_keys=True)
    return blake2b(told.encode(), digest_size=12).hexdigest()


def known(kind: str) -> Timing | None:
    """What was measured of a kind of step, if it was."""
    try:
        return Timing(**json.loads(_file(kind).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def measure(kind: str, variant: Variant, config: dict[str, Any], where: Machine) -> Timing:
    """Measure a kind of step in a process of its own, which has the threads and the GPU of a run; keep the result.

    Raises `StudyError` where the steps fail, as for want of memory.
    """
    told = json.dumps({"variant": variant.model_dump(), "config": config})
    command = [sys.executable, "-m", "peft_study.engine.measure"]
    environment = os.environ | {"OMP_NUM_THREADS": str(where.threads), "HF_HUB_OFFLINE": "1"}
    if where.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = where.gpus[0]
    done = subprocess.run(command, input=told, env=environment, capture_output=True, text=True, check=False)
    try:
        timing = Timing(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError) as error:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise StudyError(f"a few steps of {variant.strategy!r} could not be measured: {last}") from error
    with replacing(_file(kind)) as partial:
        partial.write_text(json.dumps(asdict(timing)), encoding="utf-8")
    return timing


def _file(kind: str) -> Path:
    return paths.cache() / "timings" / f"{kind}.json"
