"""Every statistic of the records of `golden_records` is what it was when `statistics.json` was written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from golden_records import STUDIES, draw_logits, write_study

from peft_study import paths
from peft_study.analysis import accuracy, calibration, costs, learning_curves, learning_rates, slices
from peft_study.analysis.slice_rules import load_slices
from peft_study.analysis.tfidf import load_baseline
from peft_study.records.read import load_runs
from peft_study.statistics import calibration as measures
from peft_study.statistics import paired_tests
from peft_study.statistics.intervals import interval

EXPECTED = json.loads(Path(__file__).with_name("statistics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("study", STUDIES)
def test_the_statistics_of_a_study_are_unchanged(study: str) -> None:
    write_study(paths.home(), study)
    assert different(statistics(study), EXPECTED[study]) == {}


def test_the_statistics_of_arrays_are_unchanged() -> None:
    assert different(functions(), EXPECTED["functions"]) == {}


def different(values: Any, expected: Any) -> dict[str, Any]:
    """By place, the leaves that differ by more than rounding: now, and as they were."""
    now, then = leaves(values), leaves(expected)
    pairs = {place: (now.get(place), then.get(place)) for place in now | then}
    return {place: pair for place, pair in pairs.items() if not alike(*pair)}


def alike(value: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return isinstance(value, float | int) and value == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)
    return bool(value == expected)


def leaves(value: Any, place: str = "") -> dict[str, Any]:
    """The numbers and texts of nested tables, arrays, dataclasses and mappings, by where they stand."""
    if isinstance(value, pd.DataFrame):
        value = {str(name): column.tolist() for name, column in value.items()}
    elif hasattr(value, "__dataclass_fields__"):
        value = vars(value)
    elif isinstance(value, np.ndarray | list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping | pd.Series):
        return {place: None if value is pd.NA else value}
    found = {place: len(value)}
    for key, entry in value.items():
        found |= leaves(entry, f"{place}.{key}")
    return found


def statistics(name: str) -> dict[str, Any]:
    """Every statistic of the study `name`."""
    runs = load_runs(name)
    summary = accuracy.summary(runs)
    found: dict[str, Any] = {
        "runs": list(runs.table.index),
        "missing": sorted(runs.missing),
        "summary": summary,
        "ood": accuracy.summary(runs, part="ood_"),
        "differences": accuracy.against_baseline(runs),
        "tfidf": accuracy.against_tfidf(runs, load_baseline(name)),
        "costs": (bill := costs.costs(runs)),
        "front": costs.on_front(bill, "training.seconds"),
        "calibration": calibration.measured(runs),
        "largest_pair": accuracy.largest_pair(runs),
    }
    fitted = calibration.temperatures(runs)
    sliced = slices.match(runs, load_slices(name))
    scores = slices.accuracies(sliced)
    found |= {
        "temperatures": fitted,
        "scaled": calibration.scaled(runs, fitted),
        "slices": scores,
        "slice_differences": slices.differences(sliced, scores),
        "disagreements": accuracy.disagreements(runs, *found["largest_pair"]).head(10),
    }
    if name == "several":
        found["curves"] = learning_curves.curves(runs, summary, draws=20)
    if name == "sweep":
        table = learning_rates.sweep(runs)
        best = learning_rates.best(table)
        own = learning_rates.own(best)
        found |= {"sweep": table, "best": best, "own": own, "ratios": learning_rates.ratios(best)}
        found["rate_differences"] = learning_rates.differences(runs, table, own)
    return found


def functions() -> dict[str, Any]:
    """What the functions of arrays return on a few arrays."""
    several, labels = np.stack([draw_logits(f"run {seed}", 0.85, 200, 2) for seed in range(3)]), np.arange(200) % 2
    others, three = draw_logits("other", 0.8, 200, 2)[None], draw_logits("three", 0.8, 200, 3)
    preds, theirs = several.argmax(axis=-1), others.argmax(axis=-1)
    pairs = {"single": (preds[:1], theirs), "seeds": (preds, theirs), "equal": (preds[:1], preds[:1])}
    compared = {key: paired_tests.compare(*sides, labels) for key, sides in pairs.items()}
    return {
        "interval": [interval(preds == labels), interval(preds[0] == labels, level=0.9)],
        "perfect": interval(labels == labels),
        "compare": compared,
        "verdict": [paired_tests.verdict(one.interval(), one.seeds, 1.0) for one in compared.values()],
        "detectable": [paired_tests.detectable(one) for one in compared.values()],
        "settling": [paired_tests.settling(one, 1.0) for one in compared.values()],
        "ece": [measures.ece(several[0], labels), measures.ece(three, np.arange(200) % 3)],
        "expected_error": measures.expected_error(several, labels),
        "temperature": [measures.temperature(several[0], labels), measures.temperature(three, np.arange(200) % 3)],
        "reliability": measures.reliability(several, labels),
    }
