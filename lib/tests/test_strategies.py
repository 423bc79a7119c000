"""What each strategy trains, counted, and that building repeats itself."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_folders import save_model, save_tokenizer

from peft_study import strategies
from peft_study.config import Variant
from peft_study.data import LABELS
from peft_study.errors import StudyError
from peft_study.strategies import ARCHITECTURES, STRATEGIES, Strategy, build, count_parameters

Make = Callable[..., Variant]
FAMILIES = ["distilbert", "bert", "roberta"]


def make(variant: Variant) -> torch.nn.Module:
    """The model of a variant of a folder."""
    return build(variant.model, variant, LABELS)


def trained(model: torch.nn.Module) -> set[str]:
    """The names of the parameters that train."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture(scope="session")
def families(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny model of every supported family."""
    from transformers import RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("roberta")
    config = RobertaConfig(
        vocab_size=save_tokenizer(folder, "bert"),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return {kind: str(tiny[kind]) for kind in ("distilbert", "bert")} | {"roberta": str(folder)}


# --- parameters


@pytest.mark.parametrize(
    ("strategy", "backbone", "adapter", "trainable"),
    [
        ("full", 66_362_880, 0, 66_955_010),
        ("head", 0, 0, 592_130),
        ("bitfit", 51_456, 0, 643_586),
        ("lora", 0, 147_456, 739_586),
        ("lora-all", 0, 663_552, 1_255_682),
    ],
)
def test_distilbert_of_full_size_has_the_published_counts(
    strategy: str, backbone: int, adapter: int, trainable: int
) -> None:
    from transformers import AutoModelForSequenceClassification, DistilBertConfig

    with torch.device("meta"):
        plain = AutoModelForSequenceClassification.from_config(DistilBertConfig(num_labels=2))
        model = STRATEGIES[strategy].prepare(plain, Variant(strategy=strategy))
    counts = count_parameters(model)
    assert (counts.trainable_backbone, counts.trainable_adapter, counts.trainable_head) == (backbone, adapter, 592_130)
    assert counts.trainable == trainable
    assert counts.total == 66_955_010 + adapter
    assert counts.as_dict()["trainable"] == trainable


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_the_head_always_trains_and_the_model_stays_the_same(
    variant: Make, families: dict[str, str], family: str, strategy: str
) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    counts = count_parameters(make(variant(model=families[family], strategy=strategy)))
    plain = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(families[family]))
    assert counts.total - counts.adapter == sum(parameter.numel() for parameter in plain.parameters())
    assert counts.trainable_head == counts.head > 0
    assert counts.trainable_adapter == counts.adapter


@pytest.mark.parametrize("family", FAMILIES)
def test_full_trains_everything_and_head_only_the_head(variant: Make, families: dict[str, str], family: str) -> None:
    full = make(variant(model=families[family], strategy="full"))
    assert trained(full) == {name for name, _ in full.named_parameters()}
    head = trained(make(variant(model=families[family], strategy="head")))
    assert {name.split(".")[0] for name in head} == set(ARCHITECTURES[family].head)


@pytest.mark.parametrize("family", FAMILIES)
def test_bitfit_trains_the_biases_and_the_head(variant: Make, families: dict[str, str], family: str) -> None:
    names = trained(make(variant(model=families[family], strategy="bitfit")))
    backbone = {name for name in names if name.split(".")[0] not in ARCHITECTURES[family].head}
    everything = {name for name, _ in make(variant(model=families[family], strategy="full")).named_parameters()}
    assert backbone == {name for name in everything if name.endswith(".bias") and name not in names - backbone}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("strategy", "per_layer"), [("lora", 2), ("lora-all", 6)])
def test_lora_adapts_the_linears_of_every_block_and_nothing_else(
    variant: Make, families: dict[str, str], family: str, strategy: str, per_layer: int
) -> None:
    model = make(variant(model=families[family], strategy=strategy, lora_r=4))
    adapted = {name.split(".lora_")[0] for name in trained(model) if "lora_" in name}
    assert len(adapted) == 2 * per_layer  # two blocks
    assert all(".layer." in name for name in adapted)
    heads = {name for name in trained(model) if "lora_" not in name}
    assert all("modules_to_save" in name for name in heads)
    ranks = {parameter.shape[0] for name, parameter in model.named_parameters() if "lora_A" in name}
    assert ranks == {4}


def test_the_modules_to_adapt_can_be_named(variant: Make) -> None:
    model = make(variant(strategy="lora", target_modules=["lin1"]))
    assert all(".lin1." in name for name in trained(model) if "lora_" in name)


@pytest.mark.parametrize("targets", [["query"], ["sa_layer_norm"]])  # not DistilBERT's name; not a linear layer
def test_modules_that_cannot_be_adapted_are_one_clear_error(variant: Make, targets: list[str]) -> None:
    with pytest.raises(StudyError, match=f"target_modules = .*{targets[0]}"):
        make(variant(strategy="lora", target_modules=targets))


def test_an_unknown_architecture_is_one_clear_error(variant: Make, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "electra"}))
    with pytest.raises(StudyError, match="'electra' is not supported; supported: distilbert, bert, roberta"):
        make(variant(model=str(folder)))


# --- initial weights


def difference(one: torch.nn.Module, other: torch.nn.Module) -> set[str]:
    """The names of the parameters that are not equal, bit for bit."""
    pairs = zip(one.named_parameters(), other.parameters(), strict=True)
    return {name for (name, a), b in pairs if not torch.equal(a, b)}


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_the_same_seed_gives_the_same_model_bit_for_bit(variant: Make, strategy: str) -> None:
    torch.manual_seed(1)
    first = make(variant(strategy=strategy, seed=5))
    torch.manual_seed(2)
    assert difference(first, make(variant(strategy=strategy, seed=5))) == set()


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_another_seed_gives_another_head_and_adapter_and_the_same_backbone(variant: Make, strategy: str) -> None:
    changed = difference(make(variant(strategy=strategy, seed=5)), make(variant(strategy=strategy, seed=6)))
    matrices = {name for name in changed if "classifier" in name or "lora_A" in name}
    assert matrices == changed
    assert any("classifier" in name and "weight" in name for name in changed)
    assert any("lora_A" in name for name in changed) == (strategy == "lora")


def test_the_backbone_is_that_of_the_folder(variant: Make) -> None:
    from transformers import DistilBertModel

    asked = variant(strategy="full")
    assert difference(DistilBertModel.from_pretrained(asked.model), make(asked).distilbert) == set()  # type: ignore[arg-type]


# --- dropout


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_set_throughout_or_left_to_the_model(variant: Make, families: dict[str, str], family: str) -> None:
    def rates(dropout: float | None) -> set[float]:
        model = make(variant(model=families[family], strategy="full", dropout=dropout))
        named = {getattr(model.config, name) for name in ARCHITECTURES[family].dropouts}  # type: ignore[union-attr]
        modules = {m.p for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout) and "layer" in n}
        assert modules <= named
        return named

    assert rates(0.0) == {0.0}
    assert rates(0.37) == {0.37}
    assert rates(None) == {0.1}


# --- weights that are not the model's


def test_damaged_weights_are_one_clear_error(variant: Make, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(StudyError, match=r"the weights in .*model do not load"):
        make(variant(model=str(folder)))


def test_weights_of_another_model_are_refused_rather_than_drawn_at_random(variant: Make, tmp_path: Path) -> None:
    bert, distilbert = save_model(tmp_path / "bert", "bert"), save_model(tmp_path / "distilbert", "distilbert")
    (bert / "model.safetensors").write_bytes((distilbert / "model.safetensors").read_bytes())
    with pytest.raises(StudyError, match=r"are of another model: .* absent"):
        make(variant(model=str(bert)))


def test_weights_of_other_shapes_are_refused(variant: Make, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(StudyError, match="do not load"):
        make(variant(model=str(folder)))


def test_a_pickle_beside_the_weights_is_never_opened(variant: Make, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "distilbert")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    make(variant(model=str(folder)))
    assert not (tmp_path / "owned").exists()


# --- a strategy of one's own


@pytest.fixture
def first_layer_only() -> Iterator[str]:
    """A strategy from outside: one entry."""

    def prepare(model: Any, variant: Variant) -> torch.nn.Module:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "layer.0." in name or "classifier" in name
        return model

    strategies.STRATEGIES["first-layer"] = Strategy("First layer", "the first block and the head train", 1e-3, prepare)
    yield "first-layer"
    del strategies.STRATEGIES["first-layer"]


def test_a_new_strategy_is_one_entry(variant: Make, first_layer_only: str, tmp_path: Path) -> None:
    from peft_study import training

    asked = variant(strategy=first_layer_only, learning_rate=None, epochs=1.0)
    assert asked.rate == 1e-3
    prepared = training.prepare(asked)
    before = {name: value.clone() for name, value in prepared.model.state_dict().items()}
    training.train(prepared, tmp_path)
    changed = {name for name, value in prepared.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("layer.0." in name or "classifier" in name for name in changed)
