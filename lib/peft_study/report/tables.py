"""The tables of the comparison as they are printed: numbers made readable, with their intervals."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from peft_study.analysis.accuracy import MEASURES, summary, varying
from peft_study.records.read import Runs
from peft_study.strategies.table import STRATEGIES
from peft_study.text import UNKNOWN, numbers, p_text, points


def named(table: pd.DataFrame) -> pd.DataFrame:
    """`table` indexed by the strategy's name and the size, as text."""
    names = [STRATEGIES[name].label for name in table["strategy"]]
    index = pd.MultiIndex.from_arrays(
        [names, [f"{size:,}" for size in table["train_size"]]], names=["strategy", "labels"]
    )
    return table.drop(columns=["strategy", "train_size"]).set_index(index)


def _percent(table: pd.DataFrame, column: str) -> "pd.Series[str]":
    """A share and its interval in percent."""
    return pd.Series(
        [
            f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            for value, low, high in zip(table[column], table["low"], table["high"], strict=True)
        ],
        table.index,
    )


def scores(runs: Runs) -> pd.DataFrame:
    """Accuracy and macro F1 on the test set, and accuracy on the out-of-distribution set, with 95 % intervals.

    Where there are several seeds, the test accuracy of each as well.
    """
    table = summary(runs)
    shown = table[varying(runs)].assign(
        **{
            "accuracy (%)": _percent(table, "accuracy"),
            "macro F1 (%)": _percent(summary(runs, "macro_f1"), "macro_f1"),
        }
    )
    if has_ood(runs):
        shown["other reviews (%)"] = _percent(summary(runs, part="ood_"), "accuracy")
    if table["seeds"].max() == 1:
        return named(shown)
    share = (runs.preds.to_numpy() == runs.labels[:, None]).mean(axis=0)
    each = pd.Series(share, runs.preds.columns).map(lambda value: f"{100 * value:.1f}")
    return named(shown.assign(**{"each seed (%)": [", ".join(each[ids]) for ids in table["run_ids"]]}))


def has_ood(runs: Runs) -> bool:
    """Whether every run was also tested on out-of-distribution reviews."""
    return "ood.accuracy" in runs.table and bool(runs.table["ood.accuracy"].notna().all())


def differences(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Differences from the baseline strategy in accuracy points, with interval, test, power and verdict."""
    rows = comparisons.to_dict("records")
    return named(
        comparisons.drop(columns=list(MEASURES)).assign(
            **{
                "difference": [
                    f"{points(row['difference'])} [{points(row['low'])}, {points(row['high'])}]" for row in rows
                ],
                "right alone": [f"{row['only_strategy']} : {row['only_baseline']}" for row in rows],
                "test (corrected)": [p_text(row["corrected_p"]) for row in rows],
                "detectable": numbers(comparisons["detectable"], "{:.1f}"),
                "pairs ahead": [_improvement(row) for row in rows],
                "verdict": [row["verdict"] for row in rows],
            }
        )
    )


def _improvement(row: Mapping[Any, Any]) -> str:
    """In how many pairs of runs the strategy's is ahead, a tie counting half, and of how many."""
    return UNKNOWN if pd.isna(row["improvement"]) else f"{row['improvement'] * row['pairs']:g} of {row['pairs']}"


def environments(runs: Runs) -> pd.DataFrame:
    """Where the runs were made, one column per distinct environment."""
    keys = ("device", "precision", "system", "python", "commit", "model", "packages")
    table = runs.table.reindex(columns=[f"environment.{key}" for key in keys]).set_axis(keys, axis=1)
    table = table.apply(lambda column: column.map(_environment)).drop_duplicates()
    return table.T.set_axis(["all runs"] if len(table) == 1 else range(1, len(table) + 1), axis=1)


def _environment(value: Any) -> str:
    """An entry of the environment as text: versions in a list, and a dash for what is not known."""
    if isinstance(value, dict):
        return ", ".join(f"{package} {version}" for package, version in value.items())
    return UNKNOWN if value is None or value != value else str(value)
