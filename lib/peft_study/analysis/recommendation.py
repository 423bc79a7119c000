"""What to choose at each budget, by a rule that is fixed beforehand, and how sure that choice is.

The choice is the cheapest option whose estimated score lies within the study's margin of the highest. Options are
TF-IDF and the strategies of at least `SEEDS` seeds. TF-IDF is the cheapest; strategies are ordered by training FLOPs
or, where a record lacks them, by trainable parameters.
"""

import math
from typing import Any

import pandas as pd

from peft_study.analysis.accuracy import counterpart, title, varying
from peft_study.analysis.costs import COSTS
from peft_study.records.read import Runs
from peft_study.statistics.paired_tests import AT_CHANCE, SEEDS

TFIDF = "TF-IDF"
_PRICES = ["training.flops", "parameters.trainable"]
_COMPARED = ["difference", "low", "high", "verdict", "settle_seeds", "settle_items"]
_SWAPPED = {"better": "worse", "worse": "better"}


def swapped(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The same comparisons with the two sides in each other's place."""
    signs = {"difference": -comparisons["difference"], "low": -comparisons["high"], "high": -comparisons["low"]}
    return comparisons.assign(**signs, verdict=comparisons["verdict"].replace(_SWAPPED))


def recommend(
    runs: Runs, summary: pd.DataFrame, against_baseline: pd.DataFrame, against_tfidf: pd.DataFrame, costs: pd.DataFrame
) -> pd.DataFrame:
    """A row for each budget with a choice and each comparison that bears on it; the tables are those of the report.

    The choice is compared with the baseline strategy and with TF-IDF or, where it is one of these two, with the best
    strategy in its place. A budget has no choice where what the rule selects is at chance, and an unstable strategy is
    no option. Columns: `train_size`, `choice` and its score in a column of the metric's name, `best` and its, the
    `highest` (shares), `cost` (by which options are ordered), `against` (the other side) and, choice minus the other,
    `difference`, `low`, `high` (points), `verdict`, `settle_seeds`, `settle_items`.
    """
    rows: list[dict[str, Any]] = []
    axes, baseline, margin, metric = varying(runs), runs.study.baseline, runs.study.margin / 100, runs.study.metric
    priced = summary.merge(costs[[*axes, *_PRICES]], on=axes)
    for size, options in priced[(priced["seeds"] >= SEEDS) & priced[metric].notna()].groupby("train_size"):
        price = next((name for name in _PRICES if options[name].notna().all()), _PRICES[-1])
        score = {title(row): row[metric] for row in options.to_dict("records")}
        prices = {title(row): row[price] for row in options.to_dict("records")} | {TFIDF: -1.0}
        pairs = []  # of option, option, and their comparison
        for row in against_baseline[against_baseline["train_size"] == size].to_dict("records"):
            if (side := counterpart(row, options, baseline)) is not None and title(row) in score:
                pairs.append((title(row), title(side.to_dict()), row))
        for row in against_tfidf[against_tfidf["train_size"] == size].to_dict("records"):
            if title(row) in score:
                pairs.append((title(row), TFIDF, row))
                score[TFIDF] = score[title(row)] - row["difference"] / 100
        idle = {title(row) for row in options.to_dict("records") if row["low"] <= runs.chance}
        idle |= {other for _, other, row in pairs if row["verdict"] == AT_CHANCE}
        near = [name for name, value in score.items() if value >= max(score.values()) - margin - 1e-9]
        choice = min(near, key=lambda name: (math.isnan(prices[name]), prices[name], -score[name]))
        if choice in idle:
            continue
        compared = [(other, row) for name, other, row in pairs if name == choice]
        rivals = sorted((pair for pair in pairs if pair[1] == choice), key=lambda pair: -score[pair[0]])
        compared += [(name, swapped(pd.DataFrame([row])).iloc[0]) for name, _, row in rivals[:1]]
        compared.sort(key=lambda pair: pair[0] == TFIDF)
        best = max(score, key=lambda name: score[name])
        chosen = {"train_size": size, "choice": choice, metric: score[choice]}
        chosen |= {"best": best, "highest": score[best], "cost": COSTS[price].words}
        rows += [chosen | {"against": other} | {name: row[name] for name in _COMPARED} for other, row in compared]
    columns = ["train_size", "choice", metric, "best", "highest", "cost", "against", *_COMPARED]
    return pd.DataFrame(rows, columns=columns)


def available(runs: Runs) -> float:
    """How many distinct texts the dataset has to test on, beside the largest budget; NaN where no record says so."""
    table = runs.table[["data.held_out", "data.unique", "train_size"]].dropna()
    table = table[table["data.held_out"].astype(bool)]
    return float((table["data.unique"] - table["train_size"].max()).max())
