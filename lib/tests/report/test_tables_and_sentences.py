"""Tables and sentences of a report: they agree with the numbers, and hold at every edge."""

import re
from typing import Any

import numpy as np
import pytest
from made_runs import EDGES, MATRIX, make_runs, make_words

from peft_study import paths
from peft_study.analysis import accuracy
from peft_study.analysis.costs import costs
from peft_study.analysis.tfidf import Baseline
from peft_study.records.read import Runs, load_runs
from peft_study.report import sentences, tables
from peft_study.strategies.table import STRATEGIES
from peft_study.text import listed, p_text, points

pytestmark = pytest.mark.usefixtures("cheap_garbage")


def report(runs: Runs, words: Baseline | None = None) -> dict[str, Any]:
    """The tables and sentences of 03, by name."""
    summary, against, cost = accuracy.summary(runs), accuracy.against_baseline(runs), costs(runs)
    ood = accuracy.summary(runs, part="ood_") if accuracy.has_ood(runs) else None
    return {
        "headline": sentences.headline(runs, against, summary, cost),
        "subject": sentences.subject(runs),
        "verdicts": sentences.verdicts(against, "the baseline"),
        "words": sentences.verdicts(accuracy.against_tfidf(runs, words), "a bag of words"),
        "untrained": sentences.untrained(runs, summary),
        "limits": sentences.limits(runs),
        "setup": tables.setup(runs),
        "strategies": tables.strategies(runs),
        "grid": tables.grid(runs, links=True),
        "missing": tables.missing(runs),
        "unrecorded": tables.unrecorded(runs),
        "scores": tables.scores(runs, summary, ood),
        "differences": tables.differences(against),
        "costs": tables.costs(cost),
        "environments": tables.environments(runs),
    }


def text(part: Any) -> str:
    """What a reader sees of a sentence or a table."""
    return part if isinstance(part, str) else part.to_csv(sep="\t")


@pytest.mark.parametrize("edge", EDGES)
def test_no_part_of_a_report_has_a_hole_and_every_number_of_the_headline_is_in_the_tables(edge: str) -> None:
    runs = EDGES[edge]()
    parts = report(runs, make_words())
    for name, part in parts.items():
        assert not re.search(r"\b(nan|None|inf|NaT|<NA>)\b|\\bnan%", text(part)), f"{name}: {text(part)}"
        assert "−0.0 " not in text(part) and "+0.0" not in text(part), name
    summary, against, headline = accuracy.summary(runs), accuracy.against_baseline(runs), parts["headline"]
    if against.empty:
        assert headline.startswith("There is no answer yet") and f"`{runs.study.baseline}`" in headline
        return
    pairs, axes = against.groupby(["strategy", *accuracy.further(against)], sort=False), accuracy.varying(runs)
    if pairs.ngroups > accuracy.FEW:
        for row in against.to_dict("records"):
            assert f"{accuracy.title(row)} ({points(row['difference'])})" in headline
        return
    assert headline.count(" of the training time.") == pairs.ngroups
    assert ("*Undetermined*" in headline) == ("undetermined" in set(against["verdict"]))
    assert ("With one seed" in headline) == (against["pairs"].max() == 1)
    for _, rows in pairs:
        row = rows.sort_values("train_size").iloc[-1].to_dict()
        assert f"{accuracy.title(row)} against" in headline
        ours = summary.set_index(axes).loc[tuple(row[axis] for axis in axes), "accuracy"]
        assert f"With {row['train_size']:,} labels, {100 * ours:.1f}% against" in headline
        for size, gap, word in zip(rows["train_size"], rows["difference"], rows["verdict"], strict=True):
            assert re.search(rf"{re.escape(points(gap))} \[[^]]*\] points at {size:,} labels \(\*\*{word}", headline)


@pytest.mark.parametrize(
    ("edge", "seeds"), [("one seed", "1 seed"), ("several seeds", "3 seeds"), ("some seeds missing", "1 to 2 seeds")]
)
def test_the_number_of_seeds_is_stated_and_one_limits_the_verdict(edge: str, seeds: str) -> None:
    parts = report(EDGES[edge]())
    assert f"and {seeds} each" in parts["subject"]
    assert ("Seed variance" in parts["limits"]) == ("1" in seeds)


def test_verdicts_are_counted_and_runs_that_learned_nothing_are_named() -> None:
    assert report(EDGES["ties"]())["verdicts"] == "Of 2 comparisons with the baseline: 2 equivalent."
    runs = make_runs({"lora-n00250": 0.5})
    said = sentences.untrained(runs, accuracy.summary(runs))
    assert said.endswith("majority-class baseline** (50.0% of the test reviews): LoRA (query, value) at 250.")
    assert sentences.untrained(make_runs(), accuracy.summary(make_runs())) == ""
    apart = make_runs({"lora": 0.85, "lora-n00250-s1": 0.5}, matrix=MATRIX | {"seed": [1, 2, 3]})
    assert "LoRA (query, value) at 250 (1 of 3 seeds)." in sentences.untrained(apart, accuracy.summary(apart))
    many = make_runs({"": 0.5}, matrix=MATRIX | {"strategy": list(STRATEGIES)[:6]})
    assert f"{len(many.table)} of {len(many.table)} variants" in sentences.untrained(many, accuracy.summary(many))


def test_costs_that_no_record_holds_are_left_out_of_the_headline_and_dashes_in_the_tables() -> None:
    runs = make_runs()
    bare = runs.table.drop(columns=["training.seconds", "environment.packages"]).assign(
        **{"cost.model_bytes": np.inf, "parameters.trainable": [1000, "many", 10, 10], "training.steps": None}
    )
    parts = report(Runs(runs.study, bare, {}))
    assert " accuracy." in parts["headline"] and "training" not in parts["headline"]
    shown = ["adapter", "head", "trainable", "peak memory (GiB)", "one review (ms)", "merged (ms)", "share"]
    assert list(parts["costs"]) == shown
    assert parts["costs"]["trainable"].tolist().count("–") == 1
    assert parts["environments"].loc["packages"].tolist() == parts["environments"].loc["commit"].tolist() == ["–"]


def test_numbers_and_items_are_written_as_in_a_sentence() -> None:
    assert [points(1.04), points(-0.04), points(-0.06)] == ["+1.0", "0.0", "−0.1"]
    assert [p_text(1e-40), p_text(0.0012), p_text(1.0)] == ["p < 0.001", "p = 0.001", "p = 1.000"]
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["none", "a", "a, b and c"]


def test_a_missing_run_is_named_and_the_grid_links_to_the_others() -> None:
    parts = report(EDGES["a missing run"]())
    assert parts["missing"]["reason"].to_dict() == {"lora-n01000-s1": "not finished"}
    assert parts["grid"].splitlines()[2:] == [
        "| Full fine-tuning | 1 of 1: [`s1`](runs/full-n00250-s1.html) | 1 of 1: [`s1`](runs/full-n01000-s1.html) |",
        "| LoRA (query, value) | 1 of 1: [`s1`](runs/lora-n00250-s1.html) | 0 of 1 |",
    ]
    (paths.run_folder("made", "full-n00250-s1") / "train.ipynb").unlink()
    assert "full-n00250-s1.html" not in tables.grid(load_runs("made"), links=True), "of another program"


def test_a_further_axis_keeps_its_values_apart() -> None:
    parts = report(EDGES["a further axis"]())
    assert "LoRA (query, value), epochs 4 against full fine-tuning: " in parts["headline"]
    assert "80.0% against 85.0%" in parts["headline"] and "95.0% against 90.0%" in parts["headline"]
    assert parts["costs"]["epochs"].tolist() == parts["scores"]["epochs"].tolist() == [4, 16] * 4


def test_differences_are_printed_with_their_interval_test_and_power() -> None:
    shown = report(EDGES["several seeds"]())["differences"]
    assert set(shown["pairs ahead"]) == {"2.5 of 9"} and re.match(r"−\d\.\d \[−", shown["difference"].iloc[0])
    single = report(EDGES["ties"]())["differences"]
    assert "pairs ahead" not in single and "detectable" not in single, "a column of dashes alone"
    assert single["difference"].tolist() == ["0.0 [−0.9, +0.9]"] * 2


def test_the_set_up_lists_what_varies_and_leaves_out_what_no_record_states() -> None:
    rates = {"strategy": ["lora"], "learning_rate": [1e-4, 1e-3], "lora_r": [4, 8]}
    runs = make_runs(baseline="lora", matrix=rates, defaults={"model": "some/encoder", "ood_dataset": None})
    shown = tables.setup(runs)["value"]
    assert shown["LoRA rank"] == "4; 8" and shown["encoder"] == "some/encoder"
    assert "out-of-domain test set" not in shown and "weights (hash)" not in shown
    assert "pretrained classification head kept" not in shown
    kept = tables.setup(make_runs(defaults={"model": "some/classifier", "ood_dataset": None, "keep_head": True}))
    assert kept["value"]["pretrained classification head kept"] == "True"
    assert "0.0001 to 0.001 |" in tables.strategies(runs)
    assert "| LoRA (query, value) [@hu2022] | a low-rank update" in tables.strategies(make_runs())
