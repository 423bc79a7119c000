"""From finished runs to tables, sentences and verdicts: that they agree with the numbers, and hold at their edges."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import make_preds, make_run, make_runs, make_study

from peft_study.analysis import accuracy as tables
from peft_study.analysis import costs as ledger_tables
from peft_study.analysis import expectations
from peft_study.analysis import learning_curves as curves_tables
from peft_study.data.tfidf import Baseline
from peft_study.records.read import Runs, load_runs
from peft_study.report import cost_claims as ledger_claims
from peft_study.report import method, provenance, rate_tables, run_claims
from peft_study.report import sentences as claims
from peft_study.report import tables as printed
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training.model import ParameterCounts
from peft_study.training.prediction import Predictions

pytestmark = pytest.mark.usefixtures("cheap_garbage")
MATRIX = {"strategy": ["full", "lora"], "train_size": [250, 1000], "seed": [1]}
FALLING = {"250": 0.8, "500": 0.85, "1000": 0.88, "2000": 0.9, "lora-n02000": 0.89}


def bag(sizes: tuple[int, ...] = (250, 1000), accuracy: float = 0.7, count: int = 400) -> Baseline:
    ids = np.arange(count)
    return Baseline(ids, ids % 2, {size: make_preds(f"words {size}", accuracy, count) for size in sizes})


def everything(runs: Runs, words: Baseline | None = None) -> dict[str, Any]:
    """All tables and sentences of 03, by name."""
    summary, against = tables.summary(runs), tables.against_baseline(runs)
    costs, versus = ledger_tables.costs(runs), tables.against_words(runs, words)
    ood = tables.summary(runs, part="ood_") if printed.has_ood(runs) else summary.iloc[:0]
    evidence = expectations.Evidence(runs, summary, against, costs, versus, ood)
    learned = curves_tables.curves(runs, summary, draws=5)
    return {
        "headline": claims.headline(runs, against, summary, costs),
        "verdicts": claims.verdicts(against),
        "detectable": claims.detectable(against, runs.study.margin),
        "improvement": claims.improvement(against, runs),
        "curves": rate_tables.learning_curves(learned),
        "setup": claims.setup(runs),
        "seeds": claims.seeds(runs),
        "missing": claims.missing(runs),
        "words": claims.words(versus),
        "disagreement": claims.disagreement(runs, tables.largest_pair(runs)),
        "grid": provenance.grid(runs, links=True),
        "reproducibility": provenance.reproducibility(runs),
        "data": method.data(runs),
        "models": method.models(runs),
        "training": method.training(runs),
        "strategies": method.strategies(runs),
        "scores": printed.scores(runs),
        "differences": printed.differences(against),
        "parameters": ledger_tables.parameters(costs),
        "costs": ledger_tables.training(costs),
        "using": ledger_tables.using(costs, tables.summary(runs, "macro_f1")),
        "fronts": ledger_tables.fronts(costs),
        "environments": printed.environments(runs),
        "expectations": expectations.checked(evidence),
    }


def text(told: Any) -> str:
    """What a reader sees of a sentence or a table."""
    return str(told) if isinstance(told, str) else told.to_csv(sep="\t")


EDGES: dict[str, Callable[[], Runs]] = {
    "one seed": lambda: make_runs({"lora": 0.85}),
    "several seeds": lambda: make_runs({"lora": 0.85, "s3": 0.8}, matrix=MATRIX | {"seed": [1, 2, 3]}),
    "some seeds missing": lambda: make_runs(matrix=MATRIX | {"seed": [1, 2]}, without="lora-n01000-s2"),
    "no run of the baseline": lambda: make_runs(without="full"),
    "only runs of the baseline": lambda: make_runs(without="lora"),
    "a single run": lambda: make_runs(matrix={"strategy": ["full"], "train_size": [250], "seed": [1]}),
    "a missing run": lambda: make_runs(without="lora-n01000"),
    "no common size": lambda: _without("full-n00250-s1", "lora-n01000-s1"),
    "ties": lambda: make_runs({"": 1.0}),
    "nothing right": lambda: make_runs({"": 0.0}, ood=0.0),
    "everything undetermined": lambda: make_runs({"lora": 0.88}, count=60),
    "a single size": lambda: make_runs(matrix=MATRIX | {"train_size": [250]}),
    "a single strategy": lambda: make_runs(matrix=MATRIX | {"strategy": ["full"]}),
    "all strategies": lambda: make_runs({"head": 0.7}, matrix=MATRIX | {"strategy": list(STRATEGIES)}),
    "no other reviews": lambda: make_runs(ood=None),
    "a further axis": lambda: make_runs(
        {"full-n01000-s1-epochs4": 0.85, "lora-n01000-s1-epochs4": 0.8, "lora-n01000-s1-epochs16": 0.95},
        matrix=MATRIX | {"epochs": [4, 16]},
    ),
    "an axis of one strategy": lambda: make_runs(
        {"lora_r4": 0.8, "lora_r16": 0.95},
        matrix=[MATRIX | {"strategy": ["full"]}, MATRIX | {"strategy": ["lora"], "lora_r": [4, 16]}],
    ),
    "a further axis with a default": lambda: make_runs({"None": 0.8}, matrix=MATRIX | {"learning_rate": [None, 1e-3]}),
    "a further axis of lists": lambda: make_runs(
        {"query": 0.8},
        matrix=[
            MATRIX | {"strategy": ["full"]},
            MATRIX | {"strategy": ["lora"], "target_modules": [["query"], ["query", "value"], None]},
        ],
    ),
    "four sizes": lambda: make_runs(FALLING, matrix=MATRIX | {"train_size": [250, 500, 1000, 2000]}),
    "another baseline": lambda: make_runs({"full": 0.95}, baseline="lora"),
    "one test review": lambda: make_runs({"": 1.0}, count=1),
}


def _without(*run_ids: str) -> Runs:
    study = make_study()
    for run_id in set(study.variants) - set(run_ids):
        make_run(study, run_id)
    return load_runs(study.name)


@pytest.fixture(params=EDGES)
def edge(request: pytest.FixtureRequest) -> Runs:
    return EDGES[request.param]()


def test_no_sentence_or_table_has_a_hole_in_it(edge: Runs) -> None:
    for name, told in everything(edge, bag()).items():
        assert not re.search(r"\b(nan|None|inf|NaT|<NA>)\b|\\bnan%", text(told)), f"{name}: {text(told)}"
        assert "−0.0 " not in text(told) and "+0.0" not in text(told), name
        assert len(text(told)) > 3, name


def test_every_run_counts_in_the_summary_once(edge: Runs) -> None:
    table = tables.summary(edge)
    assert sorted(run_id for ids in table["run_ids"] for run_id in ids) == sorted(edge.table.index)
    assert (table["seeds"] == table["run_ids"].str.len()).all()
    assert not table.duplicated(tables.varying(edge)).any()
    assert len(ledger_tables.costs(edge)) == len(printed.scores(edge)) == len(table)


def test_the_summary_is_the_mean_of_the_runs_within_its_interval(edge: Runs) -> None:
    for row in tables.summary(edge).to_dict("records"):
        accuracies = [(edge.preds[run_id].to_numpy() == edge.labels).mean() for run_id in row["run_ids"]]
        assert row["accuracy"] == pytest.approx(np.mean(accuracies))
        assert row["low"] <= row["accuracy"] <= row["high"]


def test_every_comparison_is_of_runs_that_differ_in_the_strategy_alone(edge: Runs) -> None:
    against = tables.against_baseline(edge)
    summary = tables.summary(edge).set_index(tables.varying(edge))["accuracy"]
    assert edge.study.baseline not in set(against["strategy"])
    for row in against.to_dict("records"):
        axes = {axis: row[axis] for axis in tables.varying(edge)[1:]}
        heeds = STRATEGIES[edge.study.baseline].heeds
        others = [value if heeds(axis) else tables.IDLE for axis, value in axes.items()]
        gap = summary[(row["strategy"], *axes.values())] - summary[(edge.study.baseline, *others)]
        assert row["difference"] == pytest.approx(100 * gap)
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["corrected_p"] >= row["p_value"]


def test_every_number_of_the_headline_is_in_the_tables(edge: Runs) -> None:
    summary, against = tables.summary(edge), tables.against_baseline(edge)
    costs = ledger_tables.costs(edge)
    told = claims.headline(edge, against, summary, costs)
    if against.empty:
        assert told.startswith("There is no answer yet") and f"`{edge.study.baseline}`" in told
        return
    pairs = against.groupby(["strategy", *tables.further(against)], sort=False)
    if pairs.ngroups > claims.MANY:
        return
    assert told.count(" of its time.") == pairs.ngroups
    for _, rows in pairs:
        row = rows.sort_values("train_size").iloc[-1].to_dict()
        same = [axis for axis in tables.varying(edge) if axis != "strategy"]
        ours = summary[(summary[["strategy", *same]] == pd.Series(row)[["strategy", *same]]).all(axis=1)].iloc[0]
        assert f"{tables.title(row)} against" in told
        assert f"At {row['train_size']:,} that is {100 * ours['accuracy']:.1f}% against" in told
        for size, gap, word in zip(rows["train_size"], rows["difference"], rows["verdict"], strict=True):
            assert re.search(rf"{re.escape(claims.points(gap))} \[[^]]*\] points at {size:,} labels \(\*\*{word}", told)


# --- Edges, one by one ------------------------------------------------------------------------------------------------


def test_one_seed_says_so_and_several_say_how_many() -> None:
    assert "**one seed**" in claims.seeds(EDGES["one seed"]())
    assert "with 3 seeds; the intervals cover the draw of test reviews and of seeds." in claims.seeds(
        EDGES["several seeds"]()
    )
    assert "1 to 2 seeds" in claims.seeds(EDGES["some seeds missing"]())


def test_one_seed_a_variant_is_one_seed_even_where_they_differ() -> None:
    study = make_study(matrix=MATRIX | {"train_size": [250], "seed": [1, 2]})
    make_run(study, "full-n00250-s1")
    make_run(study, "lora-n00250-s2")
    assert "**one seed**" in claims.seeds(load_runs(study.name))


def test_seeds_widen_the_interval_and_bring_the_t_test() -> None:
    single = tables.against_baseline(make_runs({"full": 0.93, "lora": 0.83}, name="single"))
    many = make_runs(
        {"full": 0.93, "lora-n00250-s1": 0.95, "lora-n00250-s2": 0.83, "lora-n00250-s3": 0.71},
        name="many",
        matrix=MATRIX | {"train_size": [250], "seed": [1, 2, 3]},
    )
    row, rough = single.iloc[0], tables.against_baseline(many).iloc[0]
    assert row["verdict"] == "worse" and rough["verdict"] == "undetermined"
    assert rough["high"] - rough["low"] > 2 * (row["high"] - row["low"])


def test_a_tie_is_equivalent_and_has_no_sign() -> None:
    against = tables.against_baseline(EDGES["ties"]())
    assert set(against["verdict"]) == {"equivalent"}
    assert printed.differences(against)["difference"].tolist() == ["0.0 [−0.9, +0.9]"] * 2
    assert claims.verdicts(against).startswith("Of 2 comparisons with the baseline strategy: 2 equivalent.")


def test_what_the_data_cannot_tell_is_said_not_to_be_told() -> None:
    runs = EDGES["everything undetermined"]()
    assert set(tables.against_baseline(runs)["verdict"]) == {"undetermined"}
    assert everything(runs)["headline"].count("*Undetermined* means") == 1
    assert everything(runs)["verdicts"].startswith("Of 2 comparisons with the baseline strategy: 2 undetermined.")


def test_a_single_comparison_is_not_many() -> None:
    assert everything(EDGES["a single size"]())["verdicts"].startswith("Of 1 comparison with")


def test_the_power_of_the_design_is_told_beside_the_margin() -> None:
    few, many = (tables.against_baseline(make_runs({"lora": 0.85}, count=count)) for count in (400, 40_000))
    told = claims.detectable(few, margin=1.0)
    assert "In 2 of 2 comparisons that is more than the margin of 1" in told
    assert all(f"{value:.1f}" in told for value in (few["detectable"].min(), few["detectable"].max()))
    assert "no more than the margin of 1: a difference that matters" in claims.detectable(many, margin=1.0)
    assert "cannot be told" in claims.detectable(tables.against_baseline(make_runs({"": 1.0})), margin=1.0)
    assert "In 1 of 2 too few" in claims.detectable(few.assign(detectable=[2.0, float("nan")]), margin=1.0)
    assert claims.detectable(few.iloc[:0], margin=1.0) == "There is no comparison whose power could be told."


def test_a_correction_for_more_comparisons_makes_the_smallest_detectable_difference_larger() -> None:
    one = tables.against_baseline(make_runs({"lora": 0.85}, matrix=MATRIX | {"train_size": [250]}))
    two = tables.against_baseline(make_runs({"lora": 0.85}))
    assert one["detectable"].iloc[0] < two["detectable"].iloc[0]


def test_the_probability_of_improvement_needs_several_seeds() -> None:
    single, three = EDGES["one seed"](), EDGES["several seeds"]()
    assert claims.improvement(tables.against_baseline(single), single).endswith("two seeds or more on both sides.")
    told = claims.improvement(tables.against_baseline(three), three)  # LoRA: 0.85, 0.85, 0.8 against 0.9, 0.9, 0.8
    assert told == (
        "Of the pairs of one run each at 1,000 labels (a tie counts half), full fine-tuning is beaten by "
        "LoRA (query, value) in 2.5 of 9."
    )
    assert set(printed.differences(tables.against_baseline(three))["pairs ahead"]) == {"2.5 of 9"}
    assert set(printed.differences(tables.against_baseline(single))["pairs ahead"]) == {"–"}


def test_verdicts_of_many_comparisons_are_corrected_for_their_number() -> None:
    runs = EDGES["all strategies"]()
    against = tables.against_baseline(runs)
    assert len(against) == 2 * (len(STRATEGIES) - 1)
    assert (against["corrected_p"] >= against["p_value"]).all() and (against["corrected_p"] > against["p_value"]).any()


def test_a_missing_run_is_named_and_the_answer_is_that_of_the_size_both_have() -> None:
    told = everything(EDGES["a missing run"]())
    assert told["missing"].startswith(
        "3 of 4 planned runs are compared. **Not compared:**\n\n- `lora-n01000-s1`: not finished"
    )
    assert told["headline"].startswith("LoRA (query, value) against full fine-tuning: ")
    assert "At 250 that is" in told["headline"]
    assert told["grid"].splitlines()[2:] == [
        "| Full fine-tuning | 1 of 1: [`s1`](runs/full-n00250-s1.html) | 1 of 1: [`s1`](runs/full-n01000-s1.html) |",
        "| LoRA (query, value) | 1 of 1: [`s1`](runs/lora-n00250-s1.html) | 0 of 1 |",
    ]
    assert everything(EDGES["one seed"]())["missing"] == "All 4 planned runs are finished and compared."


def test_each_strategy_is_judged_at_the_largest_size_that_it_has() -> None:
    runs = make_runs(matrix=MATRIX | {"strategy": ["full", "lora", "head"]}, without="lora-n01000")
    told = everything(runs)["headline"]
    assert "At 250 that is" in told.split("Head only")[0] and "At 1,000 that is" in told.split("Head only")[1]


def test_without_a_pair_there_is_no_answer_and_no_disagreement() -> None:
    for name in ("no run of the baseline", "only runs of the baseline", "a single run", "no common size"):
        told = everything(EDGES[name]())
        assert told["words"] == "The bag-of-words baseline is not there: `01_explore_data.ipynb` makes it."
        assert told["headline"].startswith("There is no answer yet"), name
        assert told["verdicts"] == "There is no pair of runs to compare yet.", name
        assert told["disagreement"] == "There is no pair of runs at one size to look at yet.", name
        assert told["differences"].empty, name


def test_a_further_axis_is_named_and_keeps_its_values_apart() -> None:
    runs = EDGES["a further axis"]()
    told = everything(runs)
    assert (
        "LoRA (query, value), epochs 4 against full fine-tuning: " in told["headline"]
        and "80.0% against 85.0%" in told["headline"]
    )
    assert (
        "LoRA (query, value), epochs 16 against full fine-tuning: " in told["headline"]
        and "95.0% against 90.0%" in told["headline"]
    )
    assert set(told["parameters"].index) == {
        f"{STRATEGIES[name].label}, epochs {r}" for name in ("full", "lora") for r in (4, 16)
    }
    assert told["costs"]["epochs"].tolist() == told["scores"]["epochs"].tolist() == [4, 16] * 4


def test_an_axis_that_the_baseline_ignores_is_compared_with_the_one_baseline_there_is() -> None:
    runs = EDGES["an axis of one strategy"]()
    against = tables.against_baseline(runs)
    assert against["lora_r"].tolist() == [4, 16] * 2
    assert against["difference"].round().tolist() == [-10, 5] * 2
    told = everything(runs)
    assert set(told["parameters"].index) == {
        "Full fine-tuning", "LoRA (query, value), lora_r 4", "LoRA (query, value), lora_r 16"
    }  # fmt: skip
    assert tables.largest_pair(runs) == ("full-n01000-s1", "lora-n01000-s1-lora_r4")


def test_runs_that_learned_nothing_are_named_in_the_answer() -> None:
    runs = make_runs({"lora-n00250": 0.5})
    told = claims.untrained(runs, tables.summary(runs))
    assert "commoner class** (50.0% of the test reviews): LoRA (query, value) at 250. " in told
    assert claims.untrained(make_runs(), tables.summary(make_runs())) == ""
    apart = make_runs({"lora": 0.85, "lora-n00250-s1": 0.5}, matrix=MATRIX | {"seed": [1, 2, 3]})
    assert "LoRA (query, value) at 250 (1 of 3 seeds)." in claims.untrained(apart, tables.summary(apart))
    many = make_runs({"": 0.5}, matrix=MATRIX | {"strategy": list(STRATEGIES)})
    assert f"{len(many.table)} of {len(many.table)} variants" in claims.untrained(many, tables.summary(many))


def test_of_many_strategies_the_answer_names_the_verdicts_only() -> None:
    runs = EDGES["all strategies"]()
    told = everything(runs)["headline"]
    against = tables.against_baseline(runs)
    for size, rows in against.groupby("train_size"):
        start = told.index(f"at {size:,} labels, of {len(rows)} strategies:")
        for verdict, found in rows.groupby("verdict"):
            assert f"{len(found)} **{verdict}**: " in told[start:]
    for row in against.to_dict("records"):
        assert f"{tables.title(row)} ({claims.points(row['difference'])})" in told


def test_the_operations_of_every_strategy_are_told_or_said_to_be_unknown() -> None:
    runs = make_runs()
    costs = ledger_tables.costs(runs)
    assert "LoRA (query, value) needs 67% when measured" in ledger_claims.operations(costs, runs)
    assert "(`total_flos`) says 101%" in ledger_claims.operations(costs, runs)
    unknown = costs.assign(**{"training.flops_per_step": float("nan")})
    assert ledger_claims.operations(unknown, runs) == "The records do not tell how many operations the strategies need."
    many = EDGES["all strategies"]()
    assert re.search(r"from \d+% to \d+% when measured", ledger_claims.operations(ledger_tables.costs(many), many))


def test_a_value_left_to_the_strategy_is_a_group_of_its_own() -> None:
    table = printed.scores(EDGES["a further axis with a default"]())
    assert table["learning_rate"].tolist() == ["default", 0.001] * 4


def test_the_disagreeing_pair_shares_everything_but_the_strategy() -> None:
    runs = make_runs(matrix=MATRIX | {"seed": [1, 2], "epochs": [4, 16]}, without="full-n01000-s1-epochs4")
    first, second = tables.largest_pair(runs) or ("", "")
    assert first.removeprefix("full") == second.removeprefix("lora") == "-n01000-s1-epochs16"


def test_disagreements_are_the_reviews_that_one_alone_got_right_most_confident_mistake_first() -> None:
    runs = make_runs({"lora": 0.8})
    right, wrong = "full-n01000-s1", "lora-n01000-s1"
    table = tables.disagreements(runs, right, wrong)
    expected = runs.preds.index[(runs.preds[right] == runs.labels) & (runs.preds[wrong] != runs.labels)]
    assert sorted(table["id"]) == sorted(expected) and len(table) > 20
    assert (table["right"] > 0.5).all() and (table["wrong"] < 0.5).all() and table["wrong"].is_monotonic_increasing
    told, back = (
        claims.disagreement(runs, (right, wrong)),
        tables.disagreements(runs, wrong, right),
    )
    assert f"the former alone is right on {len(table)}, the latter alone on {len(back)}" in told
    assert f"disagree on {len(table) + len(back)} of 400" in told


# --- The bag of words -------------------------------------------------------------------------------------------------


def test_a_clear_lead_over_the_bag_of_words_is_said_and_its_smallest_named() -> None:
    runs = make_runs({"lora-n00250": 0.85})
    versus = tables.against_words(runs, bag())
    assert claims.words(versus) == (
        "Every strategy is clearly better than the bag-of-words baseline at every size; the smallest lead is "
        "+15.0 points (LoRA (query, value), 250)."
    )


def test_a_strategy_that_counting_words_matches_is_named() -> None:
    told = claims.words(tables.against_words(make_runs({"lora-n01000": 0.7}), bag()))
    assert told == "Fine-tuning is clearly better than a bag of words in 3 of 4 comparisons and clearly worse in 0."


def test_a_bag_of_words_of_other_reviews_or_sizes_is_not_compared() -> None:
    runs = make_runs()
    assert "is not there" in claims.words(tables.against_words(runs, bag(count=399)))
    assert tables.against_words(runs, bag((250,)))["train_size"].tolist() == [250, 250]


# --- What another program may leave out -------------------------------------------------------------------------------


def test_costs_that_no_record_holds_are_dashes_and_not_numbers() -> None:
    runs = make_runs()
    bare = runs.table.drop(columns=["training.seconds", "environment.packages"]).assign(
        **{"cost.model_bytes": None, "parameters.trainable": [1000, "many", 10, 10]}
    )
    told = everything(Runs(runs.study, bare, {}))
    assert set(told["costs"]["training (s)"]) == set(told["using"]["weights on disk (MiB)"]) == {"–"}
    assert told["environments"].loc["packages"].tolist() == ["–"] and told["environments"].loc["commit"].tolist() == [
        "–"
    ]
    assert told["headline"].count("an unknown share of") == 2
    assert told["expectations"].loc[3].tolist()[1:] == ["cannot be told", "no pair to compare"]
    assert not re.search(r"\b(nan|None|inf)\b", " ".join(map(text, told.values())))


def test_environments_that_differ_in_anything_have_a_column_each() -> None:
    runs = make_runs()
    packages = [{"torch": "2.13.0"}] * 3 + [{"torch": "2.14.0"}]
    table = printed.environments(Runs(runs.study, runs.table.assign(**{"environment.packages": packages}), {}))
    assert table.loc["packages"].tolist() == ["torch 2.13.0", "torch 2.14.0"] and list(table.columns) == [1, 2]


# --- Expectations -----------------------------------------------------------------------------------------------------


def test_the_checked_expectations_are_those_that_were_written_before() -> None:
    checked = everything(make_runs())["expectations"]
    pd.testing.assert_frame_equal(checked[["expectation"]], expectations.listed())
    assert set(checked["held"]) <= {"yes", "no", "cannot be told"}


@pytest.mark.parametrize(
    ("number", "accuracy", "held"),
    [
        (1, {"lora": 0.85}, "yes"),
        (1, {"lora": 0.97}, "no"),
        (2, {"n00250": 0.8}, "yes"),
        (2, {"n01000": 0.8}, "no"),
        (3, {}, "yes"),
        (4, {"": 0.85}, "yes"),
        (4, {"lora-n00250": 0.6}, "no"),
        (5, {}, "yes"),
        (2, {}, "cannot be told"),
        (5, {"full": 0.5}, "no"),
        (5, {"full": 0.68}, "cannot be told"),
    ],
)
def test_an_expectation_holds_where_the_numbers_say_so(number: int, accuracy: dict[str, float], held: str) -> None:
    assert everything(make_runs(accuracy), bag())["expectations"].loc[number, "held"] == held


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "no run of the baseline"),
        (1, "another baseline"),
        (2, "a single size"),
        (3, "only runs of the baseline"),
        (4, "one seed"),
        (5, "no other reviews"),
    ],
)
def test_an_expectation_without_evidence_cannot_be_told(number: int, name: str) -> None:
    assert everything(EDGES[name]())["expectations"].loc[number, "held"] == "cannot be told"


def test_gains_are_told_from_size_to_size_and_for_strategies_with_two_sizes_only() -> None:
    runs = make_runs({"full-n00250": 0.8}, without="lora-n01000")
    told = everything(runs)["expectations"].loc[2, "what happened"]
    assert told == "Full fine-tuning: +10.0 points from size to size, 1 of 1 clear by the corrected paired test"


# --- Sentences of one run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"), [(1.04, "+1.0"), (-1.04, "−1.0"), (0.0, "0.0"), (-0.04, "0.0"), (0.04, "0.0"), (-0.06, "−0.1")]
)
def test_points_are_signed_where_they_are_not_nothing(value: float, told: str) -> None:
    assert claims.points(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(1e-40, "p < 0.001"), (0.00099, "p < 0.001"), (0.0012, "p = 0.001"), (1.0, "p = 1.000")]
)
def test_a_p_value_is_never_zero(value: float, told: str) -> None:
    assert claims.p_text(value) == told


@pytest.mark.parametrize(
    ("items", "told"), [([], "none"), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_items_are_listed_as_in_a_sentence(items: list[str], told: str) -> None:
    assert claims.listed(items) == told


def trained(losses: list[float], selected: int = 20) -> Any:
    log = [{"step": 10 * i, "eval_loss": loss} for i, loss in enumerate(losses, start=1)]
    return SimpleNamespace(
        log=[{"step": 1, "loss": 0.7}, *log],
        figures={"steps": 30, "selected_step": selected, "interrupted": False, "resumed": []},
    )


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([], "There was no validation during this training; the last state of the model is kept."),
        ([0.5], "lowest, 0.500, at step 10 of 30. It was measured once"),
        ([0.6, 0.5, 0.4], "lowest, 0.400, at step 30 of 30. It was still falling at the end: more steps might help."),
        ([0.6, 0.4, 0.45], "lowest, 0.400, at step 20 of 30. After that it rose by 0.050 to the end"),
        ([0.6, 0.4, 0.4], "at step 20 of 30. At the end it was the same."),
        ([0.6, float("nan"), 0.4], "**The training diverged**"),
        ([float("inf")], "**The training diverged**"),
    ],
)
def test_the_verdict_on_the_curve_is_what_the_losses_say(losses: list[float], told: str) -> None:
    said = run_claims.curve(trained(losses))
    assert told in said and "nan" not in said and "inf" not in said
    assert not losses or "The state after step 20 is kept." in said


def predictions(preds: list[int], labels: list[int], sure: float = 2.0) -> Predictions:
    logits = np.array([[-sure, sure] if p else [sure, -sure] for p in preds])
    return Predictions(np.arange(len(preds)), np.array(labels), logits, 1.0)


@pytest.mark.filterwarnings("ignore:invalid value encountered in logaddexp")
def test_the_test_result_is_told_with_intervals_and_without_what_is_not_a_number() -> None:
    prepared = SimpleNamespace(variant=Variant())
    test = predictions([0, 1, 1, 0], [0, 1, 0, 0])
    told = run_claims.tested(test, predictions([1, 1], [1, 0]), prepared)
    assert "On 4 test reviews the accuracy is **75.0 [" in told and "against 0.693 for a coin" in told
    assert "On 2 reviews of bundled:rotten-tomatoes" in told and "the accuracy is 50.0 [" in told
    diverged = run_claims.tested(predictions([0, 0], [0, 1], sure=float("nan")), None, prepared)
    assert "the log-loss is not a number" in diverged and "nan" not in diverged.replace("not a number", "")


def test_confident_mistakes_are_the_wrong_ones_surest_first() -> None:
    test = Predictions(np.arange(4), np.array([1, 1, 0, 0]), np.array([[0, 1], [2, 0], [0, 3], [1, 0]]), 1.0)
    table = run_claims.confident_mistakes(
        test, pd.DataFrame({"id": range(4), "text": list("abcd"), "label": test.labels})
    )
    assert table["text"].tolist() == ["c", "b"]
    assert table["predicted"].tolist() == ["positive", "negative"] and table["probability"].tolist() == [
        "95.3%",
        "88.1%",
    ]


def test_the_parameter_table_adds_up_and_keeps_adapter_and_head_apart() -> None:
    table = run_claims.parameter_table(ParameterCounts(66_362_880, 147_456, 592_130, 0, 147_456, 592_130))
    assert list(table.index) == ["backbone", "adapter", "head", "total"]
    assert table.loc["total"].tolist() == ["67,102,466", "739,586", "1.10%"]
    assert table.loc["adapter", "trainable"] == "147,456" and table.loc["backbone", "trainable"] == "0"


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_introduced_with_its_rate(name: str) -> None:
    own, given = (
        run_claims.strategy(Variant(strategy=name)),
        run_claims.strategy(Variant(strategy=name, learning_rate=3e-5)),
    )
    assert STRATEGIES[name].label in own and STRATEGIES[name].description in own
    assert own.endswith(f"learning rate is {STRATEGIES[name].learning_rate:g}, the strategy's own.")
    assert given.endswith("learning rate is 3e-05.")
    assert run_claims.subtitle(Variant(strategy=name, seed=7)).endswith("1,000 labelled reviews, seed 7")
