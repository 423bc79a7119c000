"""The method of a study as its report states it: data, models, training and strategies, from what the runs record.

What no record holds is left out, even where `study.yaml` or a default states it. Keys in brackets are those of
notebooks/references.bib.
"""

from collections.abc import Collection
from typing import Any

import pandas as pd

from peft_study.records.read import Runs
from peft_study.strategies.table import STRATEGIES
from peft_study.text import UNKNOWN, listed

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
TRAINING = ("batch_size", "gradient_accumulation", "weight_decay", "warmup", "dropout", "checkpoint")


def data(runs: Runs) -> str:
    """Which reviews the runs learned from and were tested on, and how they were cut."""
    table = runs.table
    names = listed(_known(name, DATASETS) for name in runs.stated("dataset")["dataset"].unique())
    duplicates, unique = (_figure(table, f"data.{key}") for key in ("duplicates", "unique"))
    dropped = f"; {duplicates} of its rows repeat another text and were dropped" if duplicates else ""
    left = f", which leaves {unique}" if duplicates and unique else ""
    origins = {True: ", held out before any budget was taken", False: ", the dataset's own test split"}
    origin = origins.get(table["data.held_out"].iloc[0], "")
    windows = [WINDOWS[how].format(length) for how, length in _distinct(runs, "truncation", "max_length")]
    told = [
        f"The reviews are from {names}{dropped}{left}." if names != "none" else "",
        f"The test set has {len(runs.labels):,} reviews{origin}.",
        _validation(runs.stated("validation_fraction")),
        f"Of longer reviews the encoder reads {listed(windows, 'or')}." if windows else "",
        _other(runs.stated("ood_dataset")),
    ]
    return " ".join(["**Data.**", *filter(None, told)])


def _validation(table: pd.DataFrame) -> str:
    """How much of every budget is set aside."""
    if table.empty:
        return ""
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
    for name, rows in runs.stated("model").groupby("model", sort=False):
        backbone, head, weights = (
            _figure(rows, key) for key in ("parameters.backbone", "parameters.head", "environment.model")
        )
        size = f", with {backbone} parameters" if backbone else ""
        top = f" and a new classification head of {head}" if backbone and head else ""
        told.append(f"{_known(str(name), MODELS)}{size}{top}{f' (weights {weights})' if weights else ''}")
    return f"**Encoder.** What is fine-tuned is {listed(told) if told else 'not on record'}."


def training(runs: Runs) -> str:
    """How the runs were trained, the learning rates aside, as far as their records state it."""
    batches = [f"{batch * steps:,}" for batch, steps in _distinct(runs, "batch_size", "gradient_accumulation")]
    decay, warmup, dropout, kept = (_each(runs, name) for name in ("weight_decay", "warmup", "dropout", "checkpoint"))
    optimizer = [f"batches of {listed(batches, 'or')} reviews"] if batches else []
    optimizer += [f"weight decay {decay}"] if decay else []
    told = [
        f"The optimizer is AdamW [@loshchilov2019] with {listed(optimizer)}." if optimizer else "",
        f"The learning rate rises over the first {warmup} of the steps and then falls linearly to zero."
        if warmup
        else "",
        f"Dropout is {dropout}." if dropout else "",
        f"The checkpoint that is tested is {kept}." if kept else "",
        _lora(runs),
        _untold(runs),
    ]
    return " ".join(["**Training.**", *filter(None, told)])


def _lora(runs: Runs) -> str:
    """Rank, scale and dropout of the low-rank strategies, where there are any."""
    rank, scale, dropout = (_each(runs, name) for name in ("lora_r", "lora_alpha", "lora_dropout"))
    also = [f"α = {scale}"] if scale else []
    also += [f"dropout {dropout} before the adapter"] if dropout else []
    return (
        f"Where a strategy has a rank, it is {', with '.join([rank, *([listed(also)] if also else [])])}."
        if rank
        else ""
    )


def _untold(runs: Runs) -> str:
    """Of how many runs no record says anything of the training."""
    told = {run_id for name in TRAINING for run_id in runs.stated(name).index}
    if not told:
        return "How they were trained is not on record."
    count = len(runs.table) - len(told)
    return f"How {count} of the {len(runs.table)} runs were trained is not on record." if count else ""


def strategies(runs: Runs) -> str:
    """The strategies of the study as a Markdown table, since citations are resolved in Markdown alone."""
    stated = set(runs.stated("learning_rate").index)
    rates: dict[str, set[float]] = {}
    for run_id in runs.table.index:
        variant = runs.study.variants[run_id]
        rates.setdefault(variant.strategy, set()).update([variant.rate] if run_id in stated else [])
    lines = ["| strategy | what trains | learning rate |", "|:--|:-----|--:|"]
    for name, used in rates.items():
        strategy = STRATEGIES[name]
        source = f" [@{strategy.citation}]" if strategy.citation else ""
        lines.append(f"| {strategy.label}{source} | {strategy.description} | {_range(used)} |")
    return "\n".join(lines)


def _range(values: Collection[float]) -> str:
    """One number, or the lowest and the highest; a dash for none."""
    if not values:
        return UNKNOWN
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


def _distinct(runs: Runs, *fields: str) -> list[tuple[Any, ...]]:
    """The distinct values of some fields of the variant, of the runs whose records state them."""
    return list(runs.stated(*fields)[list(fields)].drop_duplicates().itertuples(index=False, name=None))


def _each(runs: Runs, field: str) -> str:
    """The values of a field that are on record, in a sentence: `8`, `4, 8 or 16`; empty where none is.

    Of a field that some strategies ignore, only the others count.
    """
    heed = [STRATEGIES[name].heeds(field) for name in runs.table["strategy"]]
    table = runs.stated(field)
    values = table[table.index.isin(runs.table.index[heed])][field].drop_duplicates().sort_values()
    return listed((_worded(field, value) for value in values), "or") if len(values) else ""


def _worded(field: str, value: Any) -> str:
    """A value of a field as a sentence says it."""
    if field == "checkpoint":
        return {"best": "the one of lowest validation loss", "last": "the last one"}[value]
    if field == "dropout" and pd.isna(value):
        return "the encoder's own"
    return format(value, ".0%" if field == "warmup" else "g")
