"""What may be said of slices: each sentence is computed from the tables of `slices.tables`."""

import pandas as pd

from peft_study.analysis.accuracy import title, varying
from peft_study.analysis.selection import FEW, largest
from peft_study.analysis.slices import LEAST, Sliced
from peft_study.data.slices import SLICES
from peft_study.report.sentences import VERDICTS
from peft_study.text import listed, points


def available(sliced: Sliced) -> str:
    """Which slices there are, which are too small to be compared, and what is missing."""
    if not sliced.slices:
        return sliced.absent
    sizes = {_label(name): len(sliced.labels(name)) for name in sliced.slices}
    small = listed(f"{name} ({size})" for name, size in sizes.items() if size < LEAST)
    told = f"{len(sizes)} slices, of {min(sizes.values()):,} to {max(sizes.values()):,} reviews."
    if small != "none":
        told += f" Of fewer than {LEAST} reviews, and therefore not compared: {small}."
    return " ".join(filter(None, [told, sliced.absent]))


def _label(name: str) -> str:
    return SLICES.get(name, name)


def hardest(scores: pd.DataFrame, sliced: Sliced) -> str:
    """On which slice how many variants are least, and most, accurate at the largest budget."""
    rows = largest(scores[scores["reviews"] >= LEAST])
    if rows["slice"].nunique() < 2:
        return "There are no two slices large enough to set side by side."
    size = rows["train_size"].iloc[0]
    parts = [part for _, part in rows.groupby(varying(sliced.runs), sort=False)]
    parts = [part for part in parts if part["accuracy"].nunique() > 1]
    if not parts:
        return "Every variant is equally accurate on all slices that can be compared."
    told = []
    for word, place in (("lowest", "idxmin"), ("highest", "idxmax")):
        names = pd.Series([_label(part.loc[getattr(part["accuracy"], place)(), "slice"]) for part in parts])
        counts = names.value_counts().items()
        told.append(f"{word} on " + listed(f"“{name}” for {count} of {len(parts)} variants" for name, count in counts))
    large = f", of the slices of {LEAST} reviews or more," if (scores["reviews"] < LEAST).any() else ","
    return f"At {size:,} labels{large} accuracy is {' and '.join(told)}."


def verdicts(compared: pd.DataFrame, sliced: Sliced) -> str:
    """How often each verdict was reached over all slices and sizes, and where one was clearly better or worse."""
    if compared.empty:
        return "" if not sliced.slices else "On no slice is there a pair of runs to compare."
    counts = compared["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
    told = listed(f"{count} {name}" for name, count in counts.items() if count)
    many = "comparison" if len(compared) == 1 else "comparisons"
    clear = compared[compared["verdict"].isin(["better", "worse"])]
    return f"Of {len(compared)} {many} with the baseline strategy on slices: {told}." + _clear(clear)


def _clear(rows: pd.DataFrame) -> str:
    """The clear differences, the widest few where there are many."""
    if rows.empty:
        return ""
    widest = rows.reindex(rows["difference"].abs().sort_values(ascending=False, kind="stable").index).head(FEW)
    told = listed(
        f"{title(row)} at {row['train_size']:,} on “{_label(row['slice'])}” ({points(row['difference'])} points)"
        for row in widest.to_dict("records")
    )
    return f" The {'widest ' if len(rows) > FEW else ''}clear differences: {told}."
