"""From finished runs to tables: accuracy, differences between strategies with their verdicts, disagreements.

Runs that differ by their seed only are one row of a table.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from peft_study.analysis.tfidf import Baseline
from peft_study.data.reviews import load_corpus
from peft_study.errors import StudyError
from peft_study.records.read import Runs
from peft_study.statistics.calibration import chance_of
from peft_study.statistics.intervals import Statistic, accuracy, interval, macro_f1
from peft_study.statistics.paired_tests import Comparison, compare, detectable, holm, verdict
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant

IDLE = "–"  # the value of an axis that a run's strategy ignores
FEW = 5  # strategies that one figure or sentence can tell apart
METRICS: dict[str, Statistic] = {"accuracy": accuracy, "macro_f1": macro_f1}
ALPHA = 0.05
MEASURES = (  # the columns of a family of comparisons, after those that say what is compared
    "difference",
    "low",
    "high",
    "p_value",
    "corrected_p",
    "only_strategy",
    "only_baseline",
    "verdict",
    "detectable",
    "improvement",
    "pairs",
)


# --- Rows of a table: strategy, size and any further axis of the study ------------------------------------------------


def varying(runs: Runs) -> list[str]:
    """What tells the groups of runs apart: the axes of the matrix, without the seed; strategy and size come first."""
    return ["strategy", "train_size", *further(runs.study.axes)]


def further(columns: Iterable[Any]) -> list[str]:
    """The columns of a table (or the axes of a matrix) that are axes beyond strategy, size and seed."""
    return [str(c) for c in columns if c in Variant.model_fields and c not in ("strategy", "train_size", "seed")]


def title(row: Mapping[Any, Any]) -> str:
    """The label of a row's strategy, with its value on every further axis: `LoRA (query, value), lora_r 4`."""
    values = ((axis, row[axis]) for axis in further(row) if row[axis] != IDLE)
    return ", ".join(
        [STRATEGIES[row["strategy"]].label]
        + [f"{axis} {value:g}" if isinstance(value, float) else f"{axis} {value}" for axis, value in values]
    )


def keys(runs: Runs) -> pd.DataFrame:
    """`varying` of every run, as values that can be grouped and printed.

    Lists and mappings are text, None is "default", and `IDLE` stands where the run's strategy ignores the axis.
    """
    keys = runs.table[varying(runs)].astype(object).map(_key).astype(object)  # a map of numbers is numeric again
    for axis in further(keys):
        keys.loc[[not STRATEGIES[name].heeds(axis) for name in keys["strategy"]], axis] = IDLE
    return keys


def _key(value: Any) -> Any:
    if isinstance(value, list):
        return "+".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {setting}" for name, setting in value.items()) or "default"
    return "default" if pd.isna(value) else value


def grouped(runs: Runs) -> Any:
    """The table of runs, grouped by `varying`."""
    return runs.table.groupby([column for _, column in keys(runs).items()], sort=False)


def groups(runs: Runs) -> pd.DataFrame:
    """A row per strategy, size (and further axis): the columns of `varying` and `run_ids`."""
    rows = [(*key, list(group.index)) for key, group in grouped(runs)]
    return pd.DataFrame(rows, columns=[*varying(runs), "run_ids"])


def counterpart(row: Mapping[Any, Any], table: pd.DataFrame, strategy: str) -> Any:
    """The row (a Series) of `table` for `strategy` at the size and on the further axes of `row`; None if there is none.

    An axis that `strategy` ignores is the same whatever the other's value.
    """
    others = table[(table["strategy"] == strategy) & (table["train_size"] == row["train_size"])]
    for axis in further(table):
        others = others[others[axis].isin([row[axis], IDLE])]
    return None if others.empty else others.iloc[0]


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest budget."""
    return table[table["train_size"] == table["train_size"].max()]


def few(table: pd.DataFrame, by: str, baseline: str, count: int = FEW) -> pd.DataFrame:
    """All rows, or, of more than `count`, those of the strategy `baseline` and the lowest and highest in `by`."""
    if len(table) <= count:
        return table
    others = table[table["strategy"] != baseline].sort_values(by, kind="stable")
    half = (count - 1) // 2
    chosen = pd.concat([table[table["strategy"] == baseline].head(1), others.head(half), others.tail(half)])
    return chosen.loc[~chosen.index.duplicated()]


# --- Accuracy and differences -----------------------------------------------------------------------------------------


def summary(runs: Runs, metric: str = "accuracy", part: str = "") -> pd.DataFrame:
    """A row per strategy, size (and further axis): the metric averaged over seeds, its interval, how many seeds.

    Columns: those of `varying`, `accuracy` (or the `metric`), `low`, `high`, `seeds`, `run_ids`. `part="ood_"` takes
    the out-of-domain test set.
    """
    table = groups(runs)
    scores = []
    for run_ids in table["run_ids"]:
        arrays = [runs.arrays(run_id, part) for run_id in run_ids]
        scores.append(interval(np.stack([a["preds"] for a in arrays]), arrays[0]["labels"], METRICS[metric]))
    columns = {metric: "estimate", "low": "low", "high": "high"}
    measured = {name: [getattr(score, field) for score in scores] for name, field in columns.items()}
    return table.assign(**measured, seeds=table["run_ids"].map(len), run_ids=table.pop("run_ids"))


def has_ood(runs: Runs) -> bool:
    """Whether every run was also tested on out-of-domain reviews."""
    return "ood.accuracy" in runs.table and bool(runs.table["ood.accuracy"].notna().all())


def against_baseline(runs: Runs) -> pd.DataFrame:
    """Every strategy against the study's baseline strategy at the same size, on the same test reviews.

    Columns: those of `varying`, `difference`, `low`, `high` (accuracy points), `p_value`, `corrected_p` (Holm, over
    all rows), `only_strategy`, `only_baseline` (reviews that one got right more often), `verdict`, `detectable` (the
    smallest difference in points that a row's design would find at 80 % power, were it the first that Holm's
    correction judges), `improvement` (its probability; NaN for one seed) and `pairs` (of runs). Empty without a
    baseline.
    """
    table = groups(runs)
    rows, comparisons = [], []
    for row in table[table["strategy"] != runs.study.baseline].to_dict("records"):
        if (other := counterpart(row, table, runs.study.baseline)) is not None:
            rows.append({axis: row[axis] for axis in varying(runs)})
            ours, theirs = (runs.preds[ids].to_numpy().T for ids in (row["run_ids"], other["run_ids"]))
            comparisons.append(compare(ours, theirs, runs.labels))
    return family(rows, comparisons, runs.study.margin)


def against_words(runs: Runs, baseline: Baseline | None) -> pd.DataFrame:
    """Every strategy against the bag-of-words baseline at the same size; columns as in `against_baseline`."""
    rows, comparisons = [], []
    comparable = (
        baseline and np.array_equal(baseline.ids, runs.preds.index) and np.array_equal(baseline.labels, runs.labels)
    )
    for row in groups(runs).to_dict("records"):
        if baseline and comparable and row["train_size"] in baseline.preds:
            rows.append({axis: row[axis] for axis in varying(runs)})
            preds = runs.preds[row["run_ids"]].to_numpy().T
            comparisons.append(compare(preds, baseline.preds[row["train_size"]], runs.labels))
    return family(rows, comparisons, runs.study.margin)


def family(rows: Sequence[Mapping[str, Any]], comparisons: Sequence[Comparison], margin: float) -> pd.DataFrame:
    """One table of a family of comparisons, corrected for their number.

    `rows` says what each of `comparisons` compares; the further columns are those of `against_baseline`.
    """
    corrected = holm([c.p_value for c in comparisons])
    table = []
    for row, c, p in zip(rows, comparisons, corrected, strict=True):
        decided = verdict(c, p, margin, ALPHA), detectable(c, ALPHA / len(comparisons)), c.improvement, c.pairs
        values = (c.difference.estimate, c.difference.low, c.difference.high, c.p_value, p, *c.discordant, *decided)
        table.append({**row, **dict(zip(MEASURES, values, strict=True))})
    return pd.DataFrame(table, columns=None if table else ["strategy", "train_size", *MEASURES])


# --- Pairs of runs ----------------------------------------------------------------------------------------------------


def largest_pair(runs: Runs) -> tuple[str, str] | None:
    """The run ids of the baseline strategy and of another one at the largest budget that both have, if any.

    All else, the seed and any further axis, is the same.
    """
    table = pd.concat([keys(runs), runs.table["seed"]], axis=1)
    table = table.sort_values(["train_size", "seed"], ascending=[False, True], kind="stable")
    for run_id, row in table[table["strategy"] != runs.study.baseline].iterrows():
        same = counterpart(row, table[table["seed"] == row["seed"]], runs.study.baseline)
        if same is not None:
            return str(same.name), str(run_id)
    return None


def disagreements(runs: Runs, right: str, wrong: str) -> pd.DataFrame:
    """The test reviews that run `right` got right and run `wrong` got wrong, the latter's most confident first.

    Columns: `id`, `label`, `right` and `wrong` (each run's probability of the true class). Equally confident mistakes
    are in the order of their ids.
    """
    chances = {}
    for name, run_id in {"right": right, "wrong": wrong}.items():
        arrays = runs.arrays(run_id)
        chances[name] = chance_of(arrays["logits"], arrays["labels"])
    table = pd.DataFrame({"id": arrays["ids"], "label": arrays["labels"], **chances})
    table = table[(runs.preds[right].to_numpy() == table["label"]) & (runs.preds[wrong].to_numpy() != table["label"])]
    return table.sort_values(["wrong", "id"])


def test_texts(variant: Variant) -> dict[int, str]:
    """The text of every test review by its id; empty where the reviews are not at hand, as with another's records."""
    try:
        test = load_corpus(variant).test
    except StudyError:
        return {}
    return dict(zip(test["id"].tolist(), test["text"], strict=True))


def sensitivity(runs: Runs) -> pd.DataFrame:
    """The verdicts against the baseline strategy that differ where the other checkpoint rule selects what is tested.

    Columns: those of `varying`, `verdict`, `other_verdict`. Empty where none differs, or no record has predictions of
    another checkpoint.
    """
    table, other = against_baseline(runs).reindex(columns=[*varying(runs), "verdict"]), runs.under_other_rule()
    table["other_verdict"] = table["verdict"] if other is None else against_baseline(other)["verdict"]
    return table[table["verdict"] != table["other_verdict"]]
