"""What the runs of a study that are left will take on this machine, and whether it has that."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from peft_study import paths
from peft_study.data import datasets as assets
from peft_study.data import hub
from peft_study.engine import timings
from peft_study.engine.timings import Machine, Timing
from peft_study.errors import StudyError
from peft_study.plain_yaml import read_yaml
from peft_study.study.study import Study
from peft_study.study.variant import Variant
from peft_study.text import duration, size

LONG = 10_000_000  # tokens to train on, from which it is worth a minute to measure beforehand
DAY = 86_400  # seconds
WHOLE = 25_000  # reviews of a test set that is taken whole: its size is not known before it is fetched
_DATA = 300e6  # bytes: reviews of the hub, their tokens, notebooks and reports


@dataclass(frozen=True)
class Forecast:
    """What a study will take: for each run left its seconds, bytes of memory, and bytes that it leaves."""

    study: str
    runs: dict[str, tuple[float, float, int]]
    machine: Machine
    temporary: float

    @property
    def seconds(self) -> float:
        """From beginning to end, with so many runs side by side."""
        each = [run[0] for run in self.runs.values()]
        return max(*each, sum(each) / self.machine.together, 0)

    @property
    def memory(self) -> float:
        """At the peak, in bytes: that of the largest runs, side by side."""
        return sum(sorted((run[1] for run in self.runs.values()), reverse=True)[: self.machine.together])

    @property
    def disk(self) -> float:
        """In bytes: what stays, what is fetched, and checkpoints while they are needed."""
        return sum(run[2] for run in self.runs.values()) + self.temporary


def machine(cores: int | None, gpus: list[str], runs: int) -> Machine:
    """How Snakemake would use this machine, or so many of its cores, for so many runs."""
    profile = read_yaml(paths.LIB / "profiles" / "default" / "config.yaml")
    threads = int(profile["set-threads"]["train"])
    cores = cores or _processors()
    return Machine(threads, max(1, min(runs, cores // threads, *([len(gpus)] if gpus else []))), gpus)


def _processors() -> int:
    """How many processors this process may use, which is what Snakemake counts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reviews(variant: Variant) -> float:
    """How many reviews a run trains on, each as often as it is read."""
    if variant.max_steps is not None:
        return variant.max_steps * variant.batch_size * variant.gradient_accumulation
    return variant.epochs * variant.train_size * (1 - variant.validation_fraction)


def forecast(study: Study, runs: Sequence[str], machine: Machine) -> Forecast | None:
    """What `runs` will take; None where the study is short and nothing is known yet, or where a model's shape is not.

    What is not known of a long study is measured now, each kind of step once.
    """
    variants = {run: study.variants[run] for run in runs}
    long = sum(reviews(variant) * variant.max_length for variant in variants.values()) >= LONG
    told: dict[str, tuple[float, float, int]] = {}
    largest = fetched = 0.0
    for run, variant in variants.items():
        if (timing := _timing(variant, machine, long)) is None:
            return None
        told[run] = (_seconds(variant, timing), timing.memory, timing.saved * variant.save_model)
        largest = max(largest, timing.trained * _in_checkpoints(variant))
        fetched = max(fetched, timing.weights * _must_be_fetched(variant.model))
    return Forecast(study.name, told, machine, machine.together * largest + fetched + _DATA)


def _in_checkpoints(variant: Variant) -> int:
    """How often what trains is on the disk while a run trains: the best checkpoint and the newest, if there are any.

    To go on from one takes AdamW's two moments as well, and the one before is removed after the next is there.
    """
    return 3 * 3 if variant.resume else 2 * (variant.checkpoint == "best")


def _must_be_fetched(model: str) -> bool:
    return assets.is_on_hub(model) and hub.cached(model, "config.json") is None


def _timing(variant: Variant, machine: Machine, worth: bool) -> Timing | None:
    """What is known of the variant's kind of step, or, where it is `worth` that, measured now."""
    if (config := timings.shape(variant.model)) is None:
        if worth:
            print(f"how long {variant.model!r} takes can be told once it is fetched", file=sys.stderr)
        return None
    kind = timings.kind(variant, config, machine)
    if (found := timings.known(kind)) or not worth:
        return found
    print(f"measuring a few steps of {variant.strategy!r} on this machine, once ...", file=sys.stderr, flush=True)
    try:
        return timings.measure(kind, variant, config, machine)
    except StudyError as error:  # the memory was not enough, say: auto_batch may find what is, or it is free later
        print(f"{error}; so how long the study takes cannot be told", file=sys.stderr)
        return None


def _seconds(variant: Variant, timing: Timing) -> float:
    """What a run takes: its steps, and its predictions on validation and test reviews."""
    validation = variant.train_size * variant.validation_fraction
    other = (variant.ood_size or WHOLE) if variant.ood_dataset else 0
    predicted = variant.evaluations * validation + (variant.test_size or WHOLE) + other
    steps = reviews(variant) / (variant.batch_size * variant.gradient_accumulation)
    return steps * timing.step_seconds + predicted * timing.review_seconds


def told(forecast: Forecast) -> str:
    """The forecast for the terminal: a line for each run, what all take, and what to do where that is too much."""
    where, side = forecast.machine, forecast.machine.together
    device = f"{len(where.gpus)} GPU{'s' * (len(where.gpus) > 1)}" if where.gpus else "CPU, without a GPU"
    beside = f"{side} runs side by side" if side > 1 else "one run at a time"
    rows = [(run, duration(time), size(memory), size(kept)) for run, (time, memory, kept) in forecast.runs.items()]
    rows = [("run", "time", "memory", "kept"), *rows]
    rows.append(("in all", duration(forecast.seconds), size(forecast.memory), f"{size(forecast.disk)} of disk at most"))
    width = max(len(row[0]) for row in rows)
    lines = [f"  {run:<{width}}  {time:>12}  {memory:>9}  {kept}" for run, time, memory, kept in rows]
    head = (
        f"Study {forecast.study} on this machine ({device}; {beside}), as a few measured steps suggest, at most about:"
    )
    return "\n".join([head, *lines, *_advice(forecast)])


def _advice(forecast: Forecast) -> list[str]:
    """What to do where this machine is too slow or too small."""
    advice = []
    if forecast.seconds > DAY and not forecast.machine.gpus:
        advice.append(
            "That is over a day on a CPU. ./run_all.sh quick asks the same question in minutes; for this study, take a "
            "machine with a GPU."
        )
    memory = psutil.virtual_memory().total
    if not forecast.machine.gpus and forecast.memory > memory:
        fewer = "--cores 1 takes less; so does" if forecast.machine.together > 1 else "What helps is"
        advice.append(
            f"This machine has {size(memory)} of memory. {fewer} a smaller batch_size, with gradient_accumulation to "
            "make up for it."
        )
    return advice


def require_space(forecast: Forecast) -> None:
    """Raise `StudyError` where the disk has not what the runs will take."""
    folder = paths.study_folder(forecast.study)
    if (free := shutil.disk_usage(folder).free) < forecast.disk:
        raise StudyError(
            f"no space left in {folder}: {size(free)} free, about {size(forecast.disk)} needed; free some, set "
            "PEFT_STUDY_HOME to a folder on a larger disk with this study's runs/, or save_model to false in study.yaml"
        )
