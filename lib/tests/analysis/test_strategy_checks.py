"""Every strategy on every family of encoders, the way that a run goes; and what a trial says of one that is wrong."""

import gc
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from made_folders import save_model

from peft_study import paths
from peft_study.analysis import trials as trials_attempts
from peft_study.analysis.trials import Attempt, Measured
from peft_study.engine import steps as batch
from peft_study.errors import StudyError
from peft_study.report import trial_claims as trials_claims
from peft_study.strategies.adapters import train_only
from peft_study.strategies.table import STRATEGIES, Strategy
from peft_study.study.variant import Variant

APPENDIX = paths.NOTEBOOKS / "A_every_strategy.ipynb"
FAMILIES = ["distilbert", "bert", "roberta"]
PAIRS = [
    pytest.param(family, strategy, marks=pytest.mark.slow)
    for family in FAMILIES
    for strategy in STRATEGIES
    if family not in STRATEGIES[strategy].impossible
]
each_pair = pytest.mark.parametrize(("family", "strategy"), PAIRS)
Tried = dict[str, dict[str, Attempt]]
Register = Callable[..., str]


@pytest.fixture(scope="session")
def tried(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """The trials of all strategies on a tiny model of every family."""
    root = tmp_path_factory.mktemp("tried")
    (root / "roberta").mkdir()
    folders = tiny | {"roberta": save_model(root / "roberta", "roberta")}
    gc.collect()
    gc.freeze()  # every training ends with a collection, which would go through all that other tests have left
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_STUDY_CACHE", str(root / "cache"))
        found = {
            family: {one.strategy: one for one in trials_attempts.every(str(folders[family]))} for family in FAMILIES
        }
    gc.unfreeze()
    return found


def measured(attempt: Attempt) -> Measured:
    """What a trial measured, which must have got so far."""
    assert attempt.measured, attempt.error
    return attempt.measured


# --- every strategy on every family


@each_pair
def test_a_strategy_that_is_possible_works(tried: Tried, family: str, strategy: str) -> None:
    attempt = tried[family][strategy]
    assert attempt.faults == [] and str(attempt).endswith("works")


@each_pair
def test_training_lowers_the_loss(tried: Tried, family: str, strategy: str) -> None:
    before, after = measured(tried[family][strategy]).losses
    assert after < before < 1


@each_pair
def test_a_saved_model_is_loaded_bit_for_bit(tried: Tried, family: str, strategy: str) -> None:
    assert measured(tried[family][strategy]).reloaded == 0


@each_pair
def test_what_is_said_to_merge_does_and_nothing_else(tried: Tried, family: str, strategy: str) -> None:
    merged = measured(tried[family][strategy]).merged
    if STRATEGIES[strategy].merges:
        assert merged is not None and merged <= 1e-5
    else:
        assert merged is None


@each_pair
def test_the_whole_head_trains_and_is_the_same_under_every_strategy(tried: Tried, family: str, strategy: str) -> None:
    counts = measured(tried[family][strategy]).parameters
    assert counts.trainable_head == counts.head == measured(tried[family]["full"]).parameters.head > 0


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_all_but_vectors_of_words_and_random_spectra_start_from_the_pretrained_network(
    tried: Tried, family: str
) -> None:
    far = {name for name, one in tried[family].items() if one.measured and one.measured.start > 1e-5}
    assert far == {"prompt", "p-tuning", "prefix", "fourierft"} & {
        n for n, one in tried[family].items() if one.measured
    }


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_encoder_has_the_cheapest_step(tried: Tried, family: str) -> None:
    assert min((measured(one).flops, name) for name, one in tried[family].items() if one.measured)[1] == "head"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "strategy"), [(family, name) for name, entry in STRATEGIES.items() for family in entry.impossible]
)
def test_an_impossible_pair_gives_the_reason_and_what_would_work(tried: Tried, family: str, strategy: str) -> None:
    attempt = tried[family][strategy]
    assert attempt.measured is None
    assert attempt.faults[0].startswith(f"strategy = {strategy!r} does not work on ")
    assert attempt.faults[0].endswith(STRATEGIES[strategy].impossible[family])


# --- strategies from outside


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Adds an entry to STRATEGIES for the time of a test; returns its name."""

    def add(prepare: Any = None, **changes: Any) -> str:
        entry = Strategy("Mine", "what I like", 1e-3, prepare or train_only(lambda name: "layer.0." in name), **changes)
        monkeypatch.setitem(STRATEGIES, "mine", entry)
        return "mine"

    return add


def test_a_strategy_from_outside_is_tried_like_the_others(tiny: dict[str, Path], register: Register) -> None:
    attempts = list(trials_attempts.every(str(tiny["bert"]), [register()]))
    assert [one.strategy for one in attempts] == ["full", "mine"]
    assert attempts[1].faults == [] and measured(attempts[1]).parameters.trainable_backbone > 0
    row = trials_claims.table(attempts).loc["Mine"]
    assert row["works"] == "yes" and row["start"] == "0" and row["merged"] == "no adapter"
    assert trials_claims.table(attempts).loc[STRATEGIES["full"].label, "step"] == "1.00"
    assert trials_claims.verdict("m", attempts) == "**2 of 2 strategies work on `m`.**"


def test_a_broken_strategy_shows_its_reason_and_does_not_hide_the_others(
    tiny: dict[str, Path], register: Register
) -> None:
    def prepare(model: Any, variant: Variant) -> torch.nn.Module:
        raise ZeroDivisionError("no <such> rank")

    attempts = list(trials_attempts.every(str(tiny["distilbert"]), [register(prepare), "head"]))
    assert [one.faults for one in attempts] == [[], ["ZeroDivisionError: no <such> rank"], []]
    row = trials_claims.table(attempts).loc["Mine"]
    assert row["works"] == "no" and set(row.drop("works")) == {"–"}
    assert "2 of 3" in trials_claims.verdict("m", attempts)
    assert "- Mine: ZeroDivisionError\\: no \\<such\\> rank" in trials_claims.verdict("m", attempts)


@pytest.mark.parametrize("prepare", [None, STRATEGIES["prompt"].prepare], ids=["no adapter", "prompts"])
def test_a_strategy_that_says_it_merges_and_cannot_is_found_out(
    tiny: dict[str, Path], register: Register, prepare: Any
) -> None:
    attempt = list(trials_attempts.every(str(tiny["bert"]), [register(prepare, merges=True)]))[-1]
    (fault,) = attempt.faults
    assert fault.startswith("it is said to merge, but ") and "Error: " in fault
    assert trials_claims.table([attempt]).loc["Mine", "merged"] == "fails"


def test_a_strategy_that_trains_nothing_but_the_head_is_found_out(tiny: dict[str, Path], register: Register) -> None:
    mistyped = register(train_only(lambda name: "wrod_embeddings" in name))
    head, mine = list(trials_attempts.every(str(tiny["bert"]), ["head", mistyped]))[1:]
    assert head.faults == [] and mine.faults == ["nothing but the head trains"]


def test_a_tensor_that_no_gradient_reaches_is_found_out(tiny: dict[str, Path], register: Register) -> None:
    def prepare(model: Any, variant: Variant) -> torch.nn.Module:
        model.bert.forgotten = torch.nn.Parameter(torch.ones(3))
        return STRATEGIES["full"].prepare(model, variant)

    attempt = list(trials_attempts.every(str(tiny["bert"]), [register(prepare)]))[-1]
    assert any("tensors that should train did not change" in fault for fault in attempt.faults)


def test_a_head_that_does_not_train_is_found_out(tiny: dict[str, Path], register: Register) -> None:
    def prepare(model: Any, variant: Variant) -> torch.nn.Module:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "classifier" not in name
        return model

    attempt = list(trials_attempts.every(str(tiny["bert"]), [register(prepare)]))[-1]
    assert "the head does not train" in attempt.faults


def test_an_encoder_published_in_half_precision_is_loaded_as_it_was_trained(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModel

    folder = Path(shutil.copytree(tiny["bert"], tmp_path / "half"))
    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert [one.faults for one in trials_attempts.every(str(folder), ["lora"])] == [[], []]


def test_an_unknown_strategy_and_an_unknown_model_are_one_clear_error(tiny: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="strategies: unknown strategy 'lorra'; did you mean 'lora'"):
        next(trials_attempts.every(str(tiny["bert"]), ["lorra"]))
    with pytest.raises(StudyError, match="there is no folder"):
        next(trials_attempts.every(str(tmp_path / "absent")))


# --- what is made of the figures


@pytest.fixture
def sound(tiny: dict[str, Path]) -> Iterator[Measured]:
    """The trial of a strategy that works."""
    yield measured(next(trials_attempts.every(str(tiny["bert"]), [])))


def test_each_check_can_fail(sound: Measured) -> None:
    assert sound.faults == []
    for change, fault in [
        ({"losses": (0.5, 0.5)}, "the loss does not fall: 0.5000 before training, 0.5000 after"),
        ({"losses": (0.5, float("nan"))}, "the loss does not fall: 0.5000 before training, nan after"),
        ({"reloaded": 1e-9}, "loaded again, its logits differ by 1e-09"),
        ({"merged": 2e-5}, "merged, its logits differ by 2e-05"),
        ({"merged": float("nan")}, "merged, its logits differ by nan"),
    ]:
        assert replace(sound, **change).faults == [fault]  # type: ignore[arg-type]


def test_the_sentences_follow_the_figures(sound: Measured) -> None:
    def attempt(name: str, adapter: int, share: float, start: float = 0.0) -> Attempt:
        counts = replace(sound.parameters, trainable_adapter=adapter)
        return Attempt(name, replace(sound, parameters=counts, flops=share * sound.flops, start=start), "", 1.0)

    attempts = [attempt("full", 0, 1), attempt("lora", 2000, 0.7), attempt("ia3", 100, 0.6), attempt("dora", 3000, 1.5)]
    costs = trials_claims.costs(attempts)
    assert "smallest adapter is that of (IA)³, with 100 " in costs and "DoRA, with 3,000, or 30 times" in costs
    assert "cheapest step is that of (IA)³, with 0.60 times" in costs and "DoRA, with 1.50 times" in costs
    assert trials_claims.starts(attempts).startswith("Every strategy")
    elsewhere = trials_claims.starts([*attempts, attempt("prompt", 10, 1, start=0.25)])
    assert elsewhere.endswith("start: Prompt tuning (0.25).")
    assert trials_claims.costs(attempts[:1]) == "There is nothing to compare full fine-tuning with."
    assert set(trials_claims.table(attempts[1:])["step"]) == {"–"}, "without full fine-tuning there is no share"


def test_the_toy_reviews_are_distinct_and_half_of_each_class() -> None:
    corpus = trials_attempts.toy_corpus()
    assert corpus.pool["text"].is_unique and corpus.pool["label"].mean() == 0.5
    assert list(corpus.pool["id"]) == list(range(len(corpus.pool)))
    assert np.array_equal(corpus.pool["rank"], corpus.pool.groupby("label").cumcount())


# --- the appendix


@pytest.mark.slow
def test_the_appendix_tries_every_strategy_on_a_model_of_ones_own(tiny: dict[str, Path], tmp_path: Path) -> None:
    batch.execute(APPENDIX, tmp_path / "every.ipynb", {"model": str(tiny["distilbert"])})
    outputs = [
        output
        for cell in nbformat.read(tmp_path / "every.ipynb", as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    (progress,) = [output.text for output in outputs if output.output_type == "stream"]
    (table,) = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    said = "\n".join(output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {}))
    assert len(progress.splitlines()) == len(STRATEGIES)
    for name, entry in STRATEGIES.items():
        assert entry.label in progress and f"<th>{entry.label}</th>" in table
        assert f"- `{name}`: {entry.label}" in said and f"[@{entry.citation}]" in f"{said}[@]"
    impossible = sum("distilbert" in entry.impossible for entry in STRATEGIES.values())
    assert f"**{len(STRATEGIES) - impossible} of {len(STRATEGIES)} strategies work" in said
