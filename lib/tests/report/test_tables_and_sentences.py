"""Tables and sentences of a report: they agree with the numbers, and hold at every edge."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import EDGES, MATRIX, make_runs, make_study, make_words

from peft_study.analysis import accuracy
from peft_study.analysis.costs import costs
from peft_study.analysis.recommendation import available, recommend
from peft_study.analysis.tfidf import Baseline
from peft_study.records.read import Runs
from peft_study.report import sentences, tables
from peft_study.strategies.table import STRATEGIES
from peft_study.text import listed, p_text, points

SEEDS = MATRIX | {"train_size": [250], "seed": [1, 2, 3]}


def report(runs: Runs, tfidf: Baseline | None = None) -> dict[str, Any]:
    """The tables and sentences of 03, by name."""
    summary, against, cost = accuracy.summary(runs), accuracy.against_baseline(runs), costs(runs)
    ood = accuracy.summary(runs, part="ood_") if accuracy.has_ood(runs) else None
    words = accuracy.against_tfidf(runs, tfidf)
    advice = recommend(runs, summary, against, words, cost)
    of_baseline = words[words["strategy"] == runs.study.baseline]
    return {
        "headline": sentences.headline(runs, against, cost),
        "against TF-IDF": sentences.compared(words, "TF-IDF"),
        "recommendation": sentences.recommendation(advice, runs.study),
        "certainty": sentences.certainty(advice),
        "choices": tables.recommendation(advice, available(runs)),
        "untrained": sentences.untrained(runs, summary),
        "setup": tables.setup(runs),
        "results": tables.results(summary, against, ood, tfidf and tfidf.scores("accuracy"), of_baseline),
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
    against, headline = accuracy.against_baseline(runs), parts["headline"]
    if against.empty:
        assert headline.startswith("No finished run of the baseline") and f"`{runs.study.baseline}`" in headline
        return
    assert ("*Undetermined*" in headline) == ("undetermined" in set(against["verdict"]))
    assert ("fewer than 3 seeds" in headline) == ("no verdict" in set(against["verdict"]))
    strategies = against.groupby(["strategy", *accuracy.further(against)]).ngroups
    for row in against.to_dict("records"):
        at = f"{sentences.gap(row)} points at {row['train_size']:,} labels (**{sentences.word(row)}**)"
        if row["verdict"] == "unstable":
            at = f"at {row['train_size']:,} labels **unstable**"
        name, largest = sentences.within(accuracy.title(row)), row["train_size"] == against["train_size"].max()
        spelt = len(against) <= sentences.SPELT or (strategies <= sentences.SPELT and largest)
        assert (at in headline and f"Accuracy of {name} against" in headline) if spelt else name in headline
        assert spelt or f"**{sentences.word(row)}** at " in headline


def test_an_answer_on_many_budgets_gives_the_largest_with_its_interval_and_the_range_of_the_others() -> None:
    shares = {"full": 0.9, "lora": 0.87, "lora-n00250": 0.7, "lora-n00500": 0.86}
    matrix = {"strategy": ["full", "lora", "lora-all"], "train_size": [250, 500, 1000, 2000], "seed": [1, 2, 3]}
    runs = make_runs(shares, 3000, matrix=matrix)
    parts = report(runs, make_words((250, 500, 1000, 2000), 0.6, 3000))
    against = accuracy.against_baseline(runs)
    last = against[(against["strategy"] == "lora") & (against["train_size"] == 2000)].iloc[0]
    assert (
        f"Accuracy of LoRA (query, value) against full fine-tuning: {sentences.gap(last)} points at 2,000"
        in parts["headline"]
    )
    level = "Accuracy of full fine-tuning: 90.0% at 250 labels and 90.0% at 2,000 labels. "
    assert parts["headline"].startswith(level)
    assert "points with fewer labels (**worse** at every budget)" in parts["headline"]
    assert parts["against TF-IDF"].endswith("LoRA (all linear) **better** at every budget.")
    assert parts["recommendation"].startswith("At every budget, choose **")
    assert parts["certainty"].count("better against TF-IDF") < 4
    changed = against.assign(tested=against["verdict"], tested_difference=-against["difference"])
    assert sentences.other_rule(runs, changed) == "", "a sign alone is no news among so many"
    changed.loc[changed["train_size"] < 1000, "tested"] = "better"
    said = sentences.other_rule(runs, changed)
    assert "LoRA (query, value) **worse** at 250 and 500 labels" in said and "[" not in said


COMPARED: dict[str, tuple[dict[str, float], int, list[int], str]] = {  # accuracies, reviews, seeds, what is said
    "better": ({"lora": 0.95}, 400, [1, 2, 3], "better"),
    "worse": ({"lora": 0.85}, 400, [1, 2, 3], "worse"),
    "equal": ({"": 1.0}, 2000, [1, 2, 3], "equivalent"),
    "undetermined": ({"lora": 0.88}, 60, [1, 2, 3], "undetermined"),
    "two seeds apart": ({"lora": 0.7}, 400, [1, 2], "runs worse"),
    "one seed apart": ({"lora": 0.98}, 400, [1], "runs better"),
    "one seed alike": ({"lora": 0.88}, 60, [1], "no verdict"),
}


@pytest.mark.parametrize("case", COMPARED)
def test_a_verdict_and_a_recommendation_take_three_seeds(case: str) -> None:
    shares, count, seeds, said = COMPARED[case]
    parts = report(make_runs(shares, count, matrix=SEEDS | {"seed": seeds}))
    assert f"labels (**{said}**)" in parts["headline"]
    decided = len(seeds) >= 3
    assert bool(parts["recommendation"]) == bool(parts["choices"]) == decided
    assert (parts["results"]["verdict"].tolist() == ["–", "no verdict"]) == (not decided)
    assert ("without verdict or recommendation" in parts["headline"]) == (not decided)


def test_nothing_is_better_than_a_reference_at_chance_and_nothing_at_chance_is_chosen() -> None:
    poor = {"full": 0.5, "lora": 0.9}
    parts = report(make_runs(poor, matrix=SEEDS), make_words((250,), accuracy=0.5))
    assert "points at 250 labels (**no verdict, reference at chance**)" in parts["headline"]
    why = "is not distinguishable from the majority-class baseline there, so comparisons with it have no verdict."
    assert f"*Reference at chance*: full fine-tuning {why}" in parts["headline"]
    assert parts["against TF-IDF"].endswith(
        f" **no verdict, reference at chance** at 250 labels. *Reference at chance*: TF-IDF {why}"
    )
    assert "better" not in "".join(parts["results"]["verdict"])
    assert "choose **LoRA (query, value)**" in parts["recommendation"]
    assert "reference at chance" in report(make_runs(poor, matrix=SEEDS | {"seed": [1]}))["headline"], (
        "with one seed, too"
    )
    assert report(make_runs({"": 0.5}, matrix=SEEDS))["recommendation"] == ""


def test_a_strategy_with_some_seeds_at_chance_has_no_interval_is_called_unstable_and_never_chosen() -> None:
    runs = make_runs({"lora": 0.99, "lora-n00250-s3": 0.5}, matrix=SEEDS)
    parts = report(runs, make_words((250,), accuracy=0.7))
    assert "full fine-tuning: at 250 labels **unstable**." in parts["headline"]
    assert "*Unstable*: some seeds are at chance and others are not" in parts["headline"]
    assert "LoRA (query, value) **unstable** at 250 labels" in parts["against TF-IDF"]
    assert "choose **full fine-tuning**" in parts["recommendation"] and "LoRA" not in parts["recommendation"]
    assert "at 250 labels (1 of 3 seeds: 99.0, 99.0 and 50.0%)" in parts["untrained"]
    assert parts["results"].loc[("250", "LoRA (query, value)")].drop(["verdict", "seeds"]).unique().tolist() == ["–"]
    unsure = report(make_runs({"full-n00250-s3": 0.5}, matrix=SEEDS))["headline"]
    assert unsure.startswith("Accuracy of LoRA (query, value) against full fine-tuning: at 250 labels **unstable**")
    alike = report(make_runs({"lora": 0.5}, matrix=SEEDS))["headline"]
    assert "(**worse**)" in alike and "nstable" not in alike, "all seeds at chance: the same bad result each time"
    noisy = make_runs({"lora": 0.72, "lora-n00250-s3": 0.55}, count=60, matrix=SEEDS)
    assert "nstable" not in report(noisy)["headline"], "so few texts do not tell these runs apart"


def test_tf_idf_is_compared_and_chosen_like_a_strategy() -> None:
    runs = make_runs({"": 0.7}, matrix=SEEDS)
    parts = report(runs, make_words((250,), accuracy=0.9))
    against = "Against TF-IDF: full fine-tuning and LoRA (query, value) **worse** at 250 labels."
    assert parts["against TF-IDF"] == against
    rule = "the cheapest option by training FLOPs with an estimated accuracy within 1 point of the highest"
    assert parts["recommendation"] == f"With 250 labels, choose **TF-IDF**: {rule}."
    assert parts["certainty"].startswith("How sure: with 250 labels, better against ")
    assert parts["results"].index.tolist()[-1] == ("250", "TF-IDF") and parts["results"]["verdict"].iloc[-1] == "better"
    assert parts["results"]["difference"].iloc[-1].startswith("+20.0 [+")
    assert report(runs)["against TF-IDF"] == ""


def test_a_choice_that_is_worse_than_another_option_is_said_to_be() -> None:
    row = {"train_size": 250, "choice": "LoRA", "cost": "training FLOPs", "against": "Full fine-tuning"}
    study = make_study()
    said = [
        sentences.recommendation(pd.DataFrame([row | {"verdict": verdict}]), study) for verdict in ("worse", "better")
    ]
    assert said[0].removeprefix(said[1]) == (
        " Within the margin, yet significantly worse: LoRA than full fine-tuning with 250 labels."
    )


def test_tf_idf_is_compared_with_the_baseline_strategy_at_every_value_of_a_further_axis() -> None:
    runs = make_runs({"": 0.9}, matrix=SEEDS | {"max_length": [64, 128]})
    results = report(runs, make_words((250,), accuracy=0.8))["results"]
    assert results.loc[("250", "TF-IDF"), "max_length"].tolist() == [64, 128]


def test_what_would_settle_a_comparison_is_said_of_undetermined_ones_alone() -> None:
    row = {"verdict": "undetermined", "settle_seeds": 4.0, "settle_items": 12_345.0}
    assert sentences.settlement(row, float("nan")) == "4 seeds per strategy on 12,000 test texts"
    assert sentences.settlement(row, 9_000).endswith(" on 12,000 test texts (9,000 are left beside the largest budget)")
    assert sentences.settlement(row | {"settle_seeds": np.nan}, 9_000).startswith("more seeds or texts: ")
    assert sentences.settlement(row | {"settle_seeds": 14_404}, 9_000).startswith("more than 100 seeds per strategy, ")
    assert sentences.settlement(row | {"verdict": "better"}, 9_000) == ""


def test_runs_that_learned_nothing_are_named() -> None:
    runs = make_runs({"lora-n00250": 0.5})
    said = sentences.untrained(runs, accuracy.summary(runs))
    assert said.endswith("majority-class baseline** (accuracy 50.0%): LoRA (query, value) at 250 labels.")
    assert sentences.untrained(make_runs(), accuracy.summary(make_runs())) == ""
    apart = make_runs({"lora": 0.85, "lora-n00250-s1": 0.5}, matrix=MATRIX | {"seed": [1, 2, 3]})
    assert "LoRA (query, value) at 250 labels (1 of 3 seeds: 50.0, 85.0 and 85.0%)." in sentences.untrained(
        apart, accuracy.summary(apart)
    )
    many = make_runs({"": 0.5}, matrix=MATRIX | {"strategy": list(STRATEGIES)[:6]})
    assert f"{len(many.table)} of {len(many.table)} variants" in sentences.untrained(many, accuracy.summary(many))


def test_costs_that_no_record_holds_are_left_out_of_the_headline_and_dashes_in_the_tables() -> None:
    runs = make_runs()
    assert re.search(
        r"LoRA \(query, value\) takes \d.*% of the trainable parameters, 67% of the", report(runs)["headline"]
    )
    absent = ("training.seconds", "environment.packages", "cost.model_bytes", "training.steps")
    bare = runs.table.assign(**dict.fromkeys(absent), **{"parameters.trainable": [1000, None, 10, None]})
    slower = runs.table["training.seconds"].where(runs.table["strategy"] != "lora", 120)
    said = report(Runs(runs.study, runs.table.assign(**{"training.seconds": slower}), {}))["headline"]
    assert re.search(r"and \d\S* times the training time with", said), "a share above 100 % is a multiple"
    parts = report(Runs(runs.study, bare, {}))
    assert "training" not in parts["headline"]
    shown = ["trainable", "peak memory (GiB)", "one text (ms)", "merged (ms)"]
    assert list(parts["costs"]) == shown
    assert parts["costs"]["trainable"].tolist().count("–") == 2
    assert parts["environments"].loc["packages"].tolist() == parts["environments"].loc["commit"].tolist() == ["–"]
    seeds = make_runs(matrix=SEEDS)
    seeds.table["training.seconds"] = [10.0, 20.0, 30.0, 5.0, 16.0, 21.0]
    assert "and 50 to 80% of the training time with 250" in report(seeds)["headline"], "of pairs with the same seed"


def test_numbers_and_items_are_written_as_in_a_sentence() -> None:
    assert [points(1.04), points(-0.04), points(-0.06)] == ["+1.0", "0.0", "−0.1"]
    assert [p_text(1e-40), p_text(0.0012), p_text(1.0)] == ["p < 0.001", "p = 0.001", "p = 1.000"]
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["none", "a", "a, b and c"]


def test_a_further_axis_keeps_its_values_apart() -> None:
    parts = report(EDGES["a further axis"]())
    assert "of LoRA (query, value), epochs 4 against full fine-tuning: " in parts["headline"]
    assert parts["costs"]["epochs"].tolist() == [4, 16] * 4
    assert parts["results"]["epochs"].tolist() == [4, 16] * 4


def test_results_have_the_scores_that_suit_the_number_of_classes_and_no_empty_column() -> None:
    parts = report(EDGES["no other reviews"]())
    scores = ["accuracy (%)", "AUC", "predicted positive (%)"]
    assert list(parts["results"]) == [*scores, "difference", "p", "adjusted p", "verdict", "seeds"]
    assert "out of domain (%)" in report(EDGES["one seed"]())["results"]
    many = pd.DataFrame({"strategy": ["full"], "train_size": [10], "accuracy": [0.5], "low": [0.4], "high": [0.6]})
    many = many.assign(macro_f1=0.4, balanced_accuracy=0.45, seeds=1)
    assert list(tables.results(many)) == ["accuracy (%)", "macro F1 (%)", "balanced accuracy (%)", "seeds"]


def test_differences_are_printed_with_their_interval_test_and_power() -> None:
    shown = report(EDGES["several seeds"]())["differences"]
    assert re.match(r"−\d\.\d \[−", shown["difference"].iloc[0])
    assert list(shown) == ["difference", "right alone", "p", "adjusted p", "detectable", "verdict"]


def test_the_set_up_lists_what_varies_and_leaves_out_what_no_record_states() -> None:
    rates = {"strategy": ["lora"], "learning_rate": [1e-4, 1e-3], "lora_r": [4, 8]}
    runs = make_runs(baseline="lora", matrix=rates, defaults={"model": "some/encoder", "ood_dataset": None})
    shown = tables.setup(runs)["value"]
    assert shown["LoRA rank, α, dropout"] == "4, 16, 0; 8, 16, 0" and shown["encoder"] == "some/encoder"
    assert shown["text and label columns"] == "text, label" and "encoding" not in shown
    assert "out-of-domain texts" not in shown and "weights (hash)" not in shown
    assert "pretrained head kept" not in shown
    assert shown["LoRA (query, value)"].endswith("; learning rate 0.0001 to 0.001")
    kept = tables.setup(make_runs(defaults={"model": "some/classifier", "ood_dataset": None, "keep_head": True}))
    assert kept["value"]["pretrained head kept"] == "True"


@pytest.mark.parametrize(
    ("verdict", "difference", "said"), [("equivalent", 0.4, False), ("worse", 0.4, True), ("equivalent", -0.2, True)]
)
def test_the_answer_gives_what_the_other_checkpoint_rule_would_change(
    verdict: str, difference: float, said: bool
) -> None:
    runs = make_runs()
    row = accuracy.against_baseline(runs).head(1).assign(verdict=verdict, difference=difference, low=-0.9, high=0.9)
    sentence = sentences.other_rule(runs, row.assign(tested="equivalent", tested_difference=0.3))
    assert bool(sentence) == said and (f"**{verdict}**" in sentence) == said
