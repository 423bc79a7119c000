"""The method of a study as its report states it: data, models, training and strategies, from what the runs record.

A clause whose figure no record holds is left out. Keys in brackets are those of notebooks/references.bib.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from peft_study.comparison.claims import listed
from peft_study.results import Runs
from peft_study.strategies import STRATEGIES

# What is known of data and models by their names; of any other, the name is all that can be said.
DATASETS = {
    "bundled:imdb": "IMDB's training half [@maas2011]",
    "stanfordnlp/imdb": "IMDB [@maas2011]",
    "bundled:rotten-tomatoes": "single sentences of critics [@pang2005]",
}
MODELS = {
    "bundled:all-MiniLM-L6-v2": "a BERT [@devlin2019] of six blocks, 384 wide, made by distillation [@wang2020] and "
    "then trained to embed sentences [@reimers2019]",
    "distilbert/distilbert-base-uncased": "a BERT [@devlin2019] of six blocks, 768 wide, made by distillation "
    "[@sanh2019]",
}
WINDOWS = {
    "head": "their first {} tokens",
    "tail": "their last {} tokens",
    "head+tail": "{} tokens, a quarter of them from the start and the others from the end [@sun2019]",
}


def data(runs: Runs) -> str:
    """Which reviews the runs learned from and were tested on, and how they were cut."""
    table = runs.table
    names = listed(_known(name, DATASETS) for name in table["dataset"].unique())
    duplicates, unique = (_figure(table, f"data.{key}") for key in ("duplicates", "unique"))
    dropped = f"; {duplicates} of its rows repeat another text and were dropped" if duplicates else ""
    left = f", which leaves {unique}" if duplicates and unique else ""
    origins = {True: ", held out before any budget was taken", False: ", the dataset's own test split"}
    origin = origins.get(table["data.held_out"].iloc[0], "")
    windows = listed(
        (WINDOWS[how].format(length) for how, length in _distinct(table, ["truncation", "max_length"])), "or"
    )
    return (
        f"**Data.** The reviews are from {names}{dropped}{left}. The test set has {len(runs.labels):,} "
        f"reviews{origin}. {_validation(table)} Of longer reviews the encoder reads {windows}. {_other(table)}"
    ).strip()


def _validation(table: pd.DataFrame) -> str:
    """How much of every budget is set aside."""
    shares = listed((f"{share:.0%}" for share in sorted(table["validation_fraction"].unique())), "or")
    return f"Of every budget, {shares} is set aside for validation." if shares != "0%" else "There is no validation."


def _other(table: pd.DataFrame) -> str:
    """The reviews of another kind, where every run was tested on some."""
    names = table["ood_dataset"].dropna().unique()
    count = _figure(table, "data.ood")
    if not len(names):
        return ""
    some = f"{count} reviews" if count else "reviews"
    return (
        f"No run learns from the {some} of another kind on which it is also tested: {listed(map(_other_name, names))}."
    )


def _other_name(name: str) -> str:
    return _known(name, DATASETS)


def models(runs: Runs) -> str:
    """Which encoders were fine-tuned, how large they are, and which weights exactly."""
    told = []
    for name, rows in runs.table.groupby("model", sort=False):
        backbone, head, weights = (
            _figure(rows, key) for key in ("parameters.backbone", "parameters.head", "environment.model")
        )
        size = f", with {backbone} parameters" if backbone else ""
        top = f" and a new classification head of {head}" if backbone and head else ""
        told.append(f"{_known(str(name), MODELS)}{size}{top}{f' (weights {weights})' if weights else ''}")
    return f"**Encoder.** What is fine-tuned is {listed(told)}."


def training(runs: Runs) -> str:
    """How the study asks for every run to be trained, the learning rates aside."""
    table = runs.table
    batches = listed(
        (f"{batch * steps:,}" for batch, steps in _distinct(table, ["batch_size", "gradient_accumulation"])), "or"
    )
    dropouts = [f"{value:g}" if pd.notna(value) else "the encoder's own" for value in table["dropout"].unique()]
    checkpoints = {"best": "the one of lowest validation loss", "last": "the last one"}
    kept = listed((checkpoints[how] for how in table["checkpoint"].unique()), "or")
    return (
        f"**Training.** The optimizer is AdamW [@loshchilov2019] with batches of {batches} reviews and weight decay "
        f"{_each(table, 'weight_decay')}; the learning rate rises over the first {_each(table, 'warmup', '.0%')} of "
        f"the steps and then falls linearly to zero. Dropout is {listed(dropouts, 'or')}. The checkpoint that is "
        f"tested is {kept}.{_lora(runs)}"
    )


def _lora(runs: Runs) -> str:
    """Rank, scale and dropout of the low-rank strategies, where there are any."""
    heed = [STRATEGIES[name].heeds("lora_r") for name in runs.table["strategy"]]
    table = runs.table[heed]
    if table.empty:
        return ""
    return (
        f" Where a strategy has a rank, it is {_each(table, 'lora_r')}, with α = {_each(table, 'lora_alpha')} and "
        f"dropout {_each(table, 'lora_dropout')} before the adapter."
    )


def strategies(runs: Runs) -> str:
    """The strategies of the study as a Markdown table, since citations are resolved in Markdown alone."""
    rates: dict[str, set[float]] = {}
    for run_id in runs.table.index:
        variant = runs.study.variants[run_id]
        rates.setdefault(variant.strategy, set()).add(variant.rate)
    lines = ["| strategy | what trains | learning rate |", "|:--|:-----|--:|"]
    for name, used in rates.items():
        strategy = STRATEGIES[name]
        source = f" [@{strategy.citation}]" if strategy.citation else ""
        lines.append(f"| {strategy.label}{source} | {strategy.description} | {_range(used)} |")
    return "\n".join(lines)


def _range(values: Iterable[float]) -> str:
    """One number, or the lowest and the highest."""
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _known(name: str, what: dict[str, str]) -> str:
    """A name and, where it is one of `what`, what is known of it."""
    told = what.get(name.partition("@")[0])
    return f"`{name}`, {told}" if told else f"`{name}`"


def _figure(table: pd.DataFrame, column: str) -> str:
    """What the records say in a column, if they agree; empty where they do not, or say nothing."""
    values = list(table[column].dropna().unique()) if column in table else []
    if len(values) != 1:
        return ""
    return f"`{values[0]}`" if isinstance(values[0], str) else f"{int(values[0]):,}"


def _distinct(table: pd.DataFrame, columns: list[str]) -> list[tuple[Any, ...]]:
    """The distinct rows of some columns."""
    return list(table[columns].drop_duplicates().itertuples(index=False, name=None))


def _each(table: pd.DataFrame, column: str, form: str = "g") -> str:
    """The values of a column in a sentence: `8`, `4, 8 or 16`."""
    return listed((format(value, form) for value in sorted(table[column].unique())), "or")
