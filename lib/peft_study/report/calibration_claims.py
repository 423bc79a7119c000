"""What may be said of calibration: each sentence is computed from the tables of `calibration.tables`."""

from collections.abc import Mapping

import pandas as pd

from peft_study.analysis.accuracy import title
from peft_study.analysis.selection import FEW, largest
from peft_study.text import listed

UNKNOWN = "No run's logits are on record: nothing can be said of calibration."


def trusted(measured: pd.DataFrame, without: list[str]) -> str:
    """Who is over- or underconfident on the test reviews, and whose logits are not on record."""
    if measured.empty:
        return UNKNOWN
    over, under = measured["overconfidence_low"] > 0, measured["overconfidence_high"] < 0
    kinds = {"overconfident": over, "underconfident": under, "not clearly either": ~(over | under)}
    told = listed(
        f"{found.sum()} {'is' if found.sum() == 1 else 'are'} {name}" for name, found in kinds.items() if found.any()
    )
    beyond = int((measured["ece_low"] > 0).sum())
    many = "variant" if len(measured) == 1 else "variants"
    return (
        f"Of {len(measured)} {many} (@tbl-calibration), {told}, by the 95% interval of mean confidence minus accuracy. "
        f"The ECE of {beyond} is larger than a perfectly calibrated model would show by chance." + _absent(without)
    )


def _absent(without: list[str]) -> str:
    """A sentence on the runs that are left out; empty where there are none."""
    names = f"{len(without)} runs" if len(without) > FEW else listed(f"`{name}`" for name in without)
    return f" Left out, since not all of its logits are on record: {names}." if without else ""


def accurate_and_calibrated(measured: pd.DataFrame) -> str:
    """Whether the most accurate strategy at the largest budget is also the best calibrated one."""
    if measured.empty:
        return UNKNOWN
    rows = largest(measured)
    if len(rows) == 1:
        return "There is no second variant at the largest budget to set beside the first."
    best = rows[rows["accuracy"] == rows["accuracy"].max()]
    truest = rows[rows["ece"] == rows["ece"].min()]
    where = f"At {rows['train_size'].iloc[0]:,} labels"
    if len(best) > 1 or len(truest) > 1:
        return f"{where} several variants share the first place in accuracy or in calibration error."
    first, second = best.iloc[0], truest.iloc[0]
    if first.name == second.name:
        both = "is both the most accurate and, by its ECE, the best calibrated, by the figures as they are"
        return f"{where} {title(first.to_dict())} {both}."
    apart = second["ece_high"] < first["ece_low"]
    return (
        f"{where} the most accurate variant, {title(first.to_dict())} ({first['accuracy']:.1%}), has an ECE of "
        f"{100 * first['ece']:.1f} points; the best calibrated, {title(second.to_dict())} "
        f"({second['accuracy']:.1%}), has {100 * second['ece']:.1f}"
        + ("." if apart else ", but the intervals of the two overlap.")
    )


def temperature(scaled: pd.DataFrame, reasons: Mapping[str, str], sizes: "pd.Series[float] | None" = None) -> str:
    """What the temperatures are, whether they help on the test reviews, and which runs have none.

    `sizes` are the numbers of validation reviews, where the records tell.
    """
    if scaled.empty:
        return f"No temperature could be fitted. {_reasons(reasons)}"
    low, high = scaled["temperature"].min(), scaled["temperature"].max()
    span = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    falls, rises = int((scaled["change_high"] < 0).sum()), int((scaled["change_low"] > 0).sum())
    closer = int((scaled["ece_after"] < scaled["ece"]).sum())
    variants = "the one variant" if len(scaled) == 1 else f"{len(scaled)} variants"
    parts = [
        f"The temperatures of {variants} are {span}{_fitted_on(sizes)}. On the test reviews they lower the log-loss "
        f"of {falls} and raise that of {rises} by more than the draw of reviews explains; the ECE is smaller after "
        f"than before for {closer}."
    ]
    return " ".join([*parts, _reasons(reasons)] if reasons else parts)


def _fitted_on(sizes: "pd.Series[float] | None") -> str:
    """On how many validation reviews temperatures were fitted; empty where no record tells."""
    known = pd.Series(dtype=float) if sizes is None else pd.to_numeric(sizes, errors="coerce").dropna()
    if known.empty:
        return ""
    low, high = known.min(), known.max()
    return (
        f", fitted on {low:,.0f} validation reviews"
        if low == high
        else (f", fitted on {low:,.0f} to {high:,.0f} validation reviews")
    )


def _reasons(reasons: Mapping[str, str]) -> str:
    """Why runs have no temperature; runs with one reason stand together."""
    told = []
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, own in reasons.items() if own == reason]
        who = f"{len(names)} runs" if len(names) > FEW else listed(f"`{name}`" for name in names)
        told.append(f"{who} ({reason})")
    return f"Without a temperature: {'; '.join(told)}." if told else ""
