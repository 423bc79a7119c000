"""What may be said of a sweep of learning rates: the sentences and tables of 04, computed from those of `rates`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import IDLE, title
from peft_study.analysis.learning_rates import CHOSEN, OWN, SAME, group_axes, rate_text, span
from peft_study.report.tables import named
from peft_study.strategies.table import STRATEGIES
from peft_study.study.study import Study
from peft_study.text import UNKNOWN, listed, points

TENFOLD = 10.0  # LoRA's best rate over that of full fine-tuning, after Schulman (2025)
SETTLED = {
    "inside": "",
    "lowest": "best at the lowest rate: extend downwards",
    "highest": "best at the highest rate: extend upwards",
    "only": "one rate: there was no choice",
    "diverged": "no rate: the loss is not finite at any",
    "unmeasured": "no rate: no validation on record",
}


# --- Tables ---------------------------------------------------------------------------------------------------------


def best_table(found: pd.DataFrame) -> pd.DataFrame:
    """The best rate of every group, its validation loss and those a step of the grid lower and higher, and a remark."""
    shown = {"best rate": [rate_text(rate) for rate in found["rate"]]}
    for name, side in {"loss": "", "a step lower": "_below", "a step higher": "_above"}.items():
        shown[name] = [
            UNKNOWN if np.isnan(rate) else f"{loss:.3f}" if np.isfinite(loss) else "diverged"
            for rate, loss in zip(found[f"rate{side}"], found[f"loss{side}"], strict=True)
        ]
    return named(found[group_axes(found)].assign(**shown, remark=found["settled"].map(SETTLED)))


def ratio_table(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `ratios` as text."""
    rows = table.to_dict("records")
    shown = {
        "best rate": [rate_text(row["rate"]) for row in rows],
        "full fine-tuning's": [rate_text(row["full_rate"]) for row in rows],
        "ratio": [f"{row['ratio']:.3g}" for row in rows],
        "may be": [_range(row) for row in rows],
    }
    return named(table[group_axes(table)].assign(**shown))


def _range(row: Mapping[Any, Any]) -> str:
    ends = f"{row['low']:.3g}", f"{row['high']:.3g}"
    if not row["low"]:
        return f"at most {ends[1]}" if np.isfinite(row["high"]) else "anything"
    return f"{ends[0]} to {ends[1]}" if np.isfinite(row["high"]) else f"at least {ends[0]}"


def price_table(chosen: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy at the best rate, and what it changes by, in points, a step of the grid lower and higher."""
    shown = {"accuracy (%)": [UNKNOWN if np.isnan(value) else f"{100 * value:.1f}" for value in chosen["accuracy"]]}
    for name, side in {"a step lower": "below", "a step higher": "above"}.items():
        gaps = 100 * (chosen[f"accuracy_{side}"] - chosen["accuracy"])
        shown[name] = [UNKNOWN if np.isnan(gap) else points(gap) for gap in gaps]
    axes = group_axes(chosen)
    return named(chosen[axes].assign(**{"best rate": [rate_text(rate) for rate in chosen["rate"]]}, **shown))


def defaults_table(chosen: pd.DataFrame) -> pd.DataFrame:
    """The strategies' default rates beside the best ones found here, and where the best may lie."""
    rows = chosen.to_dict("records")
    shown = {
        "default": [rate_text(STRATEGIES[row["strategy"]].learning_rate) for row in rows],
        "best here": [rate_text(row["rate"]) for row in rows],
        "the default is": [_default(row) for row in rows],
    }
    return named(chosen[group_axes(chosen)].assign(**shown))


def _default(row: Mapping[Any, Any]) -> str:
    """How the default rate of a strategy lies to the best found."""
    default, (low, high) = STRATEGIES[row["strategy"]].learning_rate, span(row)
    if row["settled"] not in CHOSEN:
        return UNKNOWN
    if (default < row["rate"] and not low) or (default > row["rate"] and np.isinf(high)):
        return "outside the grid"
    return "too low" if default < low else "too high" if default > high else "within a step"


# --- Sentences ------------------------------------------------------------------------------------------------------


def points_drawn(table: pd.DataFrame) -> str:
    """Which points of the curves (rows of `rates.sweep`) have no finite loss, and why."""
    lost = table[table["measured"] & ~np.isfinite(table["loss"])]
    told = [f"The curves have {len(table)} points."]
    if len(lost):
        names = "; ".join(
            f"{_name(rows.iloc[0].to_dict())} ({', '.join(map(rate_text, sorted(rows['rate'])))})"
            for _, rows in lost.groupby(group_axes(lost), sort=False)
        )
        told.append(f"At {len(lost)} of them the loss is not finite, so that training **diverged**: {names}.")
    elif table["measured"].any():
        told.append("Every validation loss on record is finite.")
    if flat := int((table["loss"] >= np.log(2) - 0.01).sum()):
        told.append(f"At {flat} of them it is no better than that of a coin: nothing was learned there.")
    if unknown := int((~table["measured"]).sum()):
        told.append(
            f"{unknown} of them have **no validation on record**: they are not drawn, and no rate can be chosen from "
            "them (validation_fraction and evaluations above 0 give every run a validation loss)."
        )
    return " ".join(told)


def best_rates(chosen: pd.DataFrame) -> str:
    """Each strategy's own best rate (rows of `rates.own`) at every size."""
    if chosen["rate"].isna().all():
        reasons = listed(dict.fromkeys(SETTLED[why].removeprefix("no rate: ") for why in chosen["settled"]))
        return f"There is no answer yet: no strategy has a rate that validation could choose ({reasons})."
    told = []
    for size, rows in chosen.groupby("train_size"):
        parts = "; ".join(map(_choice, rows.to_dict("records")))
        told.append(f"The rates of lowest validation loss at {size:,} labels: {parts}.")
    return " ".join(told)


def _choice(row: Mapping[Any, Any]) -> str:
    """The best rate of a row, and what makes it doubtful."""
    if np.isnan(row["rate"]):
        return f"{STRATEGIES[row['strategy']].label} has {SETTLED[row['settled']]}"
    doubt = {"inside": "", "only": ", the only one tried"}.get(row["settled"], f", the {row['settled']} tried")
    return f"{title(row)} at **{rate_text(row['rate'])}**{doubt}"


def settled(found: pd.DataFrame) -> str:
    """Which best rates lie inside their grid, and what to do about the others."""
    inside = int((found["settled"] == "inside").sum())
    if inside == len(found):
        return "Every best rate lies inside its grid: no neighbour's validation loss is lower."
    doubtful = found[found["settled"] != "inside"].groupby("settled", sort=False)
    reasons = "\n".join(
        f"- {SETTLED[str(why)]} ({'; '.join(map(_name, rows.to_dict('records')))})" for why, rows in doubtful
    )
    return f"{inside} of {len(found)} best rates lie inside their grid. **The others are not settled:**\n\n{reasons}"


def tenfold(table: pd.DataFrame) -> str:
    """Whether LoRA's best rate may be ten times that of full fine-tuning; `table` is of `rates.ratios`."""
    rows = [row for row in table.to_dict("records") if STRATEGIES[row["strategy"]].citation == "hu2022"]
    if not rows:
        return (
            "Whether LoRA's best rate is ten times that of full fine-tuning cannot be told here: that needs a "
            "rate chosen for both at one size."
        )
    low, high = min(row["ratio"] for row in rows), max(row["ratio"] for row in rows)
    ends = f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"
    fits = [row["low"] <= TENFOLD * (1 + 1e-9) and row["high"] >= TENFOLD * (1 - 1e-9) for row in rows]
    spans = listed(dict.fromkeys(map(_range, rows)))
    odd = "; ".join(f"{_name(row)} ({_range(row)})" for row, fit in zip(rows, fits, strict=True) if not fit)
    return (
        f"LoRA's best rate is {ends} times that of full fine-tuning. Both are known to one step of the grid at best, "
        f"so that the ratio may be {spans}, and {sum(fits)} of {len(rows)} ratios may be {TENFOLD:g}"
        + (f", not so {odd}." if not all(fits) else ".")
    )


def rank(found: pd.DataFrame) -> str:
    """Whether the best rate (rows of `rates.best`) depends on LoRA's rank by more than a step of the grid."""
    told = []
    ranked = found[found["settled"].isin(CHOSEN)]
    ranked = ranked[ranked["lora_r"] != IDLE] if "lora_r" in ranked else ranked.iloc[:0]
    for _, rows in ranked.groupby([axis for axis in group_axes(ranked) if axis != "lora_r"], sort=False):
        if len(rows) > 1:
            least, most = (rows.loc[place].to_dict() for place in (rows["rate"].idxmin(), rows["rate"].idxmax()))
            near = span(least)[1] >= most["rate"] and span(most)[0] <= least["rate"]
            rates = listed(f"{rate_text(row['rate'])} at rank {row['lora_r']}" for row in rows.to_dict("records"))
            verdict = "within one step of the grid" if near else "**more than one step apart**"
            told.append(f"{_name({**least, 'lora_r': IDLE})}: {rates}, {verdict}.")
    if not told:
        return "Whether the best rate depends on the rank cannot be told here: that needs rates chosen at two ranks."
    return " ".join([*told, "Rates within one step are as independent of the rank as this grid can show."])


def compared(differences: pd.DataFrame, study: Study) -> str:
    """Every strategy at its own best rate against the baseline strategy at its own."""
    base = STRATEGIES[study.baseline].label
    if differences.empty:
        return (
            f"There is no comparison yet: it needs a best rate of the baseline strategy (`{study.baseline}`) and of "
            "another at the same size."
        )
    rows = differences[differences["rates"] == OWN].drop(columns="learning_rate").to_dict("records")
    told = "; ".join(
        f"{_name(row)}: {points(row['difference'])} [{points(row['low'])}, {points(row['high'])}] points "
        f"(**{row['verdict']}**)"
        for row in rows
    )
    meaning = (
        f" *Undetermined* means that the data settle neither a difference nor equivalence within ±{study.margin:g} "
        "points."
        if any(row["verdict"] == "undetermined" for row in rows)
        else ""
    )
    return f"Test accuracy against the baseline ({base}), each at its own best rate: {told}.{meaning}"


def flipped(differences: pd.DataFrame) -> str:
    """Whether the verdicts would be others, had all strategies run at the rate that suits the baseline."""
    if differences.empty:
        return "There is no pair yet whose verdict a common rate could change."
    both = {rates: differences[differences["rates"] == rates] for rates in (OWN, SAME)}
    pairs = both[OWN].merge(both[SAME], on=["strategy", "train_size"], suffixes=("", "_same")).to_dict("records")
    told = "; ".join(
        f"{_label(row)} **{row['verdict_same']}** ({points(row['difference_same'])} points at "
        f"{row['learning_rate_same']}) rather than {row['verdict']}"
        for row in pairs
        if row["verdict"] != row["verdict_same"]
    )
    count = sum(row["verdict"] != row["verdict_same"] for row in pairs)
    start = "Had every strategy run at the rate of its grid that is nearest to the baseline's best"
    if not count:
        return f"{start}, no verdict would be another."
    return f"{start}, {count} of {len(both[OWN])} verdicts would be others: {told}."


def price(chosen: pd.DataFrame) -> str:
    """What a step of the grid off the best rate changes on the test set."""
    told = []
    for name, side in {"too low": "below", "too high": "above"}.items():
        gaps = (100 * (chosen[f"accuracy_{side}"] - chosen["accuracy"])).dropna()
        if len(gaps):
            ends = dict.fromkeys(map(points, (gaps.min(), gaps.max())))
            told.append(f"A rate one step {name} changes test accuracy by {' to '.join(ends)} points.")
    return " ".join(told) or "No best rate has a neighbour in its grid: what a mistaken rate costs cannot be told."


def defaults(chosen: pd.DataFrame) -> str:
    """Which default rates of the strategies are off the best found here."""
    rows = chosen[chosen["settled"].isin(CHOSEN)].to_dict("records")
    wrong = [row for row in rows if _default(row) != "within a step"]
    if not rows:
        return "Nothing follows for the defaults: no rate could be chosen."
    if not wrong:
        return "Every default lies within a step of the grid of the best rate found here."
    told = "; ".join(
        f"{_label(row)} ({rate_text(STRATEGIES[row['strategy']].learning_rate)} is {_default(row)}, best here "
        f"{rate_text(row['rate'])})"
        for row in wrong
    )
    fits = len(rows) - len(wrong)
    return f"{fits} of {len(rows)} defaults lie within a step of the best rate found here. Not so: {told}."


def _name(row: Mapping[Any, Any]) -> str:
    """A group in a sentence."""
    return f"{title(row)} at {row['train_size']:,}"


def _label(row: Mapping[Any, Any]) -> str:
    """A strategy and a size in a sentence."""
    return f"{STRATEGIES[row['strategy']].label} at {row['train_size']:,}"
