"""Calibration of runs: a row per variant with logits, temperatures where there are any, at every edge."""

from collections.abc import Callable

import numpy as np
import pytest
from made_runs import MATRIX, make_runs, write_arrays
from scipy.special import expit

from peft_study import paths
from peft_study.analysis import calibration
from peft_study.records.read import Runs, load_runs
from peft_study.report import figures
from peft_study.strategies.table import STRATEGIES

LORA = "lora-n00250-s1"


def without_logits(*run_ids: str) -> Runs:
    """Made runs of which these, or all, have no logits."""
    runs = make_runs(validation=0.8)
    for run_id in run_ids or runs.table.index:
        file = paths.run_folder("made", str(run_id)) / "preds_and_labels.npz"
        write_arrays(file, runs.preds[run_id].to_numpy(), logits=np.full((400, 2), np.nan))
    return load_runs("made")


def damaged() -> Runs:
    runs = make_runs(validation=0.8)
    (paths.run_folder("made", LORA) / "validation_preds_and_labels.npz").write_bytes(b"PK")
    return runs


EDGES: dict[str, Callable[[], Runs]] = {
    "no validation": lambda: make_runs(),
    "all right": lambda: make_runs({"": 1.0}, validation=1.0),
    "coins": lambda: make_runs({"": 0.5}, validation=0.3),
    "many strategies": lambda: make_runs(
        validation=0.8, matrix=MATRIX | {"strategy": list(STRATEGIES)[:27], "train_size": [250]}
    ),
    "one review": lambda: make_runs({"": 1.0}, count=1, validation=0.8),
    "no logits of a run": lambda: without_logits(LORA),
    "no logits at all": lambda: without_logits(),
    "a damaged file": damaged,
}


@pytest.mark.parametrize("name", EDGES)
def test_tables_and_figures_hold_at_every_edge(name: str) -> None:
    runs = EDGES[name]()
    measured = calibration.measured(runs)
    if name == "no logits at all":
        assert measured.empty
        return
    with_logits = {run_id for ids in measured["run_ids"] for run_id in ids}
    scaled = [LORA in row["run_ids"] and row["ece_after"] >= 0 for row in measured.to_dict("records")]
    assert any(scaled) == (name in ("many strategies", "one review"))
    assert set(runs.table.index) - with_logits == ({LORA} if name == "no logits of a run" else set())
    assert (measured["ece_low"] <= measured["ece"]).all() and (measured["ece"] <= measured["ece_high"]).all()
    figure = figures.calibration(calibration.diagram(runs, measured), measured, "full")
    figure.draw_without_rendering()
    assert 1 <= len(figure.axes[0].get_legend_handles_labels()[0]) <= 6


def test_the_temperature_mends_overconfidence_on_reviews_that_it_was_not_fitted_on() -> None:
    runs = make_runs(count=2000)
    for part, seed in (("", 1), ("validation_", 2)):
        rng = np.random.default_rng(seed)
        odds = rng.normal(0, 2.5, 2000)
        true = np.where((rng.random(2000) < expit(odds)) == np.arange(2000) % 2, odds, -odds)  # for labels 0, 1, 0, ...
        logits = np.stack([np.zeros(2000), 2 * true], axis=-1)
        write_arrays(paths.run_folder("made", LORA) / f"{part}preds_and_labels.npz", logits.argmax(-1), logits=logits)
    runs = load_runs("made")
    row = calibration.measured(runs).set_index(["strategy", "train_size"]).loc[("lora", 250)]
    assert row["temperature"] == pytest.approx(2, rel=0.15) and row["ece_after"] < row["ece"]
