"""What is expected of the comparison (01), and what happened (03)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import ALPHA, counterpart, further, title
from peft_study.records.read import Runs
from peft_study.statistics.paired_tests import compare, holm
from peft_study.text import points


@dataclass(frozen=True)
class Evidence:
    """The tables that expectations are checked against; see `comparison.tables` for their columns."""

    runs: Runs
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    costs: pd.DataFrame
    words: pd.DataFrame
    ood: pd.DataFrame


Outcome = tuple[bool | None, str]


@dataclass(frozen=True)
class Expectation:
    """A sentence written before training, and its check: whether it held (None: cannot be told), and the figures."""

    text: str
    check: Callable[[Evidence], Outcome]


def _full_is_never_beaten(evidence: Evidence) -> Outcome:
    table = evidence.comparisons
    if table.empty:
        return None, "no pair to compare"
    if evidence.runs.study.baseline != "full":
        return None, f"the study compares with {evidence.runs.study.baseline}"
    best = table.loc[table["difference"].idxmax()]
    return (
        not (table["verdict"] == "better").any(),
        f"largest lead over {evidence.runs.study.baseline}: {points(best['difference'])} points ({best['verdict']})",
    )


def _labels_help(evidence: Evidence) -> Outcome:
    runs, gains, found = evidence.runs, {}, []
    for _, group in evidence.summary.groupby(["strategy", *further(evidence.summary)], sort=False):
        preds = [runs.preds[ids].to_numpy().T for ids in group.sort_values("train_size")["run_ids"]]
        steps = [compare(larger, smaller, runs.labels) for smaller, larger in pairwise(preds)]
        found += steps
        if steps:
            gains[title(group.iloc[0].to_dict())] = ", ".join(points(step.difference.estimate) for step in steps)
    if not found:
        return None, "a single size"
    told = "; ".join(f"{who}: {steps}" for who, steps in gains.items())
    clear = np.array(holm([step.p_value for step in found])) < ALPHA
    ahead = np.array([step.difference.estimate > 0 for step in found])
    held = False if (clear & ~ahead).any() else True if (clear & ahead).all() else None
    return held, f"{told} points from size to size, {clear.sum()} of {len(found)} clear by the corrected paired test"


def _time_saves_less_than_parameters(evidence: Evidence) -> Outcome:
    costs, base = evidence.costs, evidence.runs.study.baseline
    figures = ["training.seconds", "parameters.trainable"]
    rest = costs[costs["strategy"] != base]
    pairs = [(row, counterpart(row, costs, base)) for row in rest.to_dict("records")]
    shares = pd.DataFrame([[row[name] / other[name] for name in figures] for row, other in pairs if other is not None])
    if shares.dropna().empty:
        return None, "no pair to compare"
    seconds, share = shares.dropna().median()
    return (
        seconds > 10 * share,
        f"{share:.2%} of the trainable parameters, {seconds:.0%} of the training time (medians)",
    )


def _words_are_beaten(evidence: Evidence) -> Outcome:
    if evidence.words.empty:
        return None, "no bag-of-words baseline"
    wins = int((evidence.words["verdict"] == "better").sum())
    return wins == len(evidence.words), f"clearly better in {wins} of {len(evidence.words)} comparisons"


def _other_reviews_are_harder(evidence: Evidence) -> Outcome:
    if evidence.ood.empty:
        return None, "no out-of-distribution reviews"
    drops = 100 * (evidence.ood["accuracy"] - evidence.summary["accuracy"])
    lower, higher = evidence.ood["high"] < evidence.summary["low"], evidence.ood["low"] > evidence.summary["high"]
    held = False if higher.any() else True if lower.all() else None
    clear = f"{lower.sum() + higher.sum()} of {len(drops)} beyond both intervals"
    return held, f"from {points(drops.min())} to {points(drops.max())} points, {clear}"


EXPECTATIONS = (
    Expectation("No strategy is clearly better than full fine-tuning at any size.", _full_is_never_beaten),
    Expectation("Every strategy gains from every step to a larger budget.", _labels_help),
    Expectation(
        "Training fewer parameters saves far less time than parameters: every step still runs the whole network "
        "forward, and most of it backward.",
        _time_saves_less_than_parameters,
    ),
    Expectation("Every fine-tuned model is clearly better than a bag of words of the same budget.", _words_are_beaten),
    Expectation("Every strategy loses accuracy on short sentences from another source.", _other_reviews_are_harder),
)


def listed() -> pd.DataFrame:
    """The expectations as 01 states them."""
    return pd.DataFrame({"expectation": [e.text for e in EXPECTATIONS]}, index=range(1, len(EXPECTATIONS) + 1))


def checked(evidence: Evidence) -> pd.DataFrame:
    """The expectations beside what happened: `held`, and the figures behind the word."""
    words = {True: "yes", False: "no", None: "cannot be told"}
    outcomes = [e.check(evidence) for e in EXPECTATIONS]
    return listed().assign(
        held=[words[held if held is None else bool(held)] for held, _ in outcomes],
        **{"what happened": [story for _, story in outcomes]},
    )
