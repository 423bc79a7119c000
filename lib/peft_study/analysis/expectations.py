"""What is expected of the comparison (01), and what happened (03).

Every outcome is that of a test: verdicts of a family of comparisons, or intervals that do not overlap. An expectation
on which the tests decide nothing, or for which there are too few seeds, is undecided.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from peft_study.analysis.accuracy import counterpart, further, groups, pairs
from peft_study.records.read import Runs
from peft_study.statistics.paired_tests import SEEDS
from peft_study.study.study import Study
from peft_study.text import points


@dataclass(frozen=True)
class Evidence:
    """The tables that expectations are checked against: those of `accuracy` and `costs`; `ood` is empty without any."""

    runs: Runs
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    costs: pd.DataFrame
    tfidf: pd.DataFrame
    ood: pd.DataFrame


Outcome = tuple[bool | None, str]  # whether the expectation held (None: undecided), and the numbers


@dataclass(frozen=True)
class Expectation:
    """What is expected (`{metric}` stands for the study's), of which studies, and how it is checked."""

    text: str
    applies: Callable[[Study], bool]
    check: Callable[[Evidence], Outcome]


def _labels_help(evidence: Evidence) -> Outcome:
    steps: list[tuple[Any, Any]] = []
    for _, rows in evidence.summary.groupby(["strategy", *further(evidence.summary)], sort=False):
        steps += pairwise(rows.sort_values("train_size").to_dict("records"))
    return _by_intervals(steps, evidence.runs.study.metric)


def _time_saves_less_than_parameters(evidence: Evidence) -> Outcome:
    shares, ahead, behind = [], [], []
    for row, other in pairs(groups(evidence.runs), evidence.runs.study.baseline):
        ours, theirs = (counterpart(row, evidence.costs, side["strategy"]) for side in (row, other))
        if min(len(row["run_ids"]), len(other["run_ids"])) < SEEDS:
            continue
        own, full = (evidence.runs.table.loc[ids, "training.seconds"] for ids in (row["run_ids"], other["run_ids"]))
        share = ours["parameters.trainable"] / theirs["parameters.trainable"]
        shares.append((share, ours["training.seconds"] / theirs["training.seconds"]))
        ahead.append(own.min() / full.max() > share)  # in every pair of runs
        behind.append(own.max() / full.min() < share)
    if not shares or pd.DataFrame(shares).isna().any(axis=None):
        return None, f"fewer than {SEEDS} seeds, or costs that are not on record"
    parameters, times = zip(*shares, strict=True)
    numbers = f"{_span(parameters, '.2%')} of the trainable parameters, {_span(times, '.0%')} of the training time"
    return False if any(behind) else True if all(ahead) else None, numbers


def _span(values: Collection[float], form: str) -> str:
    return " to ".join(dict.fromkeys(format(end, form) for end in (min(values), max(values))))


def _other_domains_are_harder(evidence: Evidence) -> Outcome:
    pairs = zip(evidence.ood.to_dict("records"), evidence.summary.to_dict("records"), strict=False)
    return _by_intervals(list(pairs), evidence.runs.study.metric)


def _by_verdicts(table: pd.DataFrame, expected: Collection[str], contrary: Collection[str]) -> Outcome:
    """Held where every verdict is among those `expected`, not held where one is among the `contrary` ones."""
    if table.empty:
        return None, "no comparison"
    verdicts = table["verdict"]
    held = False if verdicts.isin(contrary).any() else True if verdicts.isin(expected).all() else None
    counts = ", ".join(f"{name} in {count}" for name, count in verdicts.value_counts().items())
    return held, f"{counts} of {len(table)} comparisons"


def _by_intervals(pairs: Sequence[tuple[Any, Any]], metric: str) -> Outcome:
    """Held where the second row of every pair has the higher interval, not held where one has the lower."""
    if not pairs or min(row["seeds"] for pair in pairs for row in pair) < SEEDS:
        return None, f"fewer than {SEEDS} seeds" if pairs else "no comparison"
    gains = pd.Series([100 * (more[metric] - less[metric]) for less, more in pairs])  # NaN where one is unstable
    above = [less["high"] < more["low"] for less, more in pairs]
    below = [more["high"] < less["low"] for less, more in pairs]
    held = False if any(below) else True if all(above) else None
    clear = f"{sum(above) + sum(below)} of {len(pairs)} with intervals that do not overlap"
    return held, f"{points(gains.min())} to {points(gains.max())} points, {clear}"


def _compares_with_full(study: Study) -> bool:
    return study.baseline == "full" and len({variant.strategy for variant in study.variants.values()}) > 1


EXPECTATIONS = (
    Expectation(
        "No strategy is better than full fine-tuning at any budget.",
        _compares_with_full,
        lambda evidence: _by_verdicts(evidence.comparisons, {"worse", "equivalent"}, {"better"}),
    ),
    Expectation(
        "Every strategy has a higher {metric} at every larger budget.",
        lambda study: len({variant.train_size for variant in study.variants.values()}) > 1,
        _labels_help,
    ),
    Expectation(
        "No strategy saves as large a share of the training time as of the trainable parameters: every step still runs "
        "the whole network forward, and most of it backward.",
        _compares_with_full,
        _time_saves_less_than_parameters,
    ),
    Expectation(
        "Every fine-tuned model is better than TF-IDF at the same budget.",
        lambda study: True,
        lambda evidence: _by_verdicts(evidence.tfidf, {"better"}, {"worse", "equivalent"}),
    ),
    Expectation(
        "Every strategy has a higher {metric} in its own domain than out of it.",
        lambda study: any(variant.ood_dataset for variant in study.variants.values()),
        _other_domains_are_harder,
    ),
)


def listed(study: Study) -> list[str]:
    """The expectations that apply to a study, as 01 states them, written before any training."""
    return [expectation.text.format(metric=study.noun) for expectation in EXPECTATIONS if expectation.applies(study)]


def checked(evidence: Evidence) -> pd.DataFrame:
    """The expectations with their outcome: `held` (yes, no, undecided) and the numbers behind it."""
    study = evidence.runs.study
    outcomes = [expectation.check(evidence) for expectation in EXPECTATIONS if expectation.applies(study)]
    held = ["undecided" if held is None else "yes" if held else "no" for held, _ in outcomes]
    columns = {"expectation": listed(study), "held": held, "outcome": [numbers for _, numbers in outcomes]}
    return pd.DataFrame(columns, index=range(1, len(held) + 1))
