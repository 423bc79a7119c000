"""The sentences about costs, each computed: what stayed equal, who is on which front, what is not on record."""

from collections.abc import Iterable

import pandas as pd

from peft_study.analysis import costs as ledger_tables
from peft_study.analysis.accuracy import title
from peft_study.records.read import Runs
from peft_study.report.sentences import MANY
from peft_study.strategies.table import STRATEGIES
from peft_study.text import listed, points

ALL = "all runs"
FIGURE = "@fig-tradeoff draws the front of every size as a line."


def budget(runs: Runs) -> str:
    """Whether the runs share their epochs or their optimizer steps, and what a larger budget then means."""
    table = runs.table
    fixed, epochs = table["max_steps"].dropna(), table["epochs"]
    steps, passes = _by_size(table, "training.steps", ",.0f"), _by_size(table, "training.epochs", ".3g")
    several = table["train_size"].nunique() > 1
    if len(fixed) == len(table) and fixed.nunique() == 1:
        told = f"Every run took {_count(int(fixed.iloc[0]), 'optimizer step')}, whatever its budget"
        seen = f" (epochs: {passes})" if passes else ""
        return f"{told}: a larger budget is seen fewer times{seen}." if several else f"{told}{seen}."
    if fixed.empty and epochs.nunique() == 1:
        told = f"Every run trained for {_count(epochs.iloc[0], 'epoch')}"
        taken = f" (optimizer steps: {steps})" if steps else ""
        grown = ": more labels also mean more steps, so that the budget and the length of training grow together"
        return f"{told}{grown if several else ''}{taken}."
    asked = {"epochs": epochs[table["max_steps"].isna()], "max_steps": fixed}
    kinds = [
        f"{name} {listed(f'{v:,g}' for v in sorted(values.unique()))}" for name, values in asked.items() if len(values)
    ]
    taken = f"; optimizer steps: {steps}" if steps else ""
    return f"The runs did not train equally long ({', '.join(kinds)}{taken}): what differs may come from that too."


def _by_size(table: pd.DataFrame, column: str, form: str) -> str:
    """What a recorded figure is at every size, as a range where the runs of a size differ; empty where none says."""
    values = pd.to_numeric(table[column], errors="coerce") if column in table else pd.Series(dtype=float)
    told = []
    for size, known in values.dropna().groupby(table["train_size"]):
        ends = list(dict.fromkeys(format(end, form) for end in (known.min(), known.max())))
        told.append(f"{' to '.join(ends)} at {size:,} labels")
    return listed(told) if told else ""


def _count(number: float, what: str) -> str:
    return f"{number:,g} {what}" if number == 1 else f"{number:,g} {what}s"


def gaps(runs: Runs) -> str:
    """What the records of the compared runs leave out: a dash in the tables, a point that no figure has."""
    if not runs.unrecorded:
        return "The records of all compared runs are complete."
    lacking: dict[str, list[str]] = {}
    for run_id, names in runs.unrecorded.items():
        for name in names:
            lacking.setdefault(name, []).append(run_id)
    shared: dict[tuple[str, ...], list[str]] = {}
    for name, run_ids in lacking.items():
        shared.setdefault(tuple(run_ids), []).append(name)
    lines = [f"- {_whose(run_ids, runs)}: {_fields(names)}" for run_ids, names in shared.items()]
    stated = " What `params.yaml` leaves out is taken as `study.yaml` states it." if _params(lacking) else ""
    return (
        "**Not on record**, and therefore a dash in the tables and absent from the figures:\n\n"
        + "\n".join(lines)
        + (f"\n\n{stated.strip()}" if stated else "")
    )


def _whose(run_ids: Iterable[str], runs: Runs) -> str:
    run_ids = list(run_ids)
    return ALL if len(run_ids) == len(runs.table) else listed(f"`{run_id}`" for run_id in run_ids)


def _params(names: Iterable[str]) -> bool:
    return any(name.startswith("params.yaml") for name in names)


def _fields(names: Iterable[str]) -> str:
    """Names of `Runs.unrecorded`, by file: `log_history.json`; of `metrics.json`: `cost` and `training.steps`."""
    files: dict[str, list[str]] = {}
    for name in names:
        file, _, field = name.partition(": ")
        files.setdefault(file, []).extend([f"`{field}`"] if field else [])
    return "; ".join(f"of `{file}`: {listed(fields)}" if fields else f"`{file}`" for file, fields in files.items())


def curves(runs: Runs) -> str:
    """How many runs were still learning when their training ended, or that no record has a log."""
    logs = {run_id: log for run_id in runs.table.index if not (log := runs.log(str(run_id))).empty}
    if not logs:
        return "No run left a log of its training, so that its course cannot be shown."
    part = "" if len(logs) == len(runs.table) else f" Only {len(logs)} of {len(runs.table)} runs left a log."
    falls = pd.Series({run_id: fall for run_id, log in logs.items() if (fall := _last_fall(log)) is not None})
    drawn = f"@fig-curves draws the course of every training.{part}"
    if falls.empty:
        return f"No run was validated twice: whether more steps would help is not known. {drawn}"
    falling = falls[falls.round(3) > 0]
    if falling.empty:
        return f"In none of {len(falls)} runs was the validation loss still falling when training ended. {drawn}"
    strategies = runs.table["strategy"].loc[falls.index]
    counts = strategies.loc[falling.index].value_counts(sort=False).items()
    who = ", ".join(f"{STRATEGIES[str(name)].label}: {n} of {(strategies == name).sum()}" for name, n in counts)
    by = " to ".join(dict.fromkeys(f"{end:.3f}" for end in (falling.min(), falling.max())))
    return (
        f"When training ended, the validation loss was still falling in {len(falling)} of {len(falls)} runs ({who}), "
        f"by {by} nats since the evaluation before: the larger the fall, the more a longer training might gain. {drawn}"
    )


def _last_fall(log: pd.DataFrame) -> float | None:
    """By how much the validation loss fell to its last, lowest value; 0 where it rose again, None where no two are."""
    losses = log["eval_loss"].dropna()
    if len(losses) < 2:
        return None
    return float(losses.iloc[-2] - losses.iloc[-1]) if losses.iloc[-1] < losses.iloc[:-1].min() else 0.0


def fronts(table: pd.DataFrame) -> str:
    """Which strategies are on the Pareto front of accuracy against each cost, at the largest size of a ledger."""
    last = table[table["train_size"] == table["train_size"].max()]
    costs = ledger_tables.measured(last)
    if not costs:
        return "The records hold no cost, so that accuracy cannot be set against any."
    if len(last) == 1:
        return (
            f"At {last['train_size'].iloc[0]:,} labels there is a single strategy, so that none is cheaper or dearer."
        )
    on: dict[tuple[str, ...], list[str]] = {}
    for cost in costs:
        front = last[ledger_tables.on_front(last, cost).fillna(False)]
        names = tuple(title(row) for row in front.sort_values([cost, "accuracy"]).to_dict("records"))
        unknown = int(last[cost].isna().sum())
        words = ledger_tables.COSTS[cost].words + (f" ({unknown} of {len(last)} not known)" if unknown else "")
        on.setdefault(names, []).append(words)
    told = "; ".join(f"by {listed(words)}: {listed(names)}" for names, words in on.items())
    drawn = f" {FIGURE}" if set(ledger_tables.measured(table)) & set(ledger_tables.DRAWN) else ""
    return (
        f"At {last['train_size'].iloc[0]:,} labels, no other strategy is both as accurate and as cheap as these, "
        f"the cheapest first: {told}.{drawn} A front goes by the figures as they are: where the difference of two "
        "accuracies on it is undetermined, the dearer strategy has not earned its place."
    )


def operations(costs: pd.DataFrame, runs: Runs) -> str:
    """What share of the baseline strategy's operations each strategy needs, measured and by the Trainer's estimate."""
    figures = {"training.flops_per_step": "measured", "training.trainer_flops": "estimated"}
    last = costs[costs["train_size"] == costs["train_size"].max()]
    base = last[last["strategy"] == runs.study.baseline]
    rest = last[last["strategy"] != runs.study.baseline].dropna(subset=list(figures))
    if base[list(figures)].isna().all(axis=None) or rest.empty:
        return "The records do not tell how many operations the strategies need."
    shares = {name: rest[column] / base[column].iloc[0] for column, name in figures.items()}
    if len(rest) > MANY:
        ranges = {name: f"from {share.min():.0%} to {share.max():.0%}" for name, share in shares.items()}
        return (
            f"Of the baseline strategy's operations per step, the others need {ranges['measured']} when measured. The "
            f"Trainer's own estimate (`total_flos`) says {ranges['estimated']}. {_ESTIMATE}"
        )
    told = listed(
        f"{title(row)} needs {measured:.0%} when measured, where the Trainer's own estimate (`total_flos`) says "
        f"{estimated:.0%}"
        for row, measured, estimated in zip(rest.to_dict("records"), *shares.values(), strict=True)
    )
    return f"Of the baseline strategy's operations per step, {told}. {_ESTIMATE}"


_ESTIMATE = (
    "The estimate is six operations for every parameter and token: it counts an adapter on top of the encoder and does "
    "not know that a frozen weight needs no gradient of its own, so that it overstates what parameter-efficient "
    "strategies cost."
)


def per_million(table: pd.DataFrame, f1: pd.DataFrame) -> str:
    """Why macro F1 per million trainable parameters misleads, shown by the strategy that it puts first."""
    ratio = ledger_tables.per_million(table, f1)
    last = f1.assign(ratio=ratio)[table["train_size"] == table["train_size"].max()].dropna(subset=["ratio"])
    if len(last) < 2:
        return "The records do not tell the macro F1 per million trainable parameters of two strategies."
    first, best = last.loc[last["ratio"].idxmax()], last.loc[last["macro_f1"].idxmax()]
    gap, times = 100 * (first["macro_f1"] - best["macro_f1"]), first["ratio"] / best["ratio"]
    told = f"At {first['train_size']:,} labels it puts {title(first.to_dict())}"
    if gap == 0:
        return f"{told} first, which no other beats in macro F1 either."
    beside = title(best.to_dict())
    return f"{told} first, with {times:,.3g} times the value of {beside}, at {points(gap)} points of macro F1."
