"""Every statistic of the records of `golden_records` is what it was when `statistics.json` was written."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import golden_records
import pytest

from peft_study import paths
from peft_study.analysis import accuracy, calibration, costs, learning_curves, learning_rates, slices
from peft_study.analysis.slice_rules import load_slices
from peft_study.analysis.tfidf import load_baseline
from peft_study.records.read import load_runs
from peft_study.statistics import calibration as confidence
from peft_study.statistics import intervals, paired_tests

EXPECTED = json.loads(Path(__file__).with_name("statistics.json").read_text(encoding="utf-8"))
API = SimpleNamespace(
    **{name: getattr(intervals, name) for name in ("interval", "macro_f1")},
    **{
        name: getattr(paired_tests, name)
        for name in ("compare", "holm", "verdict", "detectable", "permutation", "mcnemar")
    },
    **{
        name: getattr(confidence, name)
        for name in ("ece", "expected_error", "overconfidence", "temperature", "reliability", "brier")
    },
    **{"load_runs": load_runs, "load_baseline": load_baseline, "load_slices": load_slices},
    **{
        name: getattr(accuracy, name)
        for name in ("summary", "against_baseline", "against_words", "largest_pair", "disagreements")
    },
    **{"costs": costs.costs, "on_front": costs.on_front},
    **{name: getattr(calibration, name) for name in ("measured", "scaled", "temperatures")},
    **{"match": slices.match, "accuracies": slices.accuracies, "slice_differences": slices.differences},
    **{"curves": learning_curves.curves, "rate_differences": learning_rates.differences},
    **{name: getattr(learning_rates, name) for name in ("sweep", "best", "own", "ratios")},
)


@pytest.mark.parametrize("study", golden_records.STUDIES)
def test_the_statistics_of_a_study_are_unchanged(study: str) -> None:
    golden_records.write_study(paths.home(), study)
    assert not different(golden_records.statistics(API, study), EXPECTED[study])


def test_the_statistics_of_arrays_are_unchanged() -> None:
    assert not different(golden_records.functions(API), EXPECTED["functions"])


def different(value: Any, expected: Any, place: str = "") -> list[str]:
    """The places in which two values of JSON differ by more than rounding."""
    if isinstance(expected, dict) and isinstance(value, dict):
        faults = [f"{place}: {sorted(set(value) ^ set(expected))}"] * (value.keys() != expected.keys())
        return faults + [
            fault for key in value.keys() & expected for fault in different(value[key], expected[key], f"{place}.{key}")
        ]
    if isinstance(expected, list) and isinstance(value, list) and len(value) == len(expected):
        return [
            fault
            for index, pair in enumerate(zip(value, expected, strict=True))
            for fault in different(*pair, f"{place}[{index}]")
        ]
    if isinstance(expected, float) and isinstance(value, float | int):
        alike = math.isclose(value, expected, rel_tol=1e-12, abs_tol=1e-12) or (
            math.isnan(value) and expected != expected
        )
    else:
        alike = value == expected
    return [] if alike else [f"{place}: {value!r} instead of {expected!r}"]
