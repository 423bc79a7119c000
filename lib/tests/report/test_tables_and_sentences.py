"""Tables and sentences of a report: they agree with the numbers, and hold at every edge."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import EDGES, MATRIX, make_run, make_runs, make_words

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
        "words": sentences.verdicts(accuracy.against_words(runs, words), "a bag of words"),
        "untrained": sentences.untrained(runs, summary),
        "limits": sentences.limits(runs),
        "setup": tables.setup(runs),
        "strategies": tables.strategies(runs),
        "grid": tables.grid(runs, links=True),
        "missing": tables.missing(runs),
        "unrecorded": tables.unrecorded(runs),
        "scores": tables.scores(runs, summary, accuracy.summary(runs, "macro_f1"), ood),
        "differences": tables.differences(against),
        "costs": tables.costs(cost),
        "environments": tables.environments(runs),
    }


def text(part: Any) -> str:
    """What a reader sees of a sentence or a table."""
    return part if isinstance(part, str) else part.to_csv(sep="\t")


@pytest.mark.parametrize("edge", EDGES)
def test_no_sentence_or_table_has_a_hole_in_it(edge: str) -> None:
    for name, part in report(EDGES[edge](), make_words()).items():
        assert not re.search(r"\b(nan|None|inf|NaT|<NA>)\b|\\bnan%", text(part)), f"{name}: {text(part)}"
        assert "−0.0 " not in text(part) and "+0.0" not in text(part), name


@pytest.mark.parametrize("edge", EDGES)
def test_every_number_of_the_headline_is_in_the_tables(edge: str) -> None:
    runs = EDGES[edge]()
    summary, against = accuracy.summary(runs), accuracy.against_baseline(runs)
    headline = sentences.headline(runs, against, summary, costs(runs))
    if against.empty:
        assert headline.startswith("There is no answer yet") and f"`{runs.study.baseline}`" in headline
        return
    pairs = against.groupby(["strategy", *accuracy.further(against)], sort=False)
    if pairs.ngroups > accuracy.FEW:
        for row in against.to_dict("records"):
            assert f"{accuracy.title(row)} ({points(row['difference'])})" in headline
        return
    assert headline.count(" of the training time.") == pairs.ngroups
    assert ("*Undetermined*" in headline) == ("undetermined" in set(against["verdict"]))
    assert ("With one seed" in headline) == (against["pairs"].max() == 1)
    for _, rows in pairs:
        row = rows.sort_values("train_size").iloc[-1].to_dict()
        same = [axis for axis in accuracy.varying(runs) if axis != "strategy"]
        ours = summary[(summary[["strategy", *same]] == pd.Series(row)[["strategy", *same]]).all(axis=1)].iloc[0]
        assert f"{accuracy.title(row)} against" in headline
        assert f"With {row['train_size']:,} labels, {100 * ours['accuracy']:.1f}% against" in headline
        for size, gap, word in zip(rows["train_size"], rows["difference"], rows["verdict"], strict=True):
            assert re.search(rf"{re.escape(points(gap))} \[[^]]*\] points at {size:,} labels \(\*\*{word}", headline)


# --- Sentences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edge", "seeds"), [("one seed", "1 seed"), ("several seeds", "3 seeds"), ("some seeds missing", "1 to 2 seeds")]
)
def test_the_number_of_seeds_is_stated_and_one_limits_the_verdict(edge: str, seeds: str) -> None:
    parts = report(EDGES[edge]())
    assert f"and {seeds} each" in parts["subject"]
    assert ("Seed variance" in parts["limits"]) == ("1" in seeds)


def test_each_strategy_is_judged_at_the_largest_size_that_it_has() -> None:
    runs = make_runs(matrix=MATRIX | {"strategy": ["full", "lora", "head"]}, without="lora-n01000")
    lora, head = report(runs)["headline"].split("Head only")[:2]
    assert "With 250 labels" in lora and "With 1,000 labels" in head


def test_verdicts_are_counted() -> None:
    assert report(EDGES["ties"]())["verdicts"] == "Of 2 comparisons with the baseline: 2 equivalent."
    assert report(EDGES["a single size"]())["verdicts"].startswith("Of 1 comparison with")
    assert report(EDGES["a single strategy"]())["verdicts"] == ""
    assert report(make_runs({"lora-n01000": 0.7}), make_words())["words"].endswith("3 better and 1 undetermined.")


def test_runs_that_learned_nothing_are_named() -> None:
    runs = make_runs({"lora-n00250": 0.5})
    said = sentences.untrained(runs, accuracy.summary(runs))
    assert said.endswith("majority-class baseline** (50.0% of the test reviews): LoRA (query, value) at 250.")
    assert sentences.untrained(make_runs(), accuracy.summary(make_runs())) == ""
    apart = make_runs({"lora": 0.85, "lora-n00250-s1": 0.5}, matrix=MATRIX | {"seed": [1, 2, 3]})
    assert "LoRA (query, value) at 250 (1 of 3 seeds)." in sentences.untrained(apart, accuracy.summary(apart))
    many = make_runs({"": 0.5}, matrix=MATRIX | {"strategy": list(STRATEGIES)})
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


@pytest.mark.parametrize(
    ("value", "shown"), [(1.04, "+1.0"), (-1.04, "−1.0"), (0.0, "0.0"), (-0.04, "0.0"), (0.04, "0.0"), (-0.06, "−0.1")]
)
def test_points_are_signed_where_they_are_not_nothing(value: float, shown: str) -> None:
    assert points(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1e-40, "p < 0.001"), (0.00099, "p < 0.001"), (0.0012, "p = 0.001"), (1.0, "p = 1.000")]
)
def test_a_p_value_is_never_zero(value: float, shown: str) -> None:
    assert p_text(value) == shown


@pytest.mark.parametrize(
    ("items", "shown"), [([], "none"), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_items_are_listed_as_in_a_sentence(items: list[str], shown: str) -> None:
    assert listed(items) == shown


# --- Tables -----------------------------------------------------------------------------------------------------------


def test_a_missing_run_is_named_and_the_grid_links_to_the_others() -> None:
    parts = report(EDGES["a missing run"]())
    assert parts["missing"]["reason"].to_dict() == {"lora-n01000-s1": "not finished"}
    assert parts["grid"].splitlines()[2:] == [
        "| Full fine-tuning | 1 of 1: [`s1`](runs/full-n00250-s1.html) | 1 of 1: [`s1`](runs/full-n01000-s1.html) |",
        "| LoRA (query, value) | 1 of 1: [`s1`](runs/lora-n00250-s1.html) | 0 of 1 |",
    ]


def test_the_run_of_another_program_has_neither_page_nor_link() -> None:
    run_id = make_runs().table.index[0]
    (paths.run_folder("made", run_id) / "train.ipynb").unlink()
    grid = tables.grid(load_runs("made"), links=True)
    assert grid.count("](runs/") == 3 and f"runs/{run_id}.html" not in grid and grid.count("1 of 1: ") == 4
    assert "](" not in tables.grid(load_runs("made"), links=False)


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
    content = {"model": "some/encoder", "dataset": "some/reviews", "ood_dataset": None}
    runs = make_runs(baseline="lora", matrix=rates, defaults=content)
    shown = tables.setup(runs)["value"]
    assert shown["LoRA rank"] == "4; 8" and shown["encoder"] == "some/encoder" and shown["dataset"] == "some/reviews"
    assert "out-of-domain test set" not in shown and "weights (hash)" not in shown
    assert "0.0001 to 0.001 |" in tables.strategies(runs)
    full = make_runs(matrix={"strategy": ["full", "bitfit"], "train_size": [250]})
    assert "LoRA rank" not in tables.setup(full).index
    assert "| LoRA (query, value) [@hu2022] | a low-rank update" in tables.strategies(make_runs())


def test_environments_that_differ_in_anything_have_a_column_each() -> None:
    runs = make_runs()
    packages = [{"torch": "2.13.0"}] * 3 + [{"torch": "2.14.0"}]
    table = tables.environments(Runs(runs.study, runs.table.assign(**{"environment.packages": packages}), {}))
    assert table.loc["packages"].tolist() == ["torch 2.13.0", "torch 2.14.0"] and list(table.columns) == [1, 2]


def test_one_seed_a_variant_is_one_seed_even_where_they_differ() -> None:
    runs = make_runs(matrix=MATRIX | {"train_size": [250], "seed": [1, 2]}, without="n00250")
    for run_id in ("full-n00250-s1", "lora-n00250-s2"):
        make_run(runs.study, run_id)
    assert "1 seed each" in sentences.subject(load_runs("made"))
