"""The sentences and small tables that carry numbers: each is computed, so that none can outlive the data.

A function here takes what the notebook has and shows, or returns, what may be said of it.
"""

from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from peft_study.analysis.accuracy import counterpart, further, grouped, title
from peft_study.data.tfidf import Baseline
from peft_study.records.read import Runs
from peft_study.strategies.table import STRATEGIES
from peft_study.text import listed, points

MANY = 5  # strategies or cases, above which a sentence does not go through them one by one
VERDICTS = ("better", "equivalent", "undetermined", "worse")


def setup(runs: Runs) -> str:
    """What was compared, on which data."""
    table, first = runs.table, runs.table.iloc[0]
    models, datasets = (listed(f"`{name}`" for name in table[field].unique()) for field in ("model", "dataset"))
    sizes = listed(f"{size:,}" for size in sorted(table["train_size"].unique()))
    origins = {True: "held out of the training split", False: "the dataset's own test split"}
    origin = origins.get(first["data.held_out"], "of unrecorded origin")
    return (
        f"{listed(STRATEGIES[name].label for name in table['strategy'].unique())} of {models} on "
        f"{datasets} with budgets of {sizes} labelled reviews, tested on {len(runs.labels):,} reviews "
        f"({origin}). {seeds(runs)}"
    )


def seeds(runs: Runs) -> str:
    """How many seeds there are, and what that means for the intervals."""
    counts = grouped(runs).size()
    if counts.max() == 1:
        return (
            "Every variant ran with **one seed**: the intervals cover the draw of test reviews, not the luck of "
            "initialisation, batch order and dropout."
        )
    covered = "the intervals cover the draw of test reviews and of seeds"
    if counts.min() == counts.max():
        return f"Every variant ran with {counts.max()} seeds; {covered}."
    return (
        f"The variants ran with {counts.min()} to {counts.max()} seeds; {covered}, where there are several. "
        "Variants with more seeds are known better."
    )


def missing(runs: Runs) -> str:
    """Which planned runs are not in the comparison, and why."""
    if not runs.missing:
        return f"All {len(runs.table)} planned runs are finished and compared."
    reasons = "\n".join(f"- `{run_id}`: {reason}" for run_id, reason in runs.missing.items())
    return f"{len(runs.table)} of {len(runs.study.variants)} planned runs are compared. **Not compared:**\n\n{reasons}"


def headline(runs: Runs, comparisons: pd.DataFrame, summary: pd.DataFrame, costs: pd.DataFrame) -> str:
    """The answer of the study: what each strategy gains or loses at every size that it shares with the baseline.

    Of many strategies it says only which verdict each got.
    """
    if comparisons.empty:
        return (
            "There is no answer yet: the comparison needs a run of the baseline strategy "
            f"(`{runs.study.baseline}`) and one of another at the same size, and not both can be compared."
        )
    pairs = comparisons.groupby(["strategy", *further(comparisons)], sort=False)
    if len(pairs) > MANY:
        told = _by_verdict(comparisons, runs)
    else:
        told = [_answer(rows.sort_values("train_size").to_dict("records"), runs, summary, costs) for _, rows in pairs]
    if "undetermined" in set(comparisons["verdict"]):
        told.append(
            "*Undetermined* means that neither a difference, corrected for the number of comparisons, nor equivalence "
            f"within ±{runs.study.margin:g} points is found."
        )
    return " ".join(told)


def _by_verdict(comparisons: pd.DataFrame, runs: Runs) -> list[str]:
    """Which of many strategies got which verdict, by size; the best first."""
    told = []
    base = _within(STRATEGIES[runs.study.baseline].label)
    for size, rows in comparisons.groupby("train_size"):
        ordered = rows.sort_values("difference", ascending=False)
        told.append(f"Against {base} at {size:,} labels, of {len(rows)} strategies:")
        parts = []
        for verdict in VERDICTS:
            found = ordered[ordered["verdict"] == verdict].to_dict("records")
            names = listed(f"{title(row)} ({points(row['difference'])})" for row in found)
            parts += [f"{len(found)} **{verdict}**: {names}"] if found else []
        told.append("; ".join(parts) + ".")
    return told


def _answer(rows: list[dict[Any, Any]], runs: Runs, summary: pd.DataFrame, costs: pd.DataFrame) -> str:
    """One strategy against the baseline at every common size, and its cost at the largest, which is the last row."""
    base, last = runs.study.baseline, rows[-1]
    (ours, theirs), (cost, full) = (
        [counterpart(last, table, strategy) for strategy in (last["strategy"], base)] for table in (summary, costs)
    )
    gaps = [
        f"{points(row['difference'])} [{points(row['low'])}, {points(row['high'])}] points at {row['train_size']:,} "
        f"labels (**{row['verdict']}**)"
        for row in rows
    ]
    return (
        f"{title(last)} against {_within(STRATEGIES[base].label)}: {listed(gaps)}. "
        f"At {last['train_size']:,} that is {100 * ours['accuracy']:.1f}% against {100 * theirs['accuracy']:.1f}% "
        f"accuracy, with {_share(cost['parameters.trainable'], full['parameters.trainable'], '.2%')} of the trained "
        f"parameters, {_share(cost['training.flops'], full['training.flops'], '.0%')} of the operations of training "
        f"and, as the clock had it, {_share(cost['training.seconds'], full['training.seconds'], '.0%')} of its time."
    )


def _within(label: str) -> str:
    """A label inside a sentence: `full fine-tuning`, but `LoRA` and `BitFit`."""
    return label if label[1:] != label[1:].lower() else label.lower()


def _share(part: float, whole: float, form: str) -> str:
    """What `part` is of `whole`, in words where that is no number."""
    return format(part / whole, form) if whole > 0 and np.isfinite(part) else "an unknown share"


def untrained(runs: Runs, table: pd.DataFrame) -> str:
    """Which runs cannot be told from naming the commonest class always, by the rows of the summary `table`, or none.

    A run is judged by its own Wilson interval (1927): that of several seeds also grows with what seeds do.
    """
    share = np.bincount(runs.labels).max() / len(runs.labels)
    right, found = (runs.preds.to_numpy() == runs.labels[:, None]).sum(axis=0), []
    low = pd.Series(proportion_confint(right, len(runs.labels), method="wilson")[0], runs.preds.columns)
    for row in table.to_dict("records"):
        if poor := int((low[row["run_ids"]] <= share).sum()):
            seeds = "" if len(row["run_ids"]) == 1 else f" ({poor} of {len(row['run_ids'])} seeds)"
            found.append(f"{title(row)} at {row['train_size']:,}{seeds}")
    if not found:
        return ""
    names = listed(found) if len(found) <= MANY else f"{len(found)} of {len(table)} variants"
    common = "commoner" if len(runs.class_names) == 2 else "commonest"
    return (
        f"**Not to be told from always naming the {common} class** ({share:.1%} of the test reviews): {names}. Being "
        "equivalent to another such model means nothing."
    )


def verdicts(comparisons: pd.DataFrame) -> str:
    """How often each verdict was reached, in words."""
    if comparisons.empty:
        return "There is no pair of runs to compare yet."
    counts = comparisons["verdict"].value_counts()
    told = listed(f"{count} {name}" for name, count in counts.items())
    many = "comparison" if len(comparisons) == 1 else "comparisons"
    return f"Of {len(comparisons)} {many} with the baseline strategy: {told}. @fig-differences draws them."


def detectable(comparisons: pd.DataFrame, margin: float) -> str:
    """Which differences the design could have found, beside the margin that the study cares for."""
    if comparisons.empty:
        return "There is no comparison whose power could be told."
    known = comparisons["detectable"].dropna()
    unknown = len(comparisons) - len(known)
    silent = f"In {unknown} of {len(comparisons)} too few reviews are disputed to say." if unknown else ""
    if known.empty:
        return (
            "What difference could have been found cannot be told: in no comparison do the runs disagree on enough "
            "reviews."
        )
    least, most = f"{known.min():.1f}", f"{known.max():.1f}"
    sizes = f"{least} points" if least == most else f"{least} to {most} points, depending on the comparison"
    told = f"With probability 80%, the corrected test finds a true difference of {sizes}."
    blind = int((known > margin).sum())
    if blind:
        told += (
            f" In {blind} of {len(comparisons)} comparisons that is more than the margin of {margin:g}: a smaller "
            "difference that matters may go unseen, so that the lack of a finding there is none of a difference."
        )
    else:
        told += f" That is no more than the margin of {margin:g}: a difference that matters would probably be seen."
    return f"{told} {silent}".strip()


def improvement(comparisons: pd.DataFrame, runs: Runs) -> str:
    """How often a run of each strategy beats one of the baseline at the largest size with several seeds, over pairs."""
    known = comparisons.dropna(subset=["improvement"])
    if known.empty:
        return (
            "How probable it is that a new run of a strategy beats one of the baseline cannot be told: that takes two "
            "seeds or more on both sides."
        )
    size = known["train_size"].max()
    rows = known[known["train_size"] == size].sort_values("improvement", ascending=False)
    base = _within(STRATEGIES[runs.study.baseline].label)
    if len(rows) > MANY:
        likely = int((rows["improvement"] > 0.5).sum())
        return (
            f"At {size:,} labels, {likely} of {len(rows)} strategies beat {base} in more than half of the pairs of "
            "seeds (a tie counts half)."
        )
    shares = listed(
        f"{title(row)} in {row['improvement'] * row['pairs']:g} of {row['pairs']}" for row in rows.to_dict("records")
    )
    return f"Of the pairs of one run each at {size:,} labels (a tie counts half), {base} is beaten by {shares}."


def words_reach(baseline: Baseline | None) -> str:
    """What the bag of words reaches at each size; empty where there is none."""
    if baseline is None:
        return ""
    shares = (f"{row['accuracy']:.1%} at {row['train_size']:,} labels" for row in baseline.scores().to_dict("records"))
    return f"The bag of words reaches {listed(shares)}."


def words(comparisons: pd.DataFrame) -> str:
    """Whether fine-tuning beats the bag-of-words baseline at every size, or where it does not."""
    if comparisons.empty:
        return "The bag-of-words baseline is not there: `01_explore_data.ipynb` makes it."
    lost = comparisons[comparisons["verdict"] != "better"]
    if lost.empty:
        least = comparisons.loc[comparisons["difference"].idxmin()]
        return (
            "Every strategy is clearly better than the bag-of-words baseline at every size; the smallest lead is "
            f"{points(least['difference'])} points ({title(least.to_dict())}, {least['train_size']:,})."
        )
    worse = lost[lost["verdict"] == "worse"].to_dict("records")
    cases = listed(f"{title(row)} at {row['train_size']:,} ({points(row['difference'])} points)" for row in worse)
    named = f": {cases}." if 0 < len(worse) <= MANY else "."
    return (
        f"Fine-tuning is clearly better than a bag of words in {len(comparisons) - len(lost)} of {len(comparisons)} "
        f"comparisons and clearly worse in {len(worse)}{named}"
    )


def disagreement(runs: Runs, pair: tuple[str, str] | None) -> str:
    """On how many test reviews two runs disagree, and who is right."""
    if pair is None:
        return "There is no pair of runs at one size to look at yet."
    right = {run_id: (runs.preds[run_id].to_numpy() == runs.labels) for run_id in pair}
    first, second = right.values()
    names = f"`{pair[0]}` and `{pair[1]}`"  # that are wrong in two ways differ as well, where there are more classes
    told = f"{names} disagree on" if len(runs.class_names) == 2 else f"Only one of {names} is right on"
    return (
        f"{told} {(first != second).sum()} of {len(runs.labels):,} test reviews: the "
        f"former alone is right on {(first & ~second).sum()}, the latter alone on {(second & ~first).sum()}; on "
        f"{(~first & ~second).sum()} both are wrong."
    )
