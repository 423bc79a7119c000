"""What each strategy trains, counted, on every family; and what it adds to the training."""

import copy
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from made_pairs import pairs
from made_trainings import make_run, validation_losses
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForSequenceClassification, BertConfig, DistilBertConfig, TrainerCallback

from peft_study import paths
from peft_study.engine.check import check
from peft_study.errors import StudyError
from peft_study.strategies import adapters
from peft_study.strategies.encoders import ARCHITECTURES
from peft_study.strategies.table import STRATEGIES, Strategy
from peft_study.study.variant import Variant
from peft_study.training import model as models
from peft_study.training import trainer
from peft_study.training.model import apply_strategy, count_parameters
from peft_study.training.prediction import log_loss, pad_batch

Make = Callable[..., Variant]


def make(variant: Variant) -> Any:
    """The model of a variant of a folder."""
    return models.build(variant.model, variant)


@cache
def shared(variant: str) -> Any:
    """The same, built once for the tests that only look at it; a variant is given as JSON."""
    return make(Variant.model_validate_json(variant))


def trained(model: torch.nn.Module) -> set[str]:
    """The names of the parameters that train."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# --- parameters

FORMULAS: dict[str, Callable[[Any], tuple[int, int]]] = {
    # strategy -> trainable parameters of (backbone, adapter) of an encoder of width h, inner width f and L blocks
    "full": lambda e: (e.all, 0),
    "head": lambda e: (0, 0),
    "last2": lambda e: (2 * (4 * (e.h**2 + e.h) + 2 * e.h * e.f + e.f + e.h + 4 * e.h) + e.pooler, 0),
    "bitfit": lambda e: (e.L * (4 * e.h + e.f + e.h + 2 * e.h) + e.h + (e.h if e.pooler else 0), 0),
    "ln": lambda e: (0, (2 * e.L + 1) * 2 * e.h),
    **dict.fromkeys(["lora", "rslora", "pissa", "lora-plus"], lambda e: (0, 2 * e.L * 8 * 2 * e.h)),
    "lora-mlp": lambda e: (0, 2 * e.L * 8 * (e.h + e.f)),
    "lora-all": lambda e: (0, e.L * (4 * 8 * 2 * e.h + 2 * 8 * (e.h + e.f))),
    "dora": lambda e: (0, 2 * e.L * (8 * 2 * e.h + e.h)),
    "adalora": lambda e: (0, 2 * e.L * (12 * 2 * e.h + 12)),
    "ia3": lambda e: (0, e.L * (2 * e.h + e.f)),
    "vera": lambda e: (0, 2 * e.L * (256 + e.h)),
    "loha": lambda e: (0, 2 * e.L * 2 * 8 * 2 * e.h),
    "lokr": lambda e: (0, 2 * e.L * kronecker(e.h, rank=8)),
    "oft": lambda e: (0, 2 * e.L * (e.h // 32) * (32 * 31 // 2)),
    "boft": lambda e: (0, 2 * e.L * (e.h // 4 * 4 * 4 + e.h)),
    "hra": lambda e: (0, 2 * e.L * 8 * e.h),
    "fourierft": lambda e: (0, 2 * e.L * 1000),
    "shira": lambda e: (0, 2 * e.L * min(32, e.h // 4) * 2 * e.h),
    "miss": lambda e: (0, 2 * e.L * min(64, e.h // 4) * e.h),
    "randlora": lambda e: (0, 2 * e.L * math.ceil(e.h / 32) * (32 + e.h)),
    "prompt": lambda e: (0, 16 * e.h),
    "p-tuning": lambda e: (0, 16 * e.h + (e.h + 1) * 128 + (128 + 1) * 128 + (128 + 1) * e.h),
    "prefix": lambda e: (0, 16 * e.L * 2 * e.h),
}


def kronecker(width: int, rank: int) -> int:
    """Parameters of LoKr on a square weight: the factors of `width` nearest to its root, the larger one low-rank."""
    small = max(divisor for divisor in range(1, math.isqrt(width) + 1) if width % divisor == 0)
    large = width // small
    return small**2 + (2 * rank * large if rank < large / 2 else large**2)


@dataclass(frozen=True)
class Encoder:
    """The sizes of an encoder: all of its parameters, those of its pooler, width, inner width and blocks."""

    all: int
    pooler: int
    h: int
    f: int
    L: int


def encoder(model: torch.nn.Module) -> Encoder:
    """The sizes of a plain classifier."""
    head = ARCHITECTURES[model.config.model_type].head  # type: ignore[union-attr, index]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if name.split(".")[0] not in head}
    config: Any = model.config
    inner = config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    pooler = sum(size for name, size in sizes.items() if ".pooler." in name)
    return Encoder(sum(sizes.values()), pooler, config.hidden_size, inner, config.num_hidden_layers)


@pytest.mark.parametrize(("strategy", "family"), pairs())
def test_the_trainable_parameters_are_those_of_the_formula_and_sit_where_the_strategy_says(
    variant: Make, families: dict[str, str], strategy: str, family: str
) -> None:
    plain = shared(variant(model=families[family], strategy="full").model_dump_json())
    model = shared(variant(model=families[family], strategy=strategy).model_dump_json())
    counts, sizes = count_parameters(model), encoder(plain)
    assert (counts.trainable_backbone, counts.trainable_adapter) == FORMULAS[strategy](sizes)
    assert counts.trainable_head == counts.head > 0 and counts.backbone == sizes.all
    names, everything, heads = (
        trained(model),
        {name for name, _ in plain.named_parameters()},
        ARCHITECTURES[family].head,
    )
    chosen = {name for name in names if name.split(".")[0] not in heads and "modules_to_save" not in name}
    if strategy == "full":
        assert names == everything
    elif strategy == "bitfit":
        assert chosen == {name for name in everything if name.endswith(".bias")} - (names - chosen)
    elif (adapter := STRATEGIES[strategy].adapter) and adapter.targets not in ("", "norms"):
        layers = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
        linears = ARCHITECTURES[family].linears(adapter.targets)
        assert len(layers) == 2 * len(linears)  # two blocks
        assert all(re.fullmatch(rf".*\.layer\.[01]\.({'|'.join(linears)})", name) for name in layers)
        assert all(".default" in name for name in chosen)


def batch() -> dict[str, torch.Tensor]:
    rows = [torch.randint(5, 40, (length,), generator=torch.Generator().manual_seed(length)) for length in (30, 12, 1)]
    return pad_batch(rows, pad=0) | {"labels": torch.tensor([0, 1, 1])}


def gradients(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The logits of a pass, and the gradients that it leaves."""
    model.zero_grad()
    output = model(**batch())
    output.loss.backward()
    return output.logits.detach(), {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize(("strategy", "family"), pairs())
def test_the_first_token_alone_gives_the_same_logits_and_gradients(
    variant: Make, families: dict[str, str], strategy: str, family: str
) -> None:
    model = copy.deepcopy(shared(variant(strategy=strategy, model=families[family]).model_dump_json())).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # so that adapters do something
        for parameter in (parameter for parameter in model.parameters() if parameter.requires_grad):
            parameter += torch.randn(parameter.shape, generator=generator) * 0.05
    logits, narrow = gradients(model)
    hooked = [module for module in model.modules() if models._first_token in module._forward_pre_hooks.values()]
    assert len(hooked) == 2
    for module in hooked:
        module._forward_pre_hooks.clear()
    expected, wide = gradients(model)
    torch.testing.assert_close(logits, expected)
    assert narrow.keys() == wide.keys()
    for name, gradient in narrow.items():
        torch.testing.assert_close(gradient, wide[name], rtol=1e-4, atol=1e-6)


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
    assert (counts.trainable_backbone, counts.trainable_adapter, counts.trainable_head) == (backbone, adapter, 592_130)
    assert counts.total - counts.adapter == 66_955_010
    assert counts.as_dict()["trainable"] == counts.trainable == backbone + adapter + 592_130


@pytest.fixture(scope="module")
def distilbert() -> torch.nn.Module:
    """DistilBERT of full size with random weights."""
    model: torch.nn.Module = AutoModelForSequenceClassification.from_config(DistilBertConfig(num_labels=2))
    return model


def test_prefix_tuning_of_minilm_has_the_published_count() -> None:
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    plain = AutoModelForSequenceClassification.from_config(BertConfig(**shape))
    counts = count_parameters(apply_strategy(plain, Variant(strategy="prefix")))
    assert (counts.trainable_adapter, counts.trainable_head) == (73_728, 770)


# --- the modules and parameters of peft


def test_the_modules_to_adapt_can_be_named(variant: Make) -> None:
    model = make(variant(strategy="lora", target_modules=["lin1"]))
    assert all(".lin1." in name for name in trained(model) if "lora_" in name)


@pytest.mark.parametrize("targets", [["query"], ["sa_layer_norm"]])  # not DistilBERT's name; not a linear layer
def test_modules_that_cannot_be_adapted_are_one_clear_error(variant: Make, targets: list[str]) -> None:
    with pytest.raises(StudyError, match=f"target_modules = .*{targets[0]}"):
        make(variant(strategy="lora", target_modules=targets))


def test_any_parameter_of_peft_can_be_set_and_stays_as_it_was_asked_for(variant: Make) -> None:
    dora = make(variant(strategy="lora", peft={"use_dora": True}))
    assert count_parameters(dora) == count_parameters(make(variant(strategy="dora")))
    fewer = make(variant(strategy="prompt", peft={"num_virtual_tokens": 3}))
    assert count_parameters(fewer).trainable_adapter == 3 * 32
    make(asked := variant(strategy="lora", peft={"exclude_modules": ["nothing"], "rank_pattern": {}}))
    assert asked.peft == {"exclude_modules": ["nothing"], "rank_pattern": {}}


@pytest.mark.parametrize(
    ("strategy", "values", "said"),
    [
        ("lora", {"use_dorra": True}, "'lora', peft: unknown parameter 'use_dorra'; did you mean 'use_dora'"),
        ("lora", {"r": 6}, "unknown parameter 'r'"),  # lora_r says it
        ("ia3", {"modules_to_save": []}, "unknown parameter 'modules_to_save'"),
        ("prompt", {"num_virtual_tokens": "abc"}, "peft = .*num_virtual_tokens"),
        ("adalora", {"orth_reg_weight": -1}, "strategy = 'adalora', peft = .*orth_reg_weight"),
        ("hra", {"r": 0}, "strategy = 'hra', peft = .*positive"),
        ("miss", {"r": 64}, "strategy = 'miss', peft = .*less than or equal"),
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


@pytest.mark.parametrize(("length", "fits"), [(48, True), (49, False)])
def test_the_vectors_before_the_words_take_room_from_them(variant: Make, length: int, fits: bool) -> None:
    asked = variant(strategy="prompt", max_length=length)  # of 64 positions
    if fits:
        check([asked])
    else:
        with pytest.raises(StudyError, match=r"max_length = 49: .* at most 64 tokens, of which 'prompt' takes 16"):
            check([asked])


def test_every_strategy_cites_a_work_that_is_in_the_bibliography() -> None:
    known = re.findall(r"^@\w+\{([^,]+),", (paths.NOTEBOOKS / "references.bib").read_text(), re.MULTILINE)
    cited = [entry.citation for entry in STRATEGIES.values() if entry.citation]
    assert set(cited) <= set(known)
    assert len(cited) >= len(STRATEGIES) - 2


# --- what a strategy adds to the training


def test_lora_plus_learns_b_at_sixteen_times_the_rate_of_a(variant: Make, tmp_path: Path) -> None:
    asked = variant(strategy="lora-plus", learning_rate=1e-3, weight_decay=0.05)
    model = make(asked)
    optimizer = adapters.lora_plus(model, trainer.training_arguments(asked, 90, tmp_path))
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            assert rates[id(parameter)] == (1e-3, 0.05)
        elif "lora_B" in name:
            assert rates[id(parameter)] == (pytest.approx(1.6e-2), 0.05)
        else:
            assert (id(parameter) in rates) == parameter.requires_grad


def test_lora_plus_trains_with_its_own_optimizer_and_the_schedule_of_the_others(variant: Make, tmp_path: Path) -> None:
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


def test_a_study_can_set_the_schedule_of_adalora(variant: Make, tmp_path: Path) -> None:
    run = make_run(variant(strategy="adalora", epochs=1.0, peft={"tinit": 1, "tfinal": 3, "deltaT": 1}))
    run.train(tmp_path)
    config = run.model.peft_config["default"]
    assert (config.tinit, config.tfinal, config.deltaT) == (1, 3, 1)


class FirstIsBest(TrainerCallback):  # type: ignore[misc]
    """Lets no evaluation but the first be the best; the log keeps what was measured."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:
        if state.best_metric is not None:
            metrics["eval_loss"] = math.inf


@pytest.mark.parametrize(("strategy", "family"), {pair.values[0]: pair for pair in reversed(pairs())}.values())
def test_the_model_that_remains_is_the_selected_one_and_its_loss_the_cross_entropy(
    variant: Make, families: dict[str, str], tmp_path: Path, strategy: str, family: str
) -> None:
    asked = variant(strategy=strategy, model=families[family], learning_rate=None, evaluations=3, epochs=1, max_steps=4)
    run = make_run(asked)
    result, validation = run.train(tmp_path, FirstIsBest()), run.predict("validation")
    losses = validation_losses(result)
    assert result.figures["selected_step"] == min(losses) and len(losses) == 3
    assert losses[min(losses)] == pytest.approx(log_loss(validation.logits, validation.labels), abs=1e-5)


def test_a_schedule_of_adalora_that_leaves_no_step_is_refused(variant: Make, tmp_path: Path) -> None:
    run = make_run(variant(strategy="adalora", epochs=1.0, peft={"tinit": 6, "tfinal": 6}))
    with pytest.raises(StudyError, match="tinit = 6 and tfinal = 6 leave none of the 12 steps"):
        run.train(tmp_path)


# --- a strategy of one's own


@pytest.fixture
def first_layer_only() -> Iterator[str]:
    """A strategy from outside: one entry."""
    STRATEGIES["first-layer"] = Strategy(
        "First layer", "the first block and the head train", 1e-3, trains=lambda name, blocks: "layer.0." in name
    )
    yield "first-layer"
    del STRATEGIES["first-layer"]


def test_a_new_strategy_is_one_entry(variant: Make, first_layer_only: str, tmp_path: Path) -> None:
    run = make_run(variant(strategy=first_layer_only, learning_rate=None, epochs=1.0))
    assert run.variant.rate == 1e-3
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train(tmp_path)
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all("layer.0." in name or "classifier" in name for name in changed)
