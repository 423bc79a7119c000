"""What `python -m benchmarks` found on this machine, for the report to quote: `runs/speed.json`."""

import json
from typing import Any

from peft_study import paths
from peft_study.strategies.table import label
from peft_study.text import listed

RATIO = "ours / obvious, reviews/s"  # what the rows of `ratios` are called that say how much faster it is


def load_speed() -> dict[str, Any] | None:
    """The tables that the benchmark wrote; None where it has not run, or wrote something else."""
    try:
        told = json.loads(paths.speed().read_text(encoding="utf-8"))
        return told if said(told) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def said(told: dict[str, Any] | None) -> str:
    """How many times as fast as the obvious way the study's code is, and how near to what the machine can do."""
    if told is None:
        return ""
    machine = told["machine"]
    ratios = [row for row in told["ratios"] if row["ratio"] == RATIO]
    training, inference = (_times([row for row in ratios if row["task"] == task]) for task in ("training", "inference"))
    ours = [row for row in told["speed"] if (row["task"], row["way"]) == ("training", "ours")]
    peak = listed(f"{row['of peak']} ({label(row['strategy'])})" for row in ours)
    return (
        "**How fast the code is.** It was set beside the obvious way to write it: float32, every review padded to the "
        f"window, the Trainer's defaults. On {machine['device']}, with `{machine['model']}`, {machine['max_length']} "
        f"tokens and batches of {machine['batch_size']}, it trains {training} and classifies {inference} as many "
        f"reviews a second (medians and ranges of {machine['rounds']} rounds). Training reaches {peak} of "
        "the speed of a large matrix product."
    )


def _times(rows: list[dict[str, Any]]) -> str:
    """The ratios of some strategies, with their ranges."""
    times = [
        f"{row['median']:.1f} [{row['least']:.1f}, {row['most']:.1f}] times ({label(row['strategy'])})" for row in rows
    ]
    return listed(times)
