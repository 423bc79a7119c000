"""The tables of a report as printed: numbers as text, with their intervals. What no record holds is a dash."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from peft_study import paths
from peft_study.analysis.accuracy import MEASURES, further, largest, title, varying
from peft_study.analysis.costs import COSTS
from peft_study.analysis.slice_rules import SLICES
from peft_study.records.read import Runs
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.text import UNKNOWN, class_list, numbers, p_text, points

_KEPT = "pretrained classification head kept"
_SETUP = {  # rows of the set-up: fields of the variant, which are stated, or columns of the records
    "encoder": ("model",),
    "weights (hash)": ("environment.model",),
    _KEPT: ("keep_head",),
    "dataset": ("dataset", "dataset_config"),
    "test split": ("test_split",),
    "distinct texts, duplicates dropped": ("data.unique", "data.duplicates"),
    "out-of-domain test set": ("ood_dataset",),
    "share held out for validation": ("validation_fraction",),
    "window (tokens)": ("max_length", "truncation"),
    "epochs": ("epochs",),
    "optimizer steps": ("max_steps",),
    "batch size": ("batch_size",),
    "gradient accumulation": ("gradient_accumulation",),
    "weight decay": ("weight_decay",),
    "warm-up (share of steps)": ("warmup",),
    "dropout": ("dropout",),
    "checkpoint tested": ("checkpoint",),
    "LoRA rank": ("lora_r",),
    "LoRA α": ("lora_alpha",),
    "LoRA dropout": ("lora_dropout",),
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


def _interval(table: pd.DataFrame, column: str, form: Callable[[float], str] = "{:.1f}".format, ends: str = "") -> Any:
    """A share of each row and its interval (the columns `low` and `high`, after the prefix `ends`), in points."""
    values = (100 * table[name] for name in (column, f"{ends}low", f"{ends}high"))
    return [f"{form(value)} [{form(low)}, {form(high)}]" for value, low, high in zip(*values, strict=True)]


# --- The runs ---------------------------------------------------------------------------------------------------------


def setup(runs: Runs) -> pd.DataFrame:
    """What the records state of data, encoder and training: one value, or all that occur; a row that none states goes.

    Of a field that a strategy ignores, only the runs of the others count.
    """
    rows = {"test reviews": f"{len(runs.labels):,}", "classes": class_list(runs.class_names)}
    for name, fields in _SETUP.items():
        table = runs.stated(*fields) if set(fields) <= set(Variant.model_fields) else runs.table
        stated = table.reindex(columns=list(fields)).dropna(how="all")
        heed = [all(STRATEGIES[strategy].heeds(field) for field in fields) for strategy in runs.table["strategy"]]
        values = stated[stated.index.isin(runs.table.index[heed])].drop_duplicates()
        if len(values):
            stated_values = [[value for value in row if value is not None] for row in values.itertuples(index=False)]
            rows[name] = "; ".join(", ".join(map(_plain, row)) for row in stated_values)
    if rows.get(_KEPT) == "False":
        del rows[_KEPT]  # the default
    return pd.DataFrame({"value": rows}).rename_axis("setting")


def _plain(value: Any) -> str:
    """A value of a record as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {setting}" for name, setting in value.items())
    if value is None or value != value:
        return UNKNOWN
    return f"{value:,g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def strategies(runs: Runs) -> str:
    """The strategies and their peak learning rates as a Markdown table, since only Markdown can hold citations."""
    rates: dict[str, set[float]] = {name: set() for name in runs.table["strategy"]}
    for run_id in runs.stated("learning_rate").index:
        variant = runs.study.variants[run_id]
        rates[variant.strategy].add(variant.rate)
    lines = ["| strategy | what trains | learning rate |", "|:--|:-----|--:|"]
    for name, used in rates.items():
        strategy, ends = STRATEGIES[name], dict.fromkeys(f"{rate:g}" for rate in sorted(used)[:: max(1, len(used) - 1)])
        source = f" [@{strategy.citation}]" if strategy.citation else ""
        lines.append(f"| {strategy.label}{source} | {strategy.description} | {' to '.join(ends) or UNKNOWN} |")
    return "\n".join(lines)


def grid(runs: Runs, links: bool) -> str:
    """Finished of planned runs, strategies by budgets, as a Markdown table, since only Markdown can hold links.

    A finished run is named by its seed and what else sets it apart within its cell. With `links` the name leads to the
    page of its executed notebook, relative to the report; the run of another program has none.
    """
    planned = runs.study.variants
    sizes = sorted({variant.train_size for variant in planned.values()})
    lines = ["| strategy | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|:--|" + ":--|" * len(sizes)]
    for strategy in dict.fromkeys(variant.strategy for variant in planned.values()):
        cells = [[run for run, v in planned.items() if (v.strategy, v.train_size) == (strategy, n)] for n in sizes]
        lines.append(f"| {STRATEGIES[strategy].label} | {' | '.join(_cell(cell, runs, links) for cell in cells)} |")
    return "\n".join(lines)


def _cell(planned: list[str], runs: Runs, links: bool) -> str:
    """How many of the planned runs of a cell are finished, and their names."""
    names = []
    for run_id in (run_id for run_id in planned if run_id in runs.table.index):
        variant = runs.study.variants[run_id]
        name = f"`{run_id.removeprefix(f'{variant.strategy}-n{variant.train_size:05d}-')}`"
        has_page = links and (paths.run_folder(runs.study.name, run_id) / "train.ipynb").exists()
        names.append(f"[{name}](runs/{run_id}.html)" if has_page else name)
    return ": ".join(filter(None, [f"{len(names)} of {len(planned)}", ", ".join(names)])) if planned else UNKNOWN


def missing(runs: Runs) -> pd.DataFrame:
    """The planned runs that are not compared, and why."""
    return pd.DataFrame({"reason": runs.missing}, dtype=object).rename_axis("run")


def unrecorded(runs: Runs) -> pd.DataFrame:
    """What records of compared runs leave out, field by field: in all runs, or in which."""
    runs_by_field: dict[str, list[str]] = {}
    for run_id, fields in runs.unrecorded.items():
        for field in fields:
            runs_by_field.setdefault(field, []).append(run_id)
    fields_by_runs: dict[str, dict[str, list[str]]] = {}
    for field, run_ids in runs_by_field.items():
        file, _, name = field.partition(": ")
        of_runs = fields_by_runs.setdefault("all" if len(run_ids) == len(runs.table) else ", ".join(run_ids), {})
        of_runs.setdefault(file, []).extend([name] if name else [])
    shown = {
        run_ids: "; ".join(f"{file}: {', '.join(names)}" if names else file for file, names in files.items())
        for run_ids, files in fields_by_runs.items()
    }
    return pd.DataFrame({"not on record": shown}).rename_axis("runs")


def environments(runs: Runs) -> pd.DataFrame:
    """Where the runs were computed, one column per distinct environment."""
    keys = ("device", "precision", "system", "python", "commit", "dirty", "model", "packages")
    table = runs.table.reindex(columns=[f"environment.{key}" for key in keys]).set_axis(keys, axis=1)
    table = table.apply(lambda column: column.map(_plain)).drop_duplicates()
    return table.T.set_axis(["all runs"] if len(table) == 1 else range(1, len(table) + 1), axis=1)


# --- Accuracy ---------------------------------------------------------------------------------------------------------


def scores(runs: Runs, accuracy: pd.DataFrame, ood: pd.DataFrame | None = None) -> pd.DataFrame:
    """Accuracy and macro F1 on the test set and accuracy on the out-of-domain set, with 95 % intervals.

    The tables are of `summary`. Where there are several seeds, the test accuracy of each as well.
    """
    columns: dict[str, Any] = {"accuracy (%)": _interval(accuracy, "accuracy")}
    columns["macro F1 (%)"] = numbers(100 * accuracy["macro_f1"], "{:.1f}")
    columns |= {} if ood is None or ood.empty else {"out of domain (%)": _interval(ood, "accuracy")}
    if accuracy["seeds"].max() > 1:
        share = (runs.preds.to_numpy() == runs.labels[:, None]).mean(axis=0)
        each = pd.Series(share, runs.preds.columns).map(lambda value: f"{100 * value:.1f}")
        columns["each seed (%)"] = [", ".join(each[ids]) for ids in accuracy["run_ids"]]
    return named(accuracy[varying(runs)].assign(**columns))


def differences(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Differences from the baseline strategy in accuracy points, with interval, test, power and verdict."""
    columns = _compared(comparisons)
    columns["p"] = comparisons["p_value"].map(_p)
    columns["right alone"] = [f"{a} : {b}" for a, b in comparisons[["only_strategy", "only_baseline"]].to_numpy()]
    columns["detectable"] = numbers(comparisons["detectable"], "{:.1f}")
    columns["pairs ahead"] = [
        UNKNOWN if pd.isna(row["improvement"]) else f"{row['improvement'] * row['pairs']:g} of {row['pairs']}"
        for row in comparisons.to_dict("records")
    ]
    order = ("difference", "right alone", "p", "adjusted p", "detectable", "pairs ahead", "verdict")
    return named(comparisons.drop(columns=list(MEASURES)).assign(**{name: columns[name] for name in order}))


def _p(value: float) -> str:
    """A p-value in a column of its own."""
    return p_text(value).removeprefix("p = ").removeprefix("p ")


def _compared(comparisons: pd.DataFrame) -> dict[str, Any]:
    """The columns that every table of differences has."""
    return {
        "difference": _interval(comparisons[["difference", "low", "high"]] / 100, "difference", points),
        "adjusted p": comparisons["adjusted_p"].map(_p),
        "verdict": list(comparisons["verdict"]),
    }


def reference(table: pd.DataFrame) -> pd.DataFrame:
    """`reference.beside` as printed: of each figure what was reported, then what was reached here."""
    shown = table.loc[:, :"accuracy"].iloc[:, :-1]  # type: ignore[misc]
    shown["accuracy (%)"] = numbers(100 * table["reported_accuracy"], "{:.1f}")
    shown["accuracy here"] = _interval(table, "accuracy")
    shown["difference"] = table["difference"].map(points)
    for name, label, scale, form in (
        ("macro_f1", "macro F1", 100, "{:.1f}"),
        ("trainable", "trainable", 1, "{:,.0f}"),
        ("seconds", "seconds", 1, "{:,.0f}"),
    ):
        shown[label] = numbers(scale * table[f"reported_{name}"], form)
        shown[f"{label} here"] = numbers(scale * table[name], form)
    return named(shown)


# --- Costs, calibration, slices ---------------------------------------------------------------------------------------


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """`costs.costs` as printed: parameters, training (seconds without evaluation), storage, inference."""
    columns = {cost.column: numbers(table[name] / cost.unit, cost.form) for name, cost in COSTS.items()}
    share = numbers(table["parameters.trainable"] / table["parameters.total"], "{:.2%}")
    return named(table[["strategy", "train_size", *further(table)]].assign(**columns, share=share))


def calibration(measured: pd.DataFrame, scaled: pd.DataFrame) -> pd.DataFrame:
    """`calibration.measured` as printed, and beside it what `scaled` says of temperatures, where a row has one."""
    axes = ["strategy", "train_size", *further(measured)]
    columns = {
        "log-loss (nats)": numbers(measured["log_loss"], "{:.3f}"),
        "Brier score": numbers(measured["brier"], "{:.3f}"),
        "ECE (points)": _interval(measured, "ece", ends="ece_"),
        "confidence − accuracy (points)": _interval(measured, "overconfidence", points, "overconfidence_"),
    }
    if len(scaled):
        rows = measured[axes].merge(scaled[[*axes, "temperature", "log_loss_after", "ece_after"]], how="left")
        columns["temperature"] = numbers(rows["temperature"], "{:.2f}").to_numpy()
        columns["scaled log-loss"] = numbers(rows["log_loss_after"], "{:.3f}").to_numpy()
        columns["scaled ECE"] = numbers(100 * rows["ece_after"], "{:.1f}").to_numpy()
    return named(measured[axes].assign(**columns))


def slices(scores: pd.DataFrame, compared: pd.DataFrame, titles: list[str]) -> pd.DataFrame:
    """Accuracies and differences at the largest budget, slice by slice, of the variants with these `titles`."""
    axes = ["slice", "reviews", "strategy", "train_size", *further(scores)]
    table = largest(scores).assign(accuracy=_interval(largest(scores), "accuracy"))[[*axes, "accuracy"]]
    own = compared[axes].assign(**_compared(compared)) if len(compared) else pd.DataFrame(columns=axes)
    table = table.merge(own, how="left").fillna(UNKNOWN)
    table["strategy"] = [title(row) for row in table.to_dict("records")]
    table = table[table["strategy"].isin(titles)].assign(slice=table["slice"].map(lambda name: SLICES.get(name, name)))
    table["reviews"] = table["reviews"].map("{:,}".format)
    shown = table.drop(columns=["train_size", *further(table)]).rename(columns={"accuracy": "accuracy (%)"})
    return shown.set_index(["slice", "reviews", "strategy"])
