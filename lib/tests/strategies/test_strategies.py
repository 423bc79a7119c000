"""What each strategy trains, counted, on every family; and what it adds to the training."""

import copy
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from made_trainings import make_run, validation_losses
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForSequenceClassification, BertConfig, DistilBertConfig, TrainerCallback

from peft_study.engine.check import check
from peft_study.errors import StudyError
from peft_study.strategies.encoders import NUMBER, find_parts
from peft_study.strategies.table import STRATEGIES, UNAVAILABLE
from peft_study.study.variant import Variant
from peft_study.training import model as models
from peft_study.training import trainer
from peft_study.training.model import apply_strategy, count_parameters
from peft_study.training.prediction import log_loss, pad_batch

Make = Callable[..., Variant]
FAMILIES = ("distilbert", "bert", "roberta")
POSSIBLE = [[(name, f) for f in FAMILIES if f not in entry.impossible] for name, entry in STRATEGIES.items()]
ONCE = [pairs[place % len(pairs)] for place, pairs in enumerate(POSSIBLE)]  # each strategy, on a family in turn


def make(variant: Variant) -> Any:
    """The model of a variant of a folder."""
    return models.build(variant.model, variant)


@cache
def shared(variant: str) -> Any:
    """The same, built once for the tests that only look at it; a variant is given as JSON."""
    return make(Variant.model_validate_json(variant))


# --- parameters


@pytest.mark.parametrize(("strategy", "family"), ONCE)
def test_what_trains_sits_where_the_strategy_says(
    variant: Make, families: dict[str, str], strategy: str, family: str
) -> None:
    plain = shared(variant(model=families[family], strategy="full").model_dump_json())
    model = shared(variant(model=families[family], strategy=strategy).model_dump_json())
    counts, parts = count_parameters(model), find_parts(plain.config)
    assert counts["trainable_head"] == counts["head"] > 0
    assert counts["total"] == counts["adapter"] + count_parameters(plain)["total"]
    everything = {name for name, _ in plain.named_parameters()}
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    chosen = {name for name in names if not parts.is_head(name) and "modules_to_save" not in name}
    assert (strategy == "head") == (not chosen)
    if strategy == "full":
        assert names == everything
    elif strategy == "bitfit":
        assert chosen == {name for name in everything if name.endswith(".bias")} - (names - chosen)
    elif (adapter := STRATEGIES[strategy].adapter) and adapter.targets not in ("", "norms"):
        layers = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
        linears = [name.rpartition(f"{NUMBER}.")[2] for name in parts.modules(adapter.targets)]
        assert len(layers) == 2 * len(linears)  # two blocks
        assert all(re.fullmatch(rf".*\.layer\.[01]\.({'|'.join(linears)})", name) for name in layers)
        assert all(".default" in name for name in chosen)


def batch() -> dict[str, torch.Tensor]:
    rows = [torch.randint(5, 40, (length,), generator=torch.Generator().manual_seed(length)) for length in (30, 12, 1)]
    return pad_batch([{"input_ids": row} for row in rows], pad=0)


@pytest.mark.parametrize(("strategy", "family"), ONCE)
def test_the_first_token_alone_gives_the_same_logits(
    variant: Make, families: dict[str, str], strategy: str, family: str
) -> None:
    model = copy.deepcopy(shared(variant(strategy=strategy, model=families[family]).model_dump_json())).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # so that adapters do something
        for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
            parameter += torch.randn(parameter.shape, generator=generator) * 0.05
    logits = model(**batch()).logits
    hooked = [module for module in model.modules() if models._first_token in module._forward_pre_hooks.values()]
    assert len(hooked) == 2
    torch.testing.assert_close(logits, models.read_every_token(model)(**batch()).logits)


@pytest.mark.parametrize(
    ("strategy", "backbone", "adapter"),
    [
        ("full", 66_362_880, 0),
        ("head", 0, 0),
        ("last2", 14_175_744, 0),
        ("bitfit", 51_456, 0),
        ("ln", 0, 19_968),
        ("lora", 0, 147_456),
        ("lora-mlp", 0, 368_640),
        ("lora-all", 0, 663_552),
        ("rslora", 0, 147_456),
        ("dora", 0, 156_672),
        ("pissa", 0, 147_456),
        ("lora-plus", 0, 147_456),
        ("adalora", 0, 221_328),
        ("ia3", 0, 27_648),
        ("vera", 0, 12_288),
        ("loha", 0, 294_912),
        ("lokr", 0, 13_056),
        ("oft", 0, 142_848),
        ("boft", 0, 46_080),
        ("hra", 0, 73_728),
        ("fourierft", 0, 12_000),
        ("shira", 0, 589_824),
        ("miss", 0, 589_824),
        ("randlora", 0, 230_400),
        ("prompt", 0, 12_288),
        ("p-tuning", 0, 226_304),
    ],
)
def test_distilbert_of_full_size_has_the_published_counts(
    distilbert: torch.nn.Module, strategy: str, backbone: int, adapter: int
) -> None:
    counts = count_parameters(apply_strategy(copy.deepcopy(distilbert), Variant(strategy=strategy)))
    own = [counts[f"trainable_{part}"] for part in ("backbone", "adapter", "head")]
    assert own == [backbone, adapter, 592_130] and counts["trainable"] == sum(own)
    assert counts["total"] - counts["adapter"] == 66_955_010


@pytest.fixture(scope="module")
def distilbert() -> torch.nn.Module:
    """DistilBERT of full size with random weights."""
    model: torch.nn.Module = AutoModelForSequenceClassification.from_config(DistilBertConfig(num_labels=2))
    return model


D, N, R = 384, 12, 8  # the width of MiniLM, its query and value projections, the rank of LoRA


@pytest.mark.parametrize(
    ("strategy", "adapter"),
    [
        ("olora", N * R * 2 * D),
        ("mica", N * R * D),  # A alone
        ("kasa", N * (R * 2 * D + R)),
        ("velora", N * R * 2 * D),
        ("bdlora", N * R * (D + D // 2)),  # two blocks of B
        ("gralora", N * 32 * 2 * D),
        ("glora", N * (2 * R * 2 * D + R * (D + 1) + 2)),  # two for the weight, one and two numbers for the bias
        ("delora", N * (R * 2 * D + 1)),
        ("lily", N * (32 * D + 2 * 32) + 2 * 32 * D),  # A and router of each, two of B for all
        ("peanut", N * 32 * 2 * D),
        ("deft", N * R * 2 * D),
        ("adamss", N * (D + 5 * 100)),
        ("osf", N * D // 2 * (2 * D + 1)),
        ("beft", 6 * D),
        ("pvera", N * (D + 2 * 256)),
        ("vblora", 256 * 192 + N * 2 * 4 * 2 * 256),  # the bank; which of its vectors are the two parts of each factor
        ("unilora", 256),
        ("tinylora", N * 64),
        ("hira", N * 32 * 2 * D),
        ("psoft", N * (32 * 31 // 2 + 2 * 32)),
        ("road", N * D),
        ("waveft", N * 1000),
        ("c3a", N * D * D // 128),
        ("frod", N * (D + D * D // 100)),
        ("supertuning", N * (D * D // 100)),
        ("prefix", 16 * 2 * 6 * D),
        ("cartridge", 15 * 2 * 6 * D),
    ],
)
def test_a_method_of_minilm_has_the_count_of_its_formula(minilm: torch.nn.Module, strategy: str, adapter: int) -> None:
    counts = count_parameters(apply_strategy(copy.deepcopy(minilm), Variant(strategy=strategy)))
    assert [counts[f"trainable_{part}"] for part in ("backbone", "adapter", "head")] == [0, adapter, 770]


@pytest.fixture(scope="module")
def minilm() -> torch.nn.Module:
    """A BERT of the shape of MiniLM with random weights and a small vocabulary."""
    shape = {"hidden_size": D, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    model: torch.nn.Module = AutoModelForSequenceClassification.from_config(BertConfig(**shape, vocab_size=64))
    return model


# --- the modules and parameters of peft


@pytest.mark.parametrize("targets", [["query"], ["sa_layer_norm"]])  # not DistilBERT's name; not a linear layer
def test_modules_that_cannot_be_adapted_are_one_clear_error(variant: Make, targets: list[str]) -> None:
    with pytest.raises(StudyError, match=f"target_modules = .*{targets[0]}"):
        make(variant(strategy="lora", target_modules=targets))


def test_modules_and_any_parameter_of_peft_can_be_set_and_stay_as_asked_for(variant: Make) -> None:
    named = make(variant(strategy="lora", target_modules=["lin1"]))
    assert all(".lin1." in name for name, _ in named.named_parameters() if "lora_" in name)
    dora = make(variant(strategy="lora", peft={"use_dora": True}))
    assert count_parameters(dora) == count_parameters(make(variant(strategy="dora")))
    fewer = make(variant(strategy="prompt", peft={"num_virtual_tokens": 3}))
    assert count_parameters(fewer)["trainable_adapter"] == 3 * 32
    make(asked := variant(strategy="lora", peft={"exclude_modules": ["nothing"], "rank_pattern": {}}))
    assert asked.peft == {"exclude_modules": ["nothing"], "rank_pattern": {}}


@pytest.mark.parametrize(
    ("strategy", "values", "said"),
    [
        ("lora", {"use_dorra": True}, "'lora', peft: unknown parameter 'use_dorra'; did you mean 'use_dora'"),
        ("lora", {"r": 6}, "unknown parameter 'r'"),  # lora_r says it
        ("ia3", {"modules_to_save": []}, "unknown parameter 'modules_to_save'"),
        ("adalora", {"orth_reg_weight": -1}, "strategy = 'adalora', peft = .*orth_reg_weight"),
        ("miss", {"r": 64}, "strategy = 'miss', peft = .*less than or equal"),
        (
            "lora",
            {"init_lora_weights": "eva"},
            "'lora', peft: unknown init_lora_weights 'eva'; allowed: gaussian, mica",
        ),
    ],
)
def test_a_parameter_that_peft_refuses_is_one_clear_error_before_anything_trains(
    variant: Make, strategy: str, values: dict[str, Any], said: str
) -> None:
    asked = variant(strategy=strategy, peft=values)
    for refuse in (lambda: make(asked), lambda: check([asked])):
        with pytest.raises(StudyError, match=said):
            refuse()


def test_a_pair_that_cannot_work_is_refused_with_the_reason_and_what_would_work(variant: Make) -> None:
    asked = variant(strategy="prefix")
    for refuse in (lambda: make(asked), lambda: check([asked])):
        with pytest.raises(StudyError, match=r"'prefix' does not work on .*keys and values.*prompt and p-tuning work"):
            refuse()


def test_the_vectors_before_the_words_take_room_from_them(variant: Make) -> None:
    check([variant(strategy="prompt", max_length=48)])  # of 64 positions
    with pytest.raises(StudyError, match=r"max_length = 49: .* at most 64 tokens, of which 'prompt' takes 16"):
        check([variant(strategy="prompt", max_length=49)])


def test_every_method_cites_its_work() -> None:
    assert {name for name, entry in STRATEGIES.items() if not entry.citation} == {"full", "head"}


def test_every_method_of_peft_is_a_strategy_or_has_a_reason_why_not() -> None:
    used = {entry.adapter.method for entry in STRATEGIES.values() if entry.adapter}
    methods = {kind.value: config.__name__ for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    assert {kind for kind, method in methods.items() if method not in used} == UNAVAILABLE.keys() & {*PeftType}
    assert methods.keys() == {*PeftType}


# --- what a strategy adds to the training


def test_lora_plus_learns_b_at_sixteen_times_the_rate_of_a_on_the_schedule_of_the_others(
    variant: Make, tmp_path: Path
) -> None:
    run = make_run(variant(strategy="lora-plus", learning_rate=1e-3, epochs=1.0))
    seen: list[list[float]] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, optimizer: Any = None, **__: Any) -> None:
            seen.append([group["lr"] for group in optimizer.param_groups if group["params"]])

    run.train(tmp_path, Watch())
    assert all(max(rates) == pytest.approx(16 * min(rates)) for rates in seen[:-1])
    assert max(min(rates) for rates in seen) == pytest.approx(1e-3, rel=0.1)
    assert seen[-1] == [0.0] * len(seen[-1])


@pytest.mark.parametrize("accumulation", [1, 2])
def test_adalora_prunes_to_its_budget_half_way(variant: Make, tmp_path: Path, accumulation: int) -> None:
    run = make_run(variant(strategy="adalora", epochs=4.0, gradient_accumulation=accumulation))
    left: list[int] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
            left.append(int(sum((p != 0).sum() for name, p in model.named_parameters() if "lora_E" in name)))

    result = run.train(tmp_path, Watch())
    steps = result.figures["steps"]
    config = run.model.peft_config["default"]
    assert (config.total_step, config.tinit, config.tfinal) == (steps, steps // 10, steps // 2)
    assert left[steps // 10 - 1] == 4 * 12  # two projections in two blocks, of rank 12
    assert left[steps - steps // 2 - 1] == left[-1] == 4 * 8


def test_a_study_can_set_the_schedule_of_adalora_where_it_leaves_steps_to_prune(variant: Make, tmp_path: Path) -> None:
    run = make_run(variant(strategy="adalora", epochs=1.0, peft={"tinit": 1, "tfinal": 3, "deltaT": 1}))
    run.train(tmp_path)
    config = run.model.peft_config["default"]
    assert (config.tinit, config.tfinal, config.deltaT) == (1, 3, 1)
    run = make_run(variant(strategy="adalora", epochs=1.0, peft={"tinit": 6, "tfinal": 6}))
    with pytest.raises(StudyError, match="tinit = 6 and tfinal = 6 leave none of the 12 steps"):
        run.train(tmp_path)


class FirstIsBest(TrainerCallback):  # type: ignore[misc]
    """Lets no evaluation but the first be the best; the log keeps what was measured."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:
        if state.best_metric is not None:
            metrics["eval_loss"] = math.inf


@pytest.mark.parametrize(("strategy", "family"), ONCE)
def test_the_model_that_remains_is_the_selected_one_and_its_loss_the_cross_entropy(
    variant: Make,
    families: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    family: str,
) -> None:
    fields = {"learning_rate": None, "evaluations": 3, "epochs": 1, "max_steps": 4, "checkpoint": "best"}
    monkeypatch.setattr(trainer, "flops", lambda *_: 1.0)  # half of the time of so short a training
    run = make_run(variant(strategy=strategy, model=families[family], **fields))
    result, validation = run.train(tmp_path, FirstIsBest()), run.predict("validation")
    losses = validation_losses(result)
    assert result.figures["selected_step"] == min(losses) and len(losses) == 3
    assert losses[min(losses)] == pytest.approx(log_loss(validation.logits, validation.labels), abs=1e-5)
