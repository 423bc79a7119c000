"""How error falls with labels, and how many labels a strategy needs to match another. Never imports torch.

Error is one minus the study's metric. The curve is the inverse power law err(n) = a + b n^-c of the learning-curve
literature (Cortes et al. 1993; Hestness et al. 2017): `a` is the error with unlimited labels, `c` how fast the rest
falls. Three parameters pass through any three falling points and leave no residual to judge the fit by; a fixed
exponent would not help, since published exponents differ several times over and would decide the answer. So a curve
needs four budgets. Viering and Loog (2023) show how often curves are not of this form: one that rises anywhere is
refused, and none is extrapolated beyond twice its largest budget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

from peft_study.analysis.accuracy import counterpart, further, groups, runs_seed_variance
from peft_study.records.read import Runs
from peft_study.statistics.intervals import of_seeds
from peft_study.statistics.paired_tests import compare

FEWEST = 4  # budgets
FURTHEST = 2.0  # times the largest budget
DRAWS = 200  # each is a fit
STEEPEST = 2.0  # exponent; a faster fall is a step rather than a curve
COLUMNS = ("floor", "exponent", "size", "size_low", "size_high", "target", "smallest", "furthest")


@dataclass(frozen=True)
class Curve:
    """err(n) = floor + drop (n / unit)^-exponent; `unit` is the largest budget, where the error is floor + drop."""

    floor: float
    drop: float
    exponent: float
    unit: float

    def size(self, error: float) -> float:
        """The budget at which the error has fallen to `error`; infinite where the curve never gets there."""
        if error <= self.floor or self.drop == 0:
            return float("inf")
        with np.errstate(over="ignore"):
            return float(self.unit * np.float64(self.drop / (error - self.floor)) ** (1 / self.exponent))


def refusal(sizes: Sequence[float], errors: Sequence[float]) -> str:
    """Why no curve can be fitted to the mean errors at ascending `sizes`; empty where one can."""
    if len(sizes) < FEWEST:
        return f"a curve of three parameters needs {FEWEST} budgets, not {len(sizes)}"
    rises = [f"{after:,}" for after, step in zip(sizes[1:], np.diff(errors), strict=True) if step >= 0]
    return f"the error does not fall at {' and at '.join(rises)} labels" if rises else ""


def fit(sizes: np.ndarray, errors: np.ndarray, spread: np.ndarray | None = None) -> Curve:
    """The least-squares curve through `errors` (k,) at ascending `sizes` (k,), weighted by their standard errors.

    `refusal` says of measured errors whether they allow a curve; those of a draw need not fall.
    """
    least = float(np.clip(errors.min(), 1e-6, 1))
    parameters, _ = curve_fit(
        lambda share, floor, drop, exponent: floor + drop * share**-exponent,
        sizes / sizes[-1],
        errors,
        p0=(least / 2, least / 2, 0.5),
        sigma=spread,
        bounds=([0, 0, 0.01], [1, 1, STEEPEST]),
        max_nfev=2000,
    )
    floor, drop, exponent = map(float, parameters)
    return Curve(floor, drop, exponent, float(sizes[-1]))


def gains(runs: Runs) -> pd.DataFrame:
    """What the baseline strategy gains with its largest budget over the next smaller one, on the same test texts.

    A row per further axis with two budgets or more, neither of them unstable. Columns: `strategy`, the further axes,
    `fewer` and `train_size` (the budgets), `difference` in points of the metric with its 95 % interval `low`, `high`.
    """
    table, rows = groups(runs).query("strategy == @runs.study.baseline"), []
    for _, cells in table.sort_values("train_size").groupby(["strategy", *further(table)], sort=False):
        if len(cells) > 1:
            before, after = cells.iloc[-2], cells.iloc[-1]
            more, less = (runs.scored(cell["run_ids"]) for cell in (after, before))
            found = compare(more, less, runs_seed_variance(runs)).interval()
            if np.isnan(found.low):
                continue
            values = {"fewer": before["train_size"], "difference": found.estimate, "low": found.low, "high": found.high}
            rows.append(after.drop("run_ids").to_dict() | values)
    return pd.DataFrame(rows, columns=["strategy", *further(table), "fewer", "train_size", "difference", "low", "high"])


def curves(runs: Runs, summary: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """A row per strategy (and further axis) of `summary` with its curve, or with why it has none.

    Budgets at which a strategy is unstable are left out. What a strategy is to match is the measured score of the
    baseline strategy at its largest budget. Columns: `strategy`, the further axes, `refusal` (empty where there is a
    curve), `floor` and `exponent`, `size` (the budget that matches) with its 95 % interval `size_low`, `size_high`;
    `target` and the metric (the baseline's budget and score; NaN for the baseline itself and where it has no run),
    `smallest` and `furthest` (the curve is read between these budgets). The interval has percentiles of the fits to
    errors drawn over texts, which all strategies and budgets share, and over seeds.
    """
    summary = summary.dropna(subset=runs.study.metric)
    axes = ["strategy", *further(summary)]
    groups = [rows.sort_values("train_size") for _, rows in summary.groupby(axes, sort=False)]
    reasons = [refusal(list(rows["train_size"]), list(1 - rows[runs.study.metric])) for rows in groups]
    drawn = {} if all(reasons) else _drawn_errors(runs, summary, draws)
    return pd.DataFrame(
        [
            rows.iloc[0][axes].to_dict() | {"refusal": reason} | ({} if reason else _row(rows, summary, drawn, runs))
            for rows, reason in zip(groups, reasons, strict=True)
        ],
        columns=[*axes, "refusal", *COLUMNS, runs.study.metric],
    )


def _drawn_errors(runs: Runs, summary: pd.DataFrame, draws: int) -> dict[Any, np.ndarray]:
    """Row of `summary` -> its error, drawn from its normal distribution over texts and its t over seeds; (draws,).

    All rows share the texts, so their errors covary as the values of texts do.
    """
    rng, shared = np.random.default_rng(0), runs_seed_variance(runs)
    groups = [runs.scored(ids).values for ids in summary["run_ids"]]
    wrong = 1 - np.stack([values.mean(axis=0) for values in groups])
    means, n = wrong.mean(axis=1, keepdims=True), wrong.shape[1]
    of_texts = means + (wrong - means) @ rng.standard_normal((n, draws)) / n
    drawn = {}
    for place, values, errors in zip(summary.index, groups, of_texts, strict=True):
        seeds = of_seeds([values], shared)
        luck = np.sqrt(seeds.own) * rng.standard_t(seeds.dof, draws) if seeds.dof else 0.0
        drawn[place] = np.clip(errors + luck, 0, 1)
    return drawn


def _row(rows: pd.DataFrame, summary: pd.DataFrame, drawn: Mapping[Any, np.ndarray], runs: Runs) -> dict[str, float]:
    """The curve of a strategy's `rows` of `summary`, and where it matches the baseline, by the names of the columns."""
    sizes, errors = rows["train_size"].to_numpy(float), np.stack([drawn[place] for place in rows.index], axis=1)
    spread = errors.std(axis=0).clip(1e-6)  # no spread would be an infinite weight
    curve = fit(sizes, 1 - rows[runs.study.metric].to_numpy(), spread)
    values = {"floor": curve.floor, "exponent": curve.exponent}
    values |= {"smallest": sizes[0], "furthest": FURTHEST * sizes[-1]}
    target = _target(rows.iloc[0], summary, runs.study.baseline)
    if target is not None:
        size, reached = curve.size(1 - target[runs.study.metric]), drawn[target.name]
        matching = [fit(sizes, errs, spread).size(error) for errs, error in zip(errors, reached, strict=True)]
        low, high = np.quantile(matching, [0.025, 0.975], method="nearest")  # between infinity and a number is none
        values |= {"target": target["train_size"], runs.study.metric: target[runs.study.metric], "size": size}
        values |= {"size_low": min(size, low), "size_high": max(size, high)}
    return values


def _target(row: "pd.Series[Any]", summary: pd.DataFrame, baseline: str) -> Any:
    """The row of `summary` that `row`'s strategy is to match: the baseline at its largest budget; None for itself."""
    if row["strategy"] == baseline:
        return None
    sizes = sorted(summary["train_size"].unique(), reverse=True)
    matches = (counterpart({**row, "train_size": size}, summary, baseline) for size in sizes)
    return next((match for match in matches if match is not None), None)
