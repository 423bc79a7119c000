"""What may be said of learning curves: the table and the sentence of 03, computed from `tables.curves`."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from peft_study.analysis.accuracy import title
from peft_study.text import UNKNOWN, listed


def curve_table(curves: pd.DataFrame) -> pd.DataFrame:
    """The fitted curves: error of unlimited labels, exponent, and the budget that reaches the baseline's accuracy.

    `curves` is of `tables.curves`; the rows whose curve was refused are left to the sentence.
    """
    fitted = curves[curves["refusal"] == ""]
    rows = fitted.to_dict("records")
    shown = pd.DataFrame(index=pd.Index([title(row) for row in rows], name="strategy"))
    for name, part, scale, form in (("error left (%)", "floor", 100, ".1f"), ("exponent", "exponent", 1, ".2f")):
        shown[name] = [
            f"{scale * row[part]:{form}} [{scale * row[part + '_low']:{form}}, {scale * row[part + '_high']:{form}}]"
            for row in rows
        ]
    shown["labels to match"] = [reach(row) for row in rows]
    return shown


def reach(row: Mapping[Any, Any]) -> str:
    """The budget at which a row of `tables.curves` matches the baseline, with its interval, as text."""
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


def learning_curves(curves: pd.DataFrame) -> str:
    """At which budgets the strategies match the baseline's accuracy at its largest, or why that is not told."""
    refused = curves[curves["refusal"] != ""]
    reasons = refused.groupby("refusal", sort=False)
    if len(refused) == len(curves):
        told = ["No learning curve is fitted."]
    else:
        matched = curves.dropna(subset=["target"]).to_dict("records")
        told = [
            f"To match the {row['accuracy']:.1%} of the baseline strategy with {row['target']:,.0f} labels, "
            f"{title(row)} "
            + (
                f"would need more than {row['furthest']:,.0f}, which is as far as its curve is read."
                if row["size"] > row["furthest"]
                else f"needs {reach(row)} labels by its curve."
            )
            for row in matched
        ] or ["There is no strategy with a curve beside the baseline strategy to match."]
    for reason, rows in reasons:
        whose = "" if len(rows) == len(curves) else f"{listed(title(row) for row in rows.to_dict('records'))}: "
        text = f"{whose}{reason}."
        told.append(text[0].upper() + text[1:])
    return " ".join(told)
