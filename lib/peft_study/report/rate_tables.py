"""The tables of learning rates and learning curves as printed: numbers as text, with their ranges."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import title
from peft_study.analysis.learning_rates import CHOSEN, group_axes, rate_text, span
from peft_study.report.sentences import gap
from peft_study.report.tables import named
from peft_study.statistics.paired_tests import NO_VERDICT
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


def titles(table: pd.DataFrame) -> list[str]:
    """The titles of groups, with the size where there are several."""
    several = table["train_size"].nunique() > 1
    return [title(row) + f" with {row['train_size']:,} labels" * several for row in table.to_dict("records")]


def stated(differences: pd.DataFrame) -> str:
    """Rows of `learning_rates.differences` in a sentence: points with their interval, and the verdict if any."""
    names = titles(differences.drop(columns="learning_rate"))
    return "; ".join(
        f"{name} {gap(row)}" + f" (**{row['verdict']}**)" * (row["verdict"] != NO_VERDICT)
        for name, row in zip(names, differences.to_dict("records"), strict=True)
    )


def best_rates(best: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """The best rate of every group, its validation loss and those a step of the grid lower and higher, and a remark.

    Beside it stand the strategy's default, how that compares, and the rows of `learning_rates.ratios`.
    """
    rows = best.to_dict("records")
    shown = {"best rate": best["rate"].map(rate_text)}
    for name, side in {"loss": "", "a step lower": "_below", "a step higher": "_above"}.items():
        shown[name] = [
            UNKNOWN if np.isnan(rate) else f"{loss:.3f}" if np.isfinite(loss) else "diverged"
            for rate, loss in zip(best[f"rate{side}"], best[f"loss{side}"], strict=True)
        ]
    shown["default"] = [f"{rate_text(STRATEGIES[row['strategy']].learning_rate)}{_default(row)}" for row in rows]
    known = best[group_axes(best)].merge(ratios, how="left")
    spans = [
        UNKNOWN if np.isnan(ratio) else f"{ratio:.3g} ({_range(low, high)})"
        for ratio, low, high in known[["ratio", "low", "high"]].to_numpy(dtype=float)
    ]
    return named(
        best[group_axes(best)].assign(**shown, **{"ratio (range)": spans}, remark=best["settled"].map(SETTLED))
    )


def _range(low: float, high: float) -> str:
    """The bounds of a ratio; a low of 0 and a high of infinity are none."""
    if not low:
        return f"at most {high:.3g}" if np.isfinite(high) else "unbounded"
    return f"{low:.3g} to {high:.3g}" if np.isfinite(high) else f"at least {low:.3g}"


def _default(row: Mapping[Any, Any]) -> str:
    """Where a strategy's default rate lies relative to the range of the best rate, unless within it."""
    default, (low, high) = STRATEGIES[row["strategy"]].learning_rate, span(row)
    if row["settled"] not in CHOSEN:
        return ""
    if (default < row["rate"] and not low) or (default > row["rate"] and np.isinf(high)):
        return " (outside the grid)"
    return " (too low)" if default < low else " (too high)" if default > high else ""


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
