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
    """The tables that expectations are checked against: those of `accuracy` and `costs`; `ood` is empty without any."""

    runs: Runs
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    costs: pd.DataFrame
    words: pd.DataFrame
    ood: pd.DataFrame


Outcome = tuple[bool | None, str]  # whether the expectation held (None: undetermined), and the numbers


def _full_is_never_beaten(evidence: Evidence) -> Outcome:
    table, baseline = evidence.comparisons, evidence.runs.study.baseline
    if table.empty or baseline != "full":
        return None, "no pair to compare" if table.empty else f"the baseline of the study is {baseline}"
    best = table.loc[table["difference"].idxmax()]
    lead = f"largest difference from {baseline}: {points(best['difference'])} points ({best['verdict']})"
    return not (table["verdict"] == "better").any(), lead


def _labels_help(evidence: Evidence) -> Outcome:
    runs, gains, steps = evidence.runs, [], []
    for _, group in evidence.summary.groupby(["strategy", *further(evidence.summary)], sort=False):
        preds = [runs.preds[ids].to_numpy().T for ids in group.sort_values("train_size")["run_ids"]]
        own = [compare(more, fewer, runs.labels) for fewer, more in pairwise(preds)]
        gain = ", ".join(points(step.difference.estimate) for step in own)
        gains += [f"{title(group.iloc[0].to_dict())}: {gain}"] if own else []
        steps += own
    if not steps:
        return None, "a single budget"
    clear = np.array(holm([step.p_value for step in steps])) < ALPHA
    ahead = np.array([step.difference.estimate > 0 for step in steps])
    held = False if (clear & ~ahead).any() else True if (clear & ahead).all() else None
    return held, f"{'; '.join(gains)} points from budget to budget; {clear.sum()} of {len(steps)} significant"


def _time_saves_less_than_parameters(evidence: Evidence) -> Outcome:
    costs, base = evidence.costs, evidence.runs.study.baseline
    figures = ["training.seconds", "parameters.trainable"]
    pairs = [(row, counterpart(row, costs, base)) for row in costs[costs["strategy"] != base].to_dict("records")]
    shares = pd.DataFrame([[row[name] / other[name] for name in figures] for row, other in pairs if other is not None])
    if shares.dropna().empty:
        return None, "no pair to compare"
    time, share = shares.dropna().median()
    return time > 10 * share, f"{share:.2%} of the trainable parameters, {time:.0%} of the training time (medians)"


def _bag_of_words_is_beaten(evidence: Evidence) -> Outcome:
    if evidence.words.empty:
        return None, "no bag-of-words baseline"
    wins = int((evidence.words["verdict"] == "better").sum())
    return wins == len(evidence.words), f"better in {wins} of {len(evidence.words)} comparisons"


def _other_reviews_are_harder(evidence: Evidence) -> Outcome:
    ood, own = evidence.ood, evidence.summary
    if ood.empty:
        return None, "no out-of-domain reviews"
    drops = 100 * (ood["accuracy"] - own["accuracy"])
    lower, higher = ood["high"] < own["low"], ood["low"] > own["high"]
    held = False if higher.any() else True if lower.all() else None
    clear = f"{lower.sum() + higher.sum()} of {len(drops)} with disjoint intervals"
    return held, f"{points(drops.min())} to {points(drops.max())} points, {clear}"


EXPECTATIONS: dict[str, Callable[[Evidence], Outcome]] = {
    "No strategy is better than full fine-tuning at any budget.": _full_is_never_beaten,
    "Every strategy gains from every step to a larger budget.": _labels_help,
    "Training fewer parameters saves far less time than parameters: every step still runs the whole network forward, "
    "and most of it backward.": _time_saves_less_than_parameters,
    "Every fine-tuned model is better than a bag of words of the same budget.": _bag_of_words_is_beaten,
    "Every strategy loses accuracy on short sentences from another source.": _other_reviews_are_harder,
}


def listed() -> pd.DataFrame:
    """The expectations as 01 states them, written before any training."""
    return pd.DataFrame({"expectation": list(EXPECTATIONS)}, index=range(1, len(EXPECTATIONS) + 1))


def checked(evidence: Evidence) -> pd.DataFrame:
    """The expectations with their outcome: `held` (yes, no, undetermined) and the numbers behind it."""
    outcomes = [check(evidence) for check in EXPECTATIONS.values()]
    held = ["undetermined" if held is None else "yes" if held else "no" for held, _ in outcomes]
    return listed().assign(held=held, outcome=[numbers for _, numbers in outcomes])
