"""The few sentences that carry a study's answer: each is computed, so that none can outlive the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from peft_study.analysis.accuracy import FEW, counterpart, further, groups, title
from peft_study.records.read import Runs
from peft_study.strategies.table import STRATEGIES
from peft_study.text import listed, markdown_escape, points

VERDICTS = ("better", "equivalent", "undetermined", "worse")


def subject(runs: Runs) -> str:
    """What was compared: strategies, encoder, dataset, budgets, seeds, test reviews."""
    table = runs.table
    models, datasets = (listed(f"`{name}`" for name in table[field].unique()) for field in ("model", "dataset"))
    names = listed(STRATEGIES[name].label for name in table["strategy"].unique())
    sizes = listed(f"{size:,}" for size in sorted(table["train_size"].unique()))
    origin = {True: ", held out of the training split", False: ", the official test split"}
    return (
        f"{names} of {models} on {datasets}, with {sizes} labelled reviews and {_seeds(runs)} each, tested on "
        f"{len(runs.labels):,} reviews{origin.get(table['data.held_out'].iloc[0], '')}."
    )


def _seeds(runs: Runs) -> str:
    counts = sorted(set(groups(runs)["run_ids"].map(len)))
    return "1 seed" if counts == [1] else f"{' to '.join(str(n) for n in dict.fromkeys([counts[0], counts[-1]]))} seeds"


def headline(runs: Runs, comparisons: pd.DataFrame, summary: pd.DataFrame, costs: pd.DataFrame) -> str:
    """The answer: what each strategy gains or loses at every budget that it shares with the baseline.

    Of more than `FEW` strategies it says only which verdict each got.
    """
    if comparisons.empty:
        return (
            f"There is no answer yet: no finished run of the baseline strategy (`{runs.study.baseline}`) has a "
            "counterpart of another strategy with the same number of labels."
        )
    by_strategy = [rows for _, rows in comparisons.groupby(["strategy", *further(comparisons)], sort=False)]
    if len(by_strategy) > FEW:
        answers = [_by_verdict(rows, runs) for _, rows in comparisons.groupby("train_size")]
    else:
        answers = [_answer(rows.sort_values("train_size"), runs, summary, costs) for rows in by_strategy]
    if "undetermined" in set(comparisons["verdict"]):
        corrected = f", Holm-corrected for {len(comparisons)} comparisons" * (len(comparisons) > 1)
        answers.append(
            f"*Undetermined*: no difference is significant (5%{corrected}), "
            f"and the 90% interval is not within ±{runs.study.margin:g} points."
        )
    if comparisons["pairs"].max() == 1:
        answers.append("With one seed, a verdict is on these runs, not on the strategies.")
    return " ".join(answers)


def _by_verdict(rows: pd.DataFrame, runs: Runs) -> str:
    """Which of many strategies got which verdict at one budget; the best first."""
    ordered, parts = rows.sort_values("difference", ascending=False), []
    for verdict in VERDICTS:
        same = ordered[ordered["verdict"] == verdict].to_dict("records")
        names = listed(f"{title(row)} ({points(row['difference'])})" for row in same)
        parts += [f"{len(same)} **{verdict}**: {names}"] if same else []
    base, size = _within(STRATEGIES[runs.study.baseline].label), rows["train_size"].iloc[0]
    return f"Against {base} at {size:,} labels, of {len(rows)} strategies: {'; '.join(parts)}."


def _answer(rows: pd.DataFrame, runs: Runs, summary: pd.DataFrame, costs: pd.DataFrame) -> str:
    """One strategy against the baseline at every common budget, and its cost at the largest, which is the last row."""
    base, last = runs.study.baseline, rows.iloc[-1].to_dict()
    (ours, theirs), (cost, full) = (
        [counterpart(last, table, strategy) for strategy in (last["strategy"], base)] for table in (summary, costs)
    )
    gaps = listed(
        f"{points(row['difference'])} [{points(row['low'])}, {points(row['high'])}] points at {row['train_size']:,} "
        f"labels (**{row['verdict']}**)"
        for row in rows.to_dict("records")
    )
    shares = [
        _share(cost, full, "parameters.trainable", ".2%", "trainable parameters"),
        _share(cost, full, "training.flops", ".0%", "training FLOPs"),
        _share(cost, full, "training.seconds", ".0%", "training time"),
    ]
    known = listed(filter(None, shares))
    return (
        f"{title(last)} against {_within(STRATEGIES[base].label)}: {gaps}. With {last['train_size']:,} labels, "
        f"{100 * ours['accuracy']:.1f}% against {100 * theirs['accuracy']:.1f}% accuracy"
        + (f", at {known}." if known != "none" else ".")
    )


def _share(part: Mapping[Any, float], whole: Mapping[Any, float], column: str, form: str, name: str) -> str:
    """What a cost of one strategy is of another's, or nothing where that is no number."""
    known = whole[column] > 0 and np.isfinite(part[column])
    return f"{part[column] / whole[column]:{form}} of the {name}" if known else ""


def _within(label: str) -> str:
    """A label inside a sentence: `full fine-tuning`, but `LoRA` and `BitFit`."""
    return label if label[1:] != label[1:].lower() else label.lower()


def verdicts(comparisons: pd.DataFrame, baseline: str) -> str:
    """How often each verdict was reached in comparisons with `baseline`; nothing without a comparison."""
    if comparisons.empty:
        return ""
    counts = comparisons["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
    many = "comparison" if len(comparisons) == 1 else "comparisons"
    of_each = listed(f"{count} {name}" for name, count in counts.items() if count)
    return f"Of {len(comparisons)} {many} with {baseline}: {of_each}."


def untrained(runs: Runs, summary: pd.DataFrame) -> str:
    """Which runs are not distinguishable from the majority-class baseline, by the rows of `summary`; nothing if none.

    A run is judged by its own Wilson interval (1927): that of several seeds also grows with what seeds do.
    """
    share = np.bincount(runs.labels).max() / len(runs.labels)
    right, poor = (runs.preds.to_numpy() == runs.labels[:, None]).sum(axis=0), []
    low = pd.Series(proportion_confint(right, len(runs.labels), method="wilson")[0], runs.preds.columns)
    for row in summary.to_dict("records"):
        if count := int((low[row["run_ids"]] <= share).sum()):
            of_seeds = "" if len(row["run_ids"]) == 1 else f" ({count} of {len(row['run_ids'])} seeds)"
            poor.append(f"{title(row)} at {row['train_size']:,}{of_seeds}")
    if not poor:
        return ""
    names = listed(poor) if len(poor) <= FEW else f"{len(poor)} of {len(summary)} variants"
    return f"**Not distinguishable from the majority-class baseline** ({share:.1%} of the test reviews): {names}."


def limits(runs: Runs) -> str:
    """What limits the conclusions of these runs in particular, as a Markdown list; empty where nothing does."""
    recorded = runs.table.get("data.notes", pd.Series(dtype=object))
    notes = dict.fromkeys(note for entry in recorded if isinstance(entry, list) for note in entry)
    lines = [f"- **Data:** {markdown_escape(str(note))}." for note in notes]
    if {("bundled:imdb", 0)} == {(run.dataset, run.data_seed) for run in runs.study.variants.values()}:
        lines.append(
            "- **Tuning.** Budgets, epochs, batch size and dropout of the study `quick` were chosen by accuracies on "
            "these test reviews (`lib/NOTES.md`), so accuracies are optimistic; no interval covers that choice."
        )
    if runs.table.groupby(["strategy", "train_size"])["learning_rate"].nunique(dropna=False).max() == 1:
        lines.append(
            "- **Learning rates.** Each strategy runs at one rate, and rankings depend on how well each rate was "
            "chosen [@schulman2025]. Default rates were chosen on one encoder, one size and one seed "
            "(`lib/NOTES.md`)."
        )
    if groups(runs)["run_ids"].map(len).min() == 1:
        lines.append(
            "- **Seed variance.** Of variants with one seed, the intervals cover the test reviews only; another seed "
            "may change accuracy by more than the difference of interest."
        )
    return "\n".join(lines)
