"""A study is compared by the metric that it asks for, from the verdict to the last sentence."""

import zlib
from typing import Any

import numpy as np
import pytest
from made_runs import MATRIX, make_run, make_runs, make_study, write_arrays
from sklearn.metrics import f1_score

from peft_study import paths
from peft_study.analysis import accuracy, slices, tfidf
from peft_study.analysis.costs import costs
from peft_study.analysis.recommendation import recommend
from peft_study.analysis.slice_rules import SLICES
from peft_study.engine.check import _check_metric
from peft_study.errors import StudyError
from peft_study.records.read import Runs, load_runs
from peft_study.report import figures, sentences, tables
from peft_study.statistics.scores import METRICS

COUNT, RARE = 8000, 240  # test texts, and those of the rare class
FOUND = {"full": (88, 0), "lora": (228, 240)}  # of the rare class, and by mistake


def rare(metric: str) -> Runs:
    """Three seeds of a cautious strategy, `full`, and of one that finds nearly all rare texts, with false alarms."""
    study = make_study(metric=metric, matrix=MATRIX | {"train_size": [250], "seed": [1, 2, 3]})
    labels = (np.arange(COUNT) < RARE).astype(int)
    for run_id, variant in study.variants.items():
        rng, (hits, alarms) = np.random.default_rng(zlib.crc32(run_id.encode())), FOUND[variant.strategy]
        preds = np.zeros(COUNT, dtype=int)
        preds[rng.permutation(RARE)[:hits]] = preds[RARE + rng.permutation(COUNT - RARE)[:alarms]] = 1
        odds = (2 * preds - 1) * rng.uniform(0.1, 3, COUNT)
        folder = make_run(study, run_id, ood=None)
        write_arrays(folder / "preds_and_labels.npz", preds, labels=labels, logits=np.stack([-odds, odds], 1) / 2)
    return load_runs(study.name)


@pytest.mark.parametrize(
    ("metric", "verdict", "choice"),
    [
        ("accuracy", "worse", "Full fine-tuning"),
        ("macro_f1", "better", "LoRA (query, value)"),
        ("balanced_accuracy", "better", "LoRA (query, value)"),
        ("auc", "better", "LoRA (query, value)"),
    ],
)
def test_the_answer_follows_the_metric_where_a_class_is_rare(metric: str, verdict: str, choice: str) -> None:
    runs, noun = rare(metric), METRICS[metric].noun
    summary, against, cost = accuracy.summary(runs), accuracy.against_baseline(runs), costs(runs)
    assert against["verdict"].tolist() == [verdict]
    full, lora = (summary[summary["strategy"] == name].iloc[0] for name in ("full", "lora"))
    assert against["difference"].item() == pytest.approx(100 * (lora[metric] - full[metric]))
    assert full["low"] < full[metric] < full["high"] and (lora["accuracy"] < full["accuracy"])
    truth = (np.arange(COUNT) < RARE).astype(int)
    of_runs = [f1_score(truth, runs.preds[run], average="macro") for run in lora["run_ids"]]
    assert lora["macro_f1"] == pytest.approx(np.mean(of_runs))
    assert cost[metric].tolist() == pytest.approx([full[metric], lora[metric]])

    advice = recommend(runs, summary, against, against.iloc[:0], cost)
    assert advice["choice"].tolist() == [choice] and advice["highest"].item() == max(full[metric], lora[metric])
    assert f"estimated {noun} within 1 point" in sentences.recommendation(advice, runs.study)
    said = sentences.headline(runs, against, cost)
    head = f"{noun[0].upper()}{noun[1:]} of"
    assert said.startswith(f"{head} full fine-tuning: ")
    assert f" labels. {head} LoRA (query, value) against full fine-tuning: " in said
    shown = tables.results(summary, against)
    assert list(shown)[:2] == [f"{noun} (%)", "AUC" if metric == "accuracy" else "accuracy (%)"]
    assert tables.setup(runs).loc["metric", "value"].startswith(f"{noun}: ")
    assert figures.scores(summary, runs.table)[1].get_xlabel() == f"test {noun} (%)"
    gaps = figures.differences(against, runs.study, runs)
    assert gaps is not None and gaps.axes[0].get_xlabel().startswith(f"{noun} of LoRA")
    signs = accuracy.sign_changes(runs, against, summary)
    assert signs.columns[-1] == ("macro_f1" if metric == "auc" else "auc") and len(signs) == (metric == "accuracy")


def test_a_run_that_names_the_majority_class_alone_is_named_in_the_answer() -> None:
    runs = rare("macro_f1")
    first, labels = paths.run_folder("made", runs.table.index[0]), runs.labels
    idle = np.zeros(COUNT, dtype=int)
    write_arrays(first / "preds_and_labels.npz", idle, labels=labels, logits=np.tile([1.0, -1.0], (COUNT, 1)))
    runs = load_runs("made")
    said = sentences.untrained(runs, accuracy.summary(runs))
    assert said.endswith(
        "baseline** (macro F1 49.2%): Full fine-tuning at 250 labels (1 of 3 seeds: 49.2, 76.3 and 76.3%)."
    )


def test_auc_needs_two_classes_and_logits_and_says_so_as_soon_as_they_are_known() -> None:
    with pytest.raises(StudyError, match=r"metric: auc is for two classes, and the dataset has 3 .*; set accuracy, "):
        _check_metric("auc", ["a", "b", "c"])
    _check_metric("auc", ["a", "b"]), _check_metric("macro_f1", ["a", "b", "c"])
    with pytest.raises(StudyError, match="unknown metric 'f1'"):
        make_study(metric="f1")
    runs = make_runs(metric="auc")
    first, *others = runs.table.index
    write_arrays(
        paths.run_folder("made", first) / "preds_and_labels.npz",
        runs.preds[first].to_numpy(),
        logits=np.full((400, 2), np.nan),
    )
    runs = load_runs("made")
    assert list(runs.table.index) == others and "requires test texts of exactly two classes" in runs.missing[first]


def test_tf_idf_is_ranked_by_its_log_odds() -> None:
    runs, labels = make_runs(metric="auc", matrix=MATRIX | {"seed": [1, 2, 3]}), np.arange(400) % 2
    odds = np.random.default_rng(1).normal(2.0 * labels - 1)
    known: dict[str, Any] = {"log_odds": {250: odds}}
    words = tfidf.Baseline(np.arange(400), labels, {size: (odds > 0).astype(int) for size in (250, 1000)}, **known)
    tfidf.write_baseline("made", words)
    again = tfidf.load_baseline("made")
    assert again is not None and again.scores("auc")["train_size"].tolist() == [250]
    assert accuracy.against_tfidf(runs, again)["train_size"].tolist() == [250, 250]
    assert len(again.scores("macro_f1")) == 2


def test_a_slice_of_one_class_has_no_auc() -> None:
    runs = make_runs(metric="auc")
    masks = {"short": np.arange(400) % 2 == 0, "long": np.arange(400) < 200}
    on_slices = slices.scores(slices.Sliced(runs, {name: ("", mask) for name, mask in masks.items()}))
    assert set(on_slices["slice"]) == {"long"} <= set(SLICES) and len(on_slices) == 4
