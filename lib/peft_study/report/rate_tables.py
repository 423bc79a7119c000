"""The tables of learning rates and learning curves as printed: numbers as text, with their ranges."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import title
from peft_study.analysis.learning_rates import CHOSEN, group_axes, rate_text, span
from peft_study.report.tables import named
from peft_study.strategies.table import STRATEGIES
from peft_study.text import UNKNOWN

SETTLED = {
    "inside": UNKNOWN,
    "lowest": "best at the lowest rate: extend the grid downwards",
    "highest": "best at the highest rate: extend the grid upwards",
    "only": "one rate, no choice",
    "diverged": "no rate: the loss is not finite at any",
    "unmeasured": "no rate: no validation on record",
}


def best_rates(best: pd.DataFrame) -> pd.DataFrame:
    """The best rate of every group, its validation loss and those a step of the grid lower and higher, and a remark."""
    shown = {"best rate": best["rate"].map(rate_text)}
    for name, side in {"loss": "", "a step lower": "_below", "a step higher": "_above"}.items():
        shown[name] = [
            UNKNOWN if np.isnan(rate) else f"{loss:.3f}" if np.isfinite(loss) else "diverged"
            for rate, loss in zip(best[f"rate{side}"], best[f"loss{side}"], strict=True)
        ]
    return named(best[group_axes(best)].assign(**shown, remark=best["settled"].map(SETTLED)))


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `learning_rates.ratios`: both rates, their ratio, and its range given the grid."""
    shown = {
        "best rate": table["rate"].map(rate_text),
        "full fine-tuning's": table["full_rate"].map(rate_text),
        "ratio": table["ratio"].map("{:.3g}".format),
        "range": [_range(low, high) for low, high in zip(table["low"], table["high"], strict=True)],
    }
    return named(table[group_axes(table)].assign(**shown))


def _range(low: float, high: float) -> str:
    """The bounds of a ratio; a low of 0 and a high of infinity are none."""
    if not low:
        return f"at most {high:.3g}" if np.isfinite(high) else "unbounded"
    return f"{low:.3g} to {high:.3g}" if np.isfinite(high) else f"at least {low:.3g}"


def defaults(own: pd.DataFrame) -> pd.DataFrame:
    """The strategies' default rates beside the best ones of `own`, and how the default compares."""
    shown = {
        "default": [rate_text(STRATEGIES[name].learning_rate) for name in own["strategy"]],
        "best here": own["rate"].map(rate_text),
        "the default is": [_default(row) for row in own.to_dict("records")],
    }
    return named(own[group_axes(own)].assign(**shown))


def _default(row: Mapping[Any, Any]) -> str:
    """Where a strategy's default rate lies relative to the range of the best rate."""
    default, (low, high) = STRATEGIES[row["strategy"]].learning_rate, span(row)
    if row["settled"] not in CHOSEN:
        return UNKNOWN
    if (default < row["rate"] and not low) or (default > row["rate"] and np.isinf(high)):
        return "outside the grid"
    return "too low" if default < low else "too high" if default > high else "within a step"


def learning_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves of `learning_curves.curves`, with 95 % intervals: floor, exponent, and the budget that matches.

    Where a curve was refused, a last column has the reason.
    """
    rows = curves.to_dict("records")
    shown = {
        "error floor (%)": [_estimate(row, "floor", "{:.1f}", 100) for row in rows],
        "exponent": [_estimate(row, "exponent", "{:.2f}") for row in rows],
        "labels to match": [matching_budget(row) for row in rows],
    }
    table = pd.DataFrame(shown, pd.Index([title(row) for row in rows], name="strategy"))
    refused = (curves["refusal"] != "").any()
    return table.assign(**{"no curve because": list(curves["refusal"])}) if refused else table


def _estimate(row: Mapping[Any, Any], name: str, form: str, scale: float = 1) -> str:
    """A parameter of a curve with its interval."""
    value, low, high = (form.format(scale * row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]" if row["refusal"] == "" else UNKNOWN


def matching_budget(row: Mapping[Any, Any]) -> str:
    """The budget at which a row of `learning_curves.curves` matches the baseline, with its interval, as text."""
    if pd.isna(row["target"]):
        return UNKNOWN
    if row["size"] > row["furthest"]:
        return f"none up to {row['furthest']:,.0f}"
    return f"{_budget(row['size'], row)} [{_budget(row['size_low'], row)}, {_budget(row['size_high'], row)}]"


def _budget(size: float, row: Mapping[Any, Any]) -> str:
    """A budget to two digits, or only on which side of the readable part of the curve it lies."""
    if size < row["smallest"]:
        return f"< {row['smallest']:,.0f}"
    return f"> {row['furthest']:,.0f}" if size > row["furthest"] else f"{float(f'{size:.2g}'):,.0f}"
