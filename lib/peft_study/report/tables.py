"""The tables of a report as printed: numbers as text, with their intervals. What no record holds is a dash."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.accuracy import MEASURES, further, largest, metric_of, title
from peft_study.analysis.costs import COSTS
from peft_study.analysis.recommendation import TFIDF, swapped
from peft_study.analysis.slice_rules import SLICES
from peft_study.records.read import Runs
from peft_study.report.sentences import gap, settlement, within
from peft_study.statistics.scores import METRICS
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.text import UNKNOWN, class_list, listed, numbers, p_text, points, shortened

_BESIDE = {  # of `accuracy.summary`, beside the study's metric: heading, scale, format
    "accuracy": ("accuracy (%)", 100, "{:.1f}"),
    "auc": ("AUC", 1, "{:.3f}"),
    "share_positive": ("predicted positive (%)", 100, "{:.1f}"),
    "macro_f1": ("macro F1 (%)", 100, "{:.1f}"),
    "balanced_accuracy": ("balanced accuracy (%)", 100, "{:.1f}"),
}
_KEPT = "pretrained head kept"
_SETUP = {  # rows of the set-up: fields of the variant, which are stated, or columns of the records
    "encoder": ("model",),
    "weights (hash)": ("environment.model",),
    _KEPT: ("keep_head",),
    "dataset": ("dataset", "dataset_config"),
    "text and label columns": ("text_column", "label_column"),
    "encoding": ("encoding",),
    "test split": ("test_split",),
    "distinct texts, duplicates": ("data.unique", "data.duplicates"),
    "out-of-domain texts": ("ood_dataset",),
    "share for validation": ("validation_fraction",),
    "window (tokens)": ("max_length", "truncation"),
    "epochs": ("epochs",),
    "optimizer steps": ("max_steps",),
    "batch size, accumulation": ("batch_size", "gradient_accumulation"),
    "weight decay, warm-up, dropout": ("weight_decay", "warmup", "dropout"),
    "class weights": ("class_weights",),
    "checkpoint tested": ("checkpoint",),
    "LoRA rank, α, dropout": ("lora_r", "lora_alpha", "lora_dropout"),
    "seeds": ("seed",),
    "precision": ("environment.precision",),
}


def named(table: pd.DataFrame) -> pd.DataFrame:
    """`table` indexed by the strategy's label and the budget, as text; without run ids and columns of dashes alone."""
    labels = [STRATEGIES[name].label for name in table["strategy"]]
    sizes = [f"{size:,}" for size in table["train_size"]]
    index = pd.MultiIndex.from_arrays([labels, sizes], names=["strategy", "labels"])
    shown = table.drop(columns=["strategy", "train_size", "run_ids"], errors="ignore").set_index(index)
    return shown.loc[:, (shown != UNKNOWN).any()] if len(shown) else shown


def _interval(table: pd.DataFrame, column: str, form: Callable[[float], str] = "{:.1f}".format) -> Any:
    """A share of each row and its interval (the columns `low` and `high`), in points; a dash for NaN."""
    values = (100 * table[name] for name in (column, "low", "high"))
    texts = [f"{form(value)} [{form(low)}, {form(high)}]" for value, low, high in zip(*values, strict=True)]
    return np.where(table[column].isna(), UNKNOWN, texts)


# --- The runs ---------------------------------------------------------------------------------------------------------


def setup(runs: Runs) -> pd.DataFrame:
    """What the records state of data, encoder and training: one value, or all that occur; a row that none states goes.

    Of a field that a strategy ignores, only the runs of the others count.
    """
    metric = METRICS[runs.study.metric]
    rows = {"metric": f"{metric.noun}: {metric.meaning}", "test texts": f"{len(runs.labels):,}"}
    rows["classes"] = class_list(runs.class_names)
    if not runs.foreign:
        rows["optimizer, schedule"] = "AdamW, linear decay after the warm-up"
    for name, fields in _SETUP.items():
        table = runs.stated(*fields) if set(fields) <= set(Variant.model_fields) else runs.table
        stated = table[list(fields)].dropna(how="all")
        heed = [all(STRATEGIES[strategy].heeds(field) for field in fields) for strategy in runs.table["strategy"]]
        used = stated[stated.index.isin(runs.table.index[heed])].itertuples(index=False)
        if values := dict.fromkeys(", ".join(_plain(value) for value in row if value is not None) for row in used):
            rows[name] = "; ".join(values)
    if rows.get(_KEPT) == "False":
        del rows[_KEPT]  # the default
    rows |= {STRATEGIES[name].label: text for name, text in _trained(runs).items()}
    return pd.DataFrame({"value": rows}).rename_axis("setting")


def _plain(value: Any) -> str:
    """A value of a record as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {setting}" for name, setting in value.items())
    if isinstance(value, list):
        return listed(map(_plain, value))
    if value is None or value != value:
        return UNKNOWN
    return f"{value:,g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _trained(runs: Runs) -> dict[str, str]:
    """What each strategy trains, and its peak learning rates where they are on record."""
    rates: dict[str, set[float]] = {name: set() for name in runs.table["strategy"]}
    for run_id in runs.stated("learning_rate").index:
        rates[runs.study.variants[run_id].strategy].add(runs.study.variants[run_id].rate)
    trained = {}
    for name, used in rates.items():
        ends = dict.fromkeys(f"{rate:g}" for rate in sorted(used)[:: max(1, len(used) - 1)])
        trained[name] = STRATEGIES[name].description + f"; learning rate {' to '.join(ends)}" * bool(ends)
    return trained


def environments(runs: Runs) -> pd.DataFrame:
    """Where the runs were computed, one column per distinct environment."""
    keys = ("device", "precision", "system", "python", "commit", "dirty", "model", "packages")
    table = runs.table.reindex(columns=[f"environment.{key}" for key in keys]).set_axis(keys, axis=1)
    table = table.map(_plain).drop_duplicates()
    return table.T.set_axis(["all runs"] if len(table) == 1 else range(1, len(table) + 1), axis=1)


# --- Scores -----------------------------------------------------------------------------------------------------------


def results(
    summary: pd.DataFrame,
    comparisons: pd.DataFrame | None = None,
    ood: pd.DataFrame | None = None,
    tfidf: pd.DataFrame | None = None,
    against_tfidf: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Scores of every variant and, beside them, its difference from the baseline strategy; budget by budget.

    `summary` and `ood` are of `accuracy.summary`, `comparisons` of `accuracy.against_baseline`. `tfidf` are the scores
    of TF-IDF, and `against_tfidf` the rows of `accuracy.against_tfidf` that have the baseline strategy.
    """
    axes = ["strategy", "train_size", *further(summary)]
    metric = metric_of(summary)
    heading = f"{METRICS[metric].noun} (%)"
    columns: dict[str, Any] = {heading: _interval(summary, metric)}
    for name, (head, scale, form) in _BESIDE.items():
        if name in summary and name != metric and (name != "macro_f1" or "auc" not in summary):
            columns[head] = numbers(scale * summary[name], form)
    columns |= {} if ood is None or ood.empty else {"out of domain (%)": _interval(ood, metric)}
    table = summary[axes].astype(object).assign(**columns)
    if comparisons is not None and len(comparisons):
        table = table.merge(comparisons[axes].assign(**_compared(comparisons)), how="left")
    table["strategy"] = [STRATEGIES[name].label for name in table["strategy"]]
    table["seeds"] = summary["seeds"].astype(str).to_numpy()
    if tfidf is not None and against_tfidf is not None:
        own = tfidf[["train_size"]].assign(strategy=TFIDF, **{heading: _interval(tfidf, metric)})
        if len(reverse := swapped(against_tfidf)):
            own = own.merge(reverse[axes[1:]].assign(**_compared(reverse)), how="left")  # axes of the baseline strategy
        table = pd.concat([table, own[own["train_size"].isin(summary["train_size"])]])
    table = table.sort_values("train_size", kind="stable").fillna(UNKNOWN)
    table = table.loc[:, (table != UNKNOWN).any()].assign(labels=table["train_size"].map("{:,}".format))
    return table.drop(columns="train_size").set_index(["labels", "strategy"])


def recommendation(table: pd.DataFrame, available: float) -> str:
    """`recommendation.recommend` as a Markdown table: a row per budget; `available` texts can be tested on."""
    lines = [
        "| labels | choose | highest estimate | how sure: difference in points, verdict "
        "| what would settle it (80% power if equal) |",
        "|--:|:---|:---|:-----|:----|",
    ]
    for size, rows in table.groupby("train_size"):
        compared = rows.to_dict("records")
        sure = "; ".join(f"{gap(row)} against {within(row['against'])}, {row['verdict']}" for row in compared)
        settled = [(row["against"], text) for row in compared if (text := settlement(row, available))]
        settle = "; ".join(f"against {within(name)}: {text}" if len(compared) > 1 else text for name, text in settled)
        first, scores = compared[0], {"choice": metric_of(table), "best": "highest"}
        chosen, best = (f"{first[name]}, {100 * first[score]:.1f}%" for name, score in scores.items())
        cells = (f"{size:,}", f"**{chosen}**", best, sure, settle or "decided")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(table) else ""


def differences(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Differences from the baseline strategy in points of the metric, with interval, test, power and verdict."""
    columns = _compared(comparisons)
    columns["right alone"] = [f"{a} : {b}" for a, b in comparisons[["only_strategy", "only_baseline"]].to_numpy()]
    columns["detectable"] = numbers(comparisons["detectable"], "{:.1f}")
    order = ("difference", "right alone", "p", "adjusted p", "detectable", "verdict")
    return named(comparisons.drop(columns=list(MEASURES)).assign(**{name: columns[name] for name in order}))


def _p(value: float) -> str:
    """A p-value in a column of its own."""
    return p_text(value).removeprefix("p = ").removeprefix("p ")


def _compared(comparisons: pd.DataFrame) -> dict[str, Any]:
    """The columns that every table of differences has."""
    return {
        "difference": _interval(comparisons[["difference", "low", "high"]] / 100, "difference", points),
        "p": comparisons["p_value"].map(_p),
        "adjusted p": comparisons["adjusted_p"].map(_p),
        "verdict": list(comparisons["verdict"]),
    }


def classes(scores: pd.DataFrame, titles: list[str], names: Sequence[str], most: int = 12) -> pd.DataFrame:
    """`class_scores.class_scores` at the largest budget, of the variants with these `titles`; `names` are of classes.

    Of more than `most` classes, those with the lowest F1.
    """
    table = largest(scores).assign(strategy=[title(row) for row in largest(scores).to_dict("records")])
    table = table[table["strategy"].isin(titles)]
    f1 = table[table["measure"] == "F1"].groupby("class")["value"].mean()
    shown = table[table["class"].isin(f1.sort_values(kind="stable").index[:most])]
    shown = shown.assign(cell=_interval(shown, "value"), measure=shown["measure"] + " (%)")
    shown["texts"] = shown["texts"].map("{:,}".format)
    cells = shown.set_index(["class", "texts", "strategy", "measure"])["cell"].unstack(sort=False)
    named_classes = {kind: shortened(name, 40) for kind, name in enumerate(names)}
    return cells.rename(named_classes, level="class").rename_axis(columns=None)


# --- Costs and slices -------------------------------------------------------------------------------------------------


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """`costs.costs` as printed: parameters, training (seconds without evaluation), storage, inference."""
    named_costs = {name: cost for name, cost in COSTS.items() if not name.startswith("parameters.trainable_")}
    columns = {cost.column: numbers(table[name] / cost.unit, cost.form) for name, cost in named_costs.items()}
    return named(table[["strategy", "train_size", *further(table)]].assign(**columns))


def slices(scores: pd.DataFrame, compared: pd.DataFrame, titles: list[str]) -> pd.DataFrame:
    """Scores and differences at the largest budget, slice by slice, of the variants with these `titles`."""
    axes = ["slice", "reviews", "strategy", "train_size", *further(scores)]
    metric = metric_of(scores)
    table = largest(scores).assign(**{metric: _interval(largest(scores), metric)})[[*axes, metric]]
    own = compared[axes].assign(**_compared(compared)) if len(compared) else pd.DataFrame(columns=axes)
    table = table.merge(own, how="left").fillna(UNKNOWN)
    table["strategy"] = [title(row) for row in table.to_dict("records")]
    table = table[table["strategy"].isin(titles)].assign(slice=table["slice"].map(lambda name: SLICES.get(name, name)))
    table["reviews"] = table["reviews"].map("{:,}".format)
    shown = table.drop(columns=["train_size", "p", "adjusted p", *further(table)], errors="ignore")
    shown = shown.rename(columns={"reviews": "texts", metric: f"{METRICS[metric].noun} (%)"})
    return shown.set_index(["slice", "texts", "strategy"])
