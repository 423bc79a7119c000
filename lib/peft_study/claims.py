"""The sentences and small tables that carry numbers: each is computed, so that none can outlive the data.

A function here takes what the notebook has and shows, or returns, what may be said of it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from peft_study import data
from peft_study.comparison import further, grouped, title
from peft_study.config import Variant
from peft_study.evaluation import Predictions
from peft_study.models import ParameterCounts
from peft_study.results import Runs
from peft_study.statistics import accuracy, interval, macro_f1
from peft_study.strategies import STRATEGIES


def listed(items: Iterable[str], last: str = "and") -> str:
    """Items in a sentence: `a, b and c`."""
    items = list(items)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else "none"


# --- The reviews (01) -----------------------------------------------------------------------------------------------


def stated_ratings(stated: pd.DataFrame, pool: pd.DataFrame) -> str:
    """How many reviews of `pool` state a rating (`explore.ratings` gives them), and how far it gives them away."""
    if stated.empty:
        return "No review of the pool states a rating out of ten."
    agree = ((stated["rating"] > 5) == (stated["label"] == 1)).mean()
    return (
        f"{len(stated) / len(pool):.1%} of the pool state a rating out of ten. Reading the figure, and nothing else, "
        f"classifies {agree:.1%} of these correctly."
    )


# --- One run (02) ---------------------------------------------------------------------------------------------------


def strategy(variant: Variant) -> str:
    """What the variant's strategy trains, at which rate."""
    entry = STRATEGIES[variant.strategy]
    cited = f" [@{entry.citation}]" if entry.citation else ""
    own = "" if variant.learning_rate is not None else ", the strategy's own"
    return f"This run: **{entry.label}**{cited} – {entry.description}. Its peak learning rate is {variant.rate:g}{own}."


def data_used(prepared: Any) -> str:
    """How many reviews there are for what."""
    corpus, sizes = prepared.corpus, {part: len(table) for part, table in prepared.tables.items()}
    variant = prepared.variant
    origin = (
        "held out of the training split, since the dataset has no test split of its own"
        if corpus.held_out
        else "of the dataset's own test split"
    )
    other = (
        f" A further {sizes['ood']:,} come from another kind of reviews, on which no run trains."
        if "ood" in sizes
        else ""
    )
    return (
        f"The budget of {variant.train_size:,} labelled reviews gives {sizes['train']:,} to train on and "
        f"{sizes['validation']:,} to validate with; {corpus.duplicates} repeated rows of the dataset were dropped "
        f"beforehand. The test set has {sizes['test']:,} reviews, {origin}.{other}"
    )


def parameter_table(counts: ParameterCounts) -> pd.DataFrame:
    """Backbone, adapter and head: all of their parameters, those that train, and their share of the model."""
    rows = {
        part: (getattr(counts, part), getattr(counts, f"trainable_{part}")) for part in ("backbone", "adapter", "head")
    }
    rows["total"] = counts.total, counts.trainable
    return pd.DataFrame(
        {part: [f"{all_:,}", f"{trains:,}", f"{trains / counts.total:.2%}"] for part, (all_, trains) in rows.items()},
        index=["parameters", "trainable", "trainable share of the model"],
    ).T


def curve(training: Any) -> str:
    """Whether the validation loss was still falling, and which checkpoint is kept."""
    losses = [(entry["step"], entry["eval_loss"]) for entry in training.log if "eval_loss" in entry]
    if not losses:
        return "There was no validation during this training; the last state of the model is kept."
    finite = [pair for pair in losses if np.isfinite(pair[1])]
    kept = f"The state after step {training.figures['selected_step']} is kept."
    if len(finite) < len(losses):
        return f"**The training diverged**: at some evaluation the validation loss was not a number. {kept}"
    step, lowest = min(losses, key=lambda pair: pair[1])
    last = losses[-1][1]
    if len(losses) == 1:
        story = "It was measured once, so that nothing can be said of its course."
    elif step == losses[-1][0]:
        story = "It was still falling at the end: more steps might help."
    elif round(last - lowest, 3) == 0:
        story = "At the end it was the same."
    else:
        story = (
            f"After that it rose by {last - lowest:.3f} to the end: a small rise may be noise, a lasting one would "
            "mean that the model fits its training reviews too closely."
        )
    return (
        f"The validation loss was lowest, {lowest:.3f}, at step {step} of {training.figures['steps']}. {story} {kept}"
    )


def tested(test: Predictions, ood: Predictions | None, prepared: Any) -> str:
    """Accuracy, macro F1 and log-loss on the test set, and accuracy on the other one, with intervals."""
    scores = [interval(test.preds, test.labels, statistic).scaled(100) for statistic in (accuracy, macro_f1)]
    loss = test.metrics()["log_loss"]
    told = f"{loss:.3f} nats, against {np.log(2):.3f} for a coin" if np.isfinite(loss) else "not a number"
    parts = [
        f"On {len(test.labels):,} test reviews the accuracy is **{scores[0]}%** and the macro F1 {scores[1]}% "
        f"(95% intervals); the log-loss is {told}."
    ]
    if ood is not None:
        other = interval(ood.preds, ood.labels).scaled(100)
        parts.append(
            f"On {len(ood.labels):,} reviews of {prepared.variant.ood_dataset}, which the model has not been trained "
            f"for, the accuracy is {other}%."
        )
    return "\n\n".join(parts)


def confident_mistakes(predictions: Predictions, table: pd.DataFrame) -> pd.DataFrame:
    """The wrongly classified rows of `table`, most confident first, with `predicted` and `probability`."""
    sure = np.maximum(predictions.probabilities, 1 - predictions.probabilities)
    told = table.assign(predicted=[data.LABELS[i] for i in predictions.preds], probability=sure)
    wrong = told[predictions.preds != predictions.labels].sort_values("probability", ascending=False)
    return wrong.assign(probability=wrong["probability"].map("{:.1%}".format))


def cost(training: Any) -> str:
    """Time, tokens and memory of one training."""
    f = training.figures
    return (
        f"Training took {f['seconds']:.0f} s for {f['steps']} steps ({f['seconds_per_step']:.2g} s at the median), "
        f"{f['tokens']:,} tokens at {f['tokens_per_second']:,.0f} a second; evaluations on the validation part took "
        f"another {f['evaluation_seconds']:.0f} s. Peak memory: {f['peak_memory_bytes'] / 2**30:.1f} GiB "
        f"({f['peak_memory_of']})."
    )


def recorded(folder: Path) -> str:
    """What the run's folder holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "train.")))
    total = sum(path.stat().st_size for path in files)
    names = dict.fromkeys(path.relative_to(folder).parts[0] for path in files)
    return f"`{folder.name}` now holds {listed(f'`{name}`' for name in names)}: {total / 2**20:.1f} MiB."


# --- All runs (03) --------------------------------------------------------------------------------------------------


def setup(runs: Runs) -> str:
    """What was compared, on which data."""
    table, first = runs.table, runs.table.iloc[0]
    models, datasets = (listed(f"`{name}`" for name in table[field].unique()) for field in ("model", "dataset"))
    sizes = listed(f"{size:,}" for size in sorted(table["train_size"].unique()))
    origin = "held out of the training split" if first["data.held_out"] else "the dataset's own test split"
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


def points(value: float) -> str:
    """A signed number of accuracy points; what rounds to nothing has no sign."""
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def p_text(value: float) -> str:
    """A p-value as text."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def headline(runs: Runs, comparisons: pd.DataFrame, summary: pd.DataFrame, costs: pd.DataFrame) -> str:
    """The answer of the study: what each strategy gains or loses at every size that it shares with the baseline."""
    if comparisons.empty:
        return (
            "There is no answer yet: the comparison needs a run of the baseline strategy "
            f"(`{runs.study.baseline}`) and one of another at the same size, and not both can be compared."
        )
    pairs = comparisons.groupby(["strategy", *further(comparisons)], sort=False)
    told = [_answer(rows.sort_values("train_size").to_dict("records"), runs, summary, costs) for _, rows in pairs]
    if "undetermined" in set(comparisons["verdict"]):
        told.append(
            "*Undetermined* means that the data settle neither a difference nor equivalence within "
            f"±{runs.study.margin:g} points."
        )
    return " ".join(told)


def _answer(rows: list[dict[Any, Any]], runs: Runs, summary: pd.DataFrame, costs: pd.DataFrame) -> str:
    """One strategy against the baseline at every common size, and its cost at the largest, which is the last row."""
    base, last, axes = runs.study.baseline, rows[-1], ["train_size", *further(summary)]

    def at(table: pd.DataFrame, strategy: str) -> pd.Series:
        same = table[axes] == pd.Series({axis: last[axis] for axis in axes})
        return table[same.all(axis=1) & (table["strategy"] == strategy)].iloc[0]

    ours, theirs = at(summary, last["strategy"]), at(summary, base)
    cost, full = at(costs, last["strategy"]), at(costs, base)
    gaps = [
        f"{points(row['difference'])} [{points(row['low'])}, {points(row['high'])}] points at {row['train_size']:,} "
        f"labels (**{row['verdict']}**)"
        for row in rows
    ]
    return (
        f"{title(last)} against {_within(STRATEGIES[base].label)}: {listed(gaps)}. "
        f"At {last['train_size']:,} that is {100 * ours['accuracy']:.1f}% against {100 * theirs['accuracy']:.1f}% "
        f"accuracy, with {_share(cost['parameters.trainable'], full['parameters.trainable'], '.2%')} of the trained "
        f"parameters and {_share(cost['training.seconds'], full['training.seconds'], '.0%')} of the training time."
    )


def _within(label: str) -> str:
    """A label inside a sentence: `full fine-tuning`, but `LoRA` and `BitFit`."""
    return label if label[1:] != label[1:].lower() else label.lower()


def _share(part: float, whole: float, form: str) -> str:
    """What `part` is of `whole`, in words where that is no number."""
    return format(part / whole, form) if whole > 0 and np.isfinite(part) else "an unknown share"


def verdicts(comparisons: pd.DataFrame) -> str:
    """How often each verdict was reached, in words."""
    if comparisons.empty:
        return "There is no pair of runs to compare yet."
    counts = comparisons["verdict"].value_counts()
    told = listed(f"{count} {name}" for name, count in counts.items())
    many = "comparison" if len(comparisons) == 1 else "comparisons"
    return f"Of {len(comparisons)} {many} with the baseline strategy: {told}."


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
    return (
        f"Fine-tuning is clearly better than a bag of words in {len(comparisons) - len(lost)} of {len(comparisons)} "
        f"comparisons and clearly worse in {len(worse)}" + (f": {cases}." if worse else ".")
    )


def disagreement(runs: Runs, pair: tuple[str, str] | None) -> str:
    """On how many test reviews two runs disagree, and who is right."""
    if pair is None:
        return "There is no pair of runs at one size to look at yet."
    right = {run_id: (runs.preds[run_id].to_numpy() == runs.labels) for run_id in pair}
    first, second = right.values()
    return (
        f"`{pair[0]}` and `{pair[1]}` disagree on {(first != second).sum()} of {len(runs.labels):,} test reviews: the "
        f"former alone is right on {(first & ~second).sum()}, the latter alone on {(second & ~first).sum()}; on "
        f"{(~first & ~second).sum()} both are wrong."
    )
