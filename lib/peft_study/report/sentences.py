"""The few sentences that carry a study's answer: each is computed, so that none can outlive the data."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import FEW, by_seed, counterpart, further, title
from peft_study.records.read import Runs
from peft_study.statistics.paired_tests import AT_CHANCE, NO_VERDICT, SEEDS, UNSTABLE
from peft_study.strategies.table import STRATEGIES
from peft_study.study.study import Study
from peft_study.text import UNKNOWN, listed, points, portion, several

MOST_SEEDS = 100  # more are no advice
SPELT = 4  # comparisons that the answer gives with their intervals, and strategies that it gives with their differences


def word(row: Mapping[Any, Any]) -> str:
    """The verdict of a comparison; with too few seeds for one, how the runs differ if they do."""
    if row["verdict"] == AT_CHANCE:
        return f"{NO_VERDICT}, {AT_CHANCE}"
    if row["verdict"] != NO_VERDICT:
        return str(row["verdict"])
    differ = "runs better" if row["low"] > 0 else "runs worse"
    return differ if row["low"] > 0 or row["high"] < 0 else NO_VERDICT


def headed(text: str) -> str:
    """Text at the start of a sentence."""
    return text[0].upper() + text[1:]


def gap(row: Mapping[Any, Any]) -> str:
    """A difference in points with its interval; a dash where it is unknown."""
    if pd.isna(row["difference"]):
        return UNKNOWN
    return f"{points(row['difference'])} [{points(row['low'])}, {points(row['high'])}]"


def spelt(row: Mapping[Any, Any]) -> str:
    """A comparison with its difference, budget and verdict."""
    labels = f"at {row['train_size']:,} labels"
    return f"{labels} **{UNSTABLE}**" if row["verdict"] == UNSTABLE else f"{gap(row)} points {labels} (**{word(row)}**)"


def headline(runs: Runs, comparisons: pd.DataFrame, costs: pd.DataFrame) -> str:
    """The answer: the baseline's score, and what each strategy gains or loses at every budget that both have.

    Of more than `SPELT` comparisons it gives intervals at the largest budget only, of more strategies only verdicts.
    """
    if comparisons.empty:
        return (
            f"No finished run of the baseline strategy (`{runs.study.baseline}`) has a "
            "counterpart of another strategy with the same number of labels."
        )
    if len(strategies := _by_strategy(comparisons)) > SPELT:
        answers = [compared(comparisons, within(STRATEGIES[runs.study.baseline].label))]
    else:
        brief = len(comparisons) > SPELT
        answers = [_level(runs, costs)]
        answers += [_answer(rows.sort_values("train_size"), runs, costs, brief) for rows in strategies]
        jointly = ", which hold jointly" * (len(comparisons) > 1)
        sampled = "test texts and seeds" if comparisons["seeds"].min() > 1 else "test texts"
        answers.append(f"Brackets are 95% intervals over {sampled}{jointly}.")
        answers.append(_reference(comparisons, within(STRATEGIES[runs.study.baseline].label)))
    words = {word(row) for row in comparisons.to_dict("records")}
    if "undetermined" in words:
        answers.append(f"*Undetermined*: the interval contains 0 and reaches beyond ±{runs.study.margin:g}.")
    if UNSTABLE in words:
        answers.append("*Unstable*: some seeds are at chance and others are not; their mean describes neither.")
    if NO_VERDICT in set(comparisons["verdict"]):
        answers.append(
            f"With fewer than {SEEDS} seeds of a strategy, runs are compared, without verdict or recommendation."
        )
    return " ".join(filter(None, answers))


def _reference(comparisons: pd.DataFrame, other: str) -> str:
    """Why comparisons with `other` have no verdict where it is at chance; nothing where none is."""
    if AT_CHANCE not in set(comparisons["verdict"]):
        return ""
    said = "is not distinguishable from the majority-class baseline there, so comparisons with it have no verdict"
    return f"*{headed(AT_CHANCE)}*: {other} {said}."


def _by_strategy(comparisons: pd.DataFrame) -> list[pd.DataFrame]:
    """The comparisons of each strategy (and further axis)."""
    return [rows for _, rows in comparisons.groupby(["strategy", *further(comparisons)], sort=False)]


def _level(runs: Runs, costs: pd.DataFrame) -> str:
    """The baseline strategy's score at its smallest and its largest budget; nothing where there are further axes.

    Budgets at which it is unstable have none.
    """
    own = costs[costs["strategy"] == runs.study.baseline].dropna(subset=runs.study.metric).sort_values("train_size")
    if own.empty or not own["train_size"].is_unique:
        return ""
    ends = own.iloc[:: max(1, len(own) - 1)].to_dict("records")
    scores = listed(f"{100 * row[runs.study.metric]:.1f}% at {row['train_size']:,} labels" for row in ends)
    return f"{headed(runs.study.noun)} of {within(STRATEGIES[runs.study.baseline].label)}: {scores}."


def _answer(rows: pd.DataFrame, runs: Runs, costs: pd.DataFrame, brief: bool) -> str:
    """One strategy against the baseline at every common budget, and its cost at the largest, which is the last row.

    A `brief` answer gives the interval at the largest budget only, and the range of the other differences.
    """
    base, last = runs.study.baseline, rows.iloc[-1].to_dict()
    cost, full = (counterpart(last, costs, strategy) for strategy in (last["strategy"], base))
    shown = rows.tail(1) if brief else rows
    gaps = listed(map(spelt, shown.to_dict("records")))
    if len(fewer := rows.iloc[: -len(shown)]):
        span = dict.fromkeys(map(points, (fewer["difference"].min(), fewer["difference"].max())))  # of stable ones
        gaps += f"; {' to '.join(span)} points with fewer labels ({_verdicts(fewer)})"
    shares = [
        _share(cost, full, "parameters.trainable", "trainable parameters"),
        _share(cost, full, "training.flops", "training FLOPs"),
        _time(last, runs),
    ]
    known = listed(filter(None, shares))
    taken = f" {title(last)} takes {known} with {last['train_size']:,} labels." if known != "none" else ""
    sides = f"{within(title(last))} against {within(STRATEGIES[base].label)}"
    return f"{headed(runs.study.noun)} of {sides}: {gaps}.{taken}"


def _share(part: Mapping[Any, float], whole: Mapping[Any, float], column: str, name: str) -> str:
    """What a cost of one strategy is of another's, or nothing where that is no number."""
    share = part[column] / whole[column] if whole[column] > 0 else np.nan
    return f"{portion(share)} the {name}" if np.isfinite(share) else ""


def _time(row: Mapping[Any, Any], runs: Runs) -> str:
    """What the training time of a comparison's strategy is of the baseline's: the range over pairs of one seed."""
    seconds = by_seed(row, runs, "training.seconds")
    shares = (seconds["strategy"] / seconds["baseline"]).agg(["min", "max"])
    least, most = (f"{100 * share:.0f}" for share in shares)
    if seconds.empty or least == most:
        return "" if seconds.empty else f"{portion(shares['max'])} the training time"
    return f"{least} to {most}% of the training time"


def within(label: str) -> str:
    """A label inside a sentence: `full fine-tuning`, but `LoRA`, `BitFit` and `TF-IDF`."""
    return label if label[1:] != label[1:].lower() else label.lower()


def compared(comparisons: pd.DataFrame, other: str) -> str:
    """Which strategies have which verdict against `other` at which budgets; nothing without a comparison."""
    alike: dict[str, list[str]] = {}
    for rows in _by_strategy(comparisons):
        alike.setdefault(_verdicts(rows), []).append(within(title(rows.iloc[0].to_dict())))
    parts = [f"{listed(names)} {verdict}" for verdict, names in alike.items()]
    return f"Against {other}: {'; '.join(parts)}. {_reference(comparisons, other)}".strip() if parts else ""


def _verdicts(rows: pd.DataFrame) -> str:
    """The verdicts of a strategy's comparisons, and at which budgets."""
    sizes = rows["train_size"].groupby(rows.apply(word, axis=1), sort=False)
    return listed(f"**{name}** {_budgets(at, rows['train_size'], 'at')}" for name, at in sizes)


def _budgets(sizes: Iterable[int], among: Iterable[int], preposition: str = "with") -> str:
    """Budgets within a sentence: `with 250 and 1,000 labels`, or `at every budget` of more than two."""
    if len({*among}) > 2 and {*sizes} == {*among}:
        return "at every budget"
    return f"{preposition} {listed(f'{size:,}' for size in sizes)} labels"


def other_checkpoints(runs: Runs) -> str:
    """The checkpoints that the other rule selects, after "the checkpoints"."""
    rules = {"last": "of lowest validation loss", "best": "of the last step"}
    return listed(rules[rule] for rule in runs.stated("checkpoint")["checkpoint"].unique())


def other_rule(runs: Runs, sensitivity: pd.DataFrame) -> str:
    """Differences whose verdict or sign changes under the other checkpoint rule, of `accuracy.sensitivity`, if any.

    Of more than `SPELT` comparisons it gives only changed verdicts, without the intervals.
    """
    other_verdict = sensitivity["verdict"] != sensitivity["tested"]
    if len(sensitivity) > SPELT:
        strategies = _by_strategy(sensitivity[other_verdict])
        changed = [f"{within(title(rows.iloc[0].to_dict()))} {_verdicts(rows)}" for rows in strategies]
    else:
        other_sign = sensitivity["difference"] * sensitivity["tested_difference"] < 0
        changed = [
            f"{within(title(row))} {spelt(row)}" for row in sensitivity[other_verdict | other_sign].to_dict("records")
        ]
    return f"With the checkpoints {other_checkpoints(runs)} instead: {several(changed, SPELT)}." if changed else ""


def recommendation(table: pd.DataFrame, study: Study) -> str:
    """What to choose with how many labels, by which rule, and where the choice is worse than another option.

    Nothing where no strategy has seeds enough.
    """
    sizes = table.drop_duplicates("train_size").groupby("choice", sort=False)["train_size"]
    parts = [f"{_budgets(rows, table['train_size'])}, choose **{within(name)}**" for name, rows in sizes]
    chosen = "; ".join(parts)
    near = f"{study.margin:g} point" + "s" * (study.margin != 1)
    option = f"the cheapest option by {listed(table['cost'].unique())}"
    rule = f"{option} with an estimated {study.noun} within {near} of the highest"
    worse = [
        f"{within(row['choice'])} than {within(row['against'])} with {row['train_size']:,} labels"
        for row in table[table["verdict"] == "worse"].to_dict("records")
    ]
    but = f" Within the margin, yet significantly worse: {listed(worse)}." if worse else ""
    return f"{headed(chosen)}: {rule}.{but}" if parts else ""


def certainty(table: pd.DataFrame) -> str:
    """The verdicts on the choices of `recommendation.recommend`; nothing without a choice."""
    said: dict[str, list[int]] = {}
    for size, rows in table.groupby("train_size"):
        alike = rows.groupby("verdict", sort=False)["against"]
        sure = listed(f"{verdict} against {listed(map(within, others))}" for verdict, others in alike)
        said.setdefault(sure, []).append(size)
    parts = [f"{_budgets(sizes, table['train_size'])}, {sure}" for sure, sizes in said.items()]
    return f"How sure: {'; '.join(parts)}." if parts else ""


def settlement(row: Mapping[Any, Any], available: float) -> str:
    """What would settle an undetermined comparison; `available` texts can be tested on (NaN: not known)."""
    if row["verdict"] != "undetermined":
        return ""
    if pd.isna(row["settle_seeds"]):
        return "more seeds or texts: at a true difference of 0 the present ones would suffice"
    if row["settle_seeds"] > MOST_SEEDS:
        more = f"more than {MOST_SEEDS} seeds per strategy"
        return f"{more}, unless longer training or another rate reduces the variance between seeds"
    texts = float(f"{row['settle_items']:.2g}")
    short = f" ({available:,.0f} are left beside the largest budget)" if texts > available else ""
    return f"{row['settle_seeds']:,.0f} seeds per strategy on {texts:,.0f} test texts{short}"


def untrained(runs: Runs, summary: pd.DataFrame) -> str:
    """The rows of `summary` with a run not distinguishable from the majority-class baseline, and their runs' scores.

    A run is judged by its own interval, since that of several seeds includes seed variance.
    """
    poor = []
    for row in summary.to_dict("records"):
        if count := len(runs.at_chance.intersection(seeds := row["run_ids"])):
            scores = listed(f"{100 * runs.intervals[run_id].estimate:.1f}" for run_id in seeds)
            of_seeds = "" if len(seeds) == 1 else f" ({count} of {len(seeds)} seeds: {scores}%)"
            poor.append(f"{title(row)} at {row['train_size']:,} labels{of_seeds}")
    if not poor:
        return ""
    names = listed(poor) if len(poor) <= FEW else f"{len(poor)} of {len(summary)} variants"
    share = f"{runs.study.noun} {100 * runs.chance:.1f}%"
    return f"**Not distinguishable from the majority-class baseline** ({share}): {names}."
