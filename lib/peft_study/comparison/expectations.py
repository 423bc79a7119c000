"""What is expected of the comparison (01), and what happened (03)."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from peft_study.comparison.claims import points
from peft_study.comparison.tables import counterpart, further, title
from peft_study.results import Runs


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
    gains = {
        title(group.iloc[0].to_dict()): 100 * group.sort_values("train_size")["accuracy"].diff().dropna()
        for _, group in evidence.summary.groupby(["strategy", *further(evidence.summary)], sort=False)
        if len(group) > 1
    }
    if not gains:
        return None, "a single size"
    told = "; ".join(f"{who}: " + ", ".join(points(gain) for gain in steps) for who, steps in gains.items())
    return all((steps > 0).all() for steps in gains.values()), f"{told} points from size to size"


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
    return bool((drops < 0).all()), f"from {points(drops.min())} to {points(drops.max())} points"


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
