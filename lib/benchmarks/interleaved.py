"""Training and inference, the obvious way and ours, interleaved, with ratios and their spread.

Both ways take turns within each round, so that what slows the machine slows both; a ratio is taken within a round, its
median and range over rounds. On a CPU, seconds are the processor's, so that other programs' share does not count. Peak
memory is of a process of its own for each way.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch

from benchmarks import whole
from benchmarks.ways import WAYS, Way, Work, matmul_peak
from peft_study.data import reviews as data
from peft_study.files import write_json
from peft_study.records.write import environment
from peft_study.report.speed_claims import RATIO
from peft_study.study.variant import Variant
from peft_study.training import trainer as training
from peft_study.training.cost import peak_memory


def measure(options: argparse.Namespace) -> int:
    """Measure, print the tables, and write the JSON where one is asked for."""
    if options.obvious_study:
        whole.run_obvious(options.obvious_study)
        return 0
    if options.study:
        return _tell({"machine": _machine(options), "study": whole.compare(options.study)}, options.json)
    torch.set_num_threads(options.threads)
    variants = {name: _variant(options, name) for name in options.strategies}
    if options.memory_of:
        return _print_memory(options)
    corpus = data.load_corpus(next(iter(variants.values())))
    rounds: list[Round] = [{} for _ in range(options.rounds)]
    ways: dict[tuple[str, str], Way] = {
        (name, way): make(variant, corpus) for name, variant in variants.items() for way, make in WAYS.items()
    }
    for number, found in enumerate(rounds, 1):
        print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
        for name in variants:
            for task in ("training", "inference"):
                for way in WAYS:
                    peaks = {kind: matmul_peak(dtype) for kind, dtype in _DTYPES.items()}
                    work = ways[name, way].train(options.steps) if task == "training" else ways[name, way].predict()
                    found[task, name, way] = work, peaks
    memory = {key: _memory(options, *key) for key in ways}
    told: dict[str, Any] = {"machine": _machine(options), "speed": _speeds(rounds, memory), "ratios": _ratios(rounds)}
    return _tell(told, options.json)


def _tell(told: dict[str, Any], file: Path | None) -> int:
    """Print every table, and write them all as JSON where there is a file for them."""
    for title, rows in told.items():
        if isinstance(rows, list):
            print(f"{title}\n{pd.DataFrame(rows).to_string(index=False, na_rep='')}\n")
    if file:
        write_json(file, told)
        print(f"written to {file}")
    return 0


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Round = dict[tuple[str, str, str], tuple[Work, dict[str, float]]]


def _speeds(rounds: list[Round], memory: dict[tuple[str, str], int]) -> list[dict[str, object]]:
    """A row per task, strategy and way: medians over rounds."""
    rows = []
    for task, name, way in rounds[0]:
        works = [found[task, name, way] for found in rounds]
        dtype = "bf16" if way == "ours" and training.uses_bf16("auto") else "fp32"
        rows.append(
            {
                "task": task,
                "strategy": name,
                "way": way,
                "reviews/s": round(median(work.reviews / work.seconds for work, _ in works), 1),
                "tokens/s": round(median(work.tokens / work.seconds for work, _ in works)),
                "GFLOP/s": round(median(work.flops / work.seconds for work, _ in works) / 1e9, 1),
                "of peak": f"{median(work.flops / work.seconds / peaks[dtype] for work, peaks in works):.0%} {dtype}",
                "padding": f"{works[0][0].padding:.1%}",
                "peak memory (GiB)": round(memory[name, way] / 2**30, 2) if task == "training" else None,
            }
        )
    return rows


def _ratios(rounds: list[Round]) -> list[dict[str, object]]:
    """How many times as many reviews a second ours handles, and the step of each strategy against full's."""

    def seconds(one: Round, *key: str) -> float:
        work, _ = one[key]  # type: ignore[index]
        return work.seconds / work.reviews

    rows = []
    for task, name in dict.fromkeys((task, name) for task, name, _ in rounds[0]):
        faster = [seconds(one, task, name, "obvious") / seconds(one, task, name, "ours") for one in rounds]
        rows.append({"task": task, "strategy": name, "ratio": RATIO, **_spread(faster)})
        if name != "full" and (task, "full", "ours") in rounds[0]:
            shares = [seconds(one, task, name, "ours") / seconds(one, task, "full", "ours") for one in rounds]
            rows.append({"task": task, "strategy": name, "ratio": "seconds / full's, ours", **_spread(shares)})
    return rows


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "least": round(min(values), 2), "most": round(max(values), 2)}


def _machine(options: argparse.Namespace) -> dict[str, object]:
    """Where, on what and how often it was measured."""
    asked = {name: getattr(options, name) for name in ("model", "batch_size", "max_length", "rounds")}
    where = environment()
    return asked | {name: where[name] for name in ("date", "device", "packages")}


def _variant(options: argparse.Namespace, strategy: str) -> Variant:
    """What is measured: nothing is kept, so no checkpoint and no validation."""
    return Variant(
        model=options.model,
        dataset=options.dataset,
        ood_dataset=None,
        strategy=strategy,
        train_size=options.train_size,
        test_size=options.reviews,
        max_length=options.max_length,
        batch_size=options.batch_size,
        validation_fraction=0,
        evaluations=0,
        checkpoint="last",
    )


def _memory(options: argparse.Namespace, strategy: str, way: str) -> int:
    """Peak bytes of a process that trains a few steps one way."""
    command = [sys.executable, "-m", "benchmarks", "--memory-of", way, "--strategies", strategy]
    for name in ("model", "dataset", "train_size", "reviews", "max_length", "batch_size", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def _print_memory(options: argparse.Namespace) -> int:
    variant = _variant(options, options.strategies[0])
    WAYS[options.memory_of](variant, data.load_corpus(variant)).train(2)
    print(peak_memory()["peak_memory_bytes"])
    return 0
