"""Which head a run starts from, what a strategy needs of the weights, and a saved model loaded again."""

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    pipeline,
)

from peft_study.analysis.strategy_checks import tiny_model
from peft_study.data.tokenization import load_tokenizer
from peft_study.engine.check import check
from peft_study.errors import StudyError
from peft_study.records.write import save_model
from peft_study.study.variant import Variant
from peft_study.training.model import build, load, merged

Make = Callable[..., Variant]
DESKS = ("access", "billing", "hardware", "network", "travel")
FAMILIES = ("distilbert", "bert", "roberta")


def save_classifier(folder: Path, encoder: str, names: tuple[str, ...] = (), count: int = 0, **settings: Any) -> str:
    """A finished classifier on an encoder, with classes of these names, or of none; its head is unlike a new one."""
    shutil.copytree(encoder, folder)
    labels: Any = {"num_labels": count} if count else {"id2label": dict(enumerate(names))}
    network = AutoModelForSequenceClassification.from_pretrained(encoder, **labels, **settings)
    with torch.no_grad():
        for value in head(network).values():
            value += 3
    network.save_pretrained(folder)
    return str(folder)


def head(network: Any) -> dict[str, torch.Tensor]:
    """The weights of a plain model's head."""
    return {name: value for name, value in network.state_dict().items() if "classifier" in name}


def randomised(network: Any) -> Any:
    """A model whose trained weights have moved."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (parameter for parameter in network.parameters() if parameter.requires_grad):
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    return network.eval()


def differing_weights(folder: Path, model_type: str, saved: str) -> Path:
    """Weights that are not of a classifier of two classes: of its `language` model or token classes, or of others."""
    own: dict[str, dict[str, Any]] = {
        "three classes": {"id2label": dict(enumerate(("hate", "offensive", "neither")))},
        "other classes": {"id2label": {0: "spam", 1: "ham"}},
        "regression": {"num_labels": 1, "problem_type": "regression"},
        "several classes a text": {"num_labels": 2, "problem_type": "multi_label_classification"},
    }
    language = AutoModelForCausalLM if model_type == "gpt2" else AutoModelForMaskedLM
    kind = {"language": language, "token classes": AutoModelForTokenClassification}
    config = AutoConfig.from_pretrained(tiny_model(model_type, folder), **own.get(saved, {}))
    kind.get(saved, AutoModelForSequenceClassification).from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("model_type", "saved"),
    [
        *product(["bert", "roberta", "distilbert", "modernbert", "deberta-v2", "gpt2"], ["three classes", "language"]),
        *product(["bert"], ["other classes", "regression", "several classes a text", "token classes"]),
        ("roberta", "token classes"),
    ],
)
def test_a_new_head_replaces_what_the_weights_have_and_trains_with_all_that_they_lack(
    variant: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], model_type: str, saved: str
) -> None:
    folder = differing_weights(tmp_path / "weights", model_type, saved)
    asked = variant(model=str(folder), max_length=16)
    check([asked])
    notes = capsys.readouterr().err
    network: Any = build(folder, asked, ("ham", "spam"))
    without = saved == "language" or (saved == "token classes" and model_type in ("roberta", "gpt2"))
    assert ("has a classification head; every run starts from a new one" in notes) != without
    assert ("lack the pooler" in notes) == (model_type == "bert" and saved in ("language", "token classes"))
    stored = load_file(folder / "model.safetensors")
    trained = {name for name, value in network.named_parameters() if value.requires_grad and "lora_" not in name}
    names = {name: name.removeprefix("base_model.model.").replace(".modules_to_save.default", "") for name in trained}
    own = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)[1]
    assert set(own["missing_keys"]) <= set(names.values()), "what the weights lack is new, and trains"
    for name, plain in names.items():
        same = plain in stored and torch.equal(network.get_parameter(name), stored[plain])
        assert not same or without or plain.endswith(("bias", "norm.weight")), f"{plain} is that of other classes"
    assert network.config.id2label == {0: "ham", 1: "spam"} and network.config.num_labels == 2
    randomised(network)
    inputs = {"input_ids": torch.tensor([[5, 6], [7, 8]]), "labels": torch.tensor([0, 1])}
    output = network(**inputs)
    loss = torch.nn.functional.cross_entropy(output.logits, inputs["labels"])
    assert output.logits.shape == (2, 2) and output.loss.item() == pytest.approx(loss.item())
    save_model(tmp_path / "model", network, load_tokenizer(asked), asked)
    torch.testing.assert_close(load(tmp_path / "model")(**inputs).logits, output.logits)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("own", [{"names": ("Negative", "Positive")}, {"count": 2}])
def test_a_head_of_the_same_classes_can_be_kept(
    variant: Make, families: dict[str, str], tmp_path: Path, family: str, own: dict[str, Any]
) -> None:
    classifier = save_classifier(tmp_path / "classifier", families[family], **own)
    asked = variant(model=classifier, strategy="full", keep_head=True)
    check([asked])
    network = build(classifier, asked)
    kept = AutoModelForSequenceClassification.from_pretrained(classifier)
    assert all(torch.equal(value, head(kept)[name]) for name, value in head(network).items())
    assert network.config.id2label == {0: "negative", 1: "positive"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"names": ("positive", "negative")}, r"\['positive', 'negative'\] and the task \['negative', 'positive'\]"),
        ({"names": ("spam", "ham")}, "label_names renames or reorders"),
        ({"names": ("a", "b", "c")}, "does not distinguish 2 classes of texts; set keep_head"),
        ({"count": 2, "problem_type": "regression"}, "does not distinguish 2 classes"),
        ({}, "is absent"),
    ],
)
def test_a_head_of_other_classes_is_not_kept_and_that_is_said_before_training(
    variant: Make, tiny: dict[str, Path], tmp_path: Path, own: dict[str, Any], said: str
) -> None:
    model = save_classifier(tmp_path / "own", str(tiny["bert"]), **own) if own else str(tiny["bert"])
    asked = variant(model=model, keep_head=True)
    for refuse in (lambda: check([asked]), lambda: build(model, asked)):
        with pytest.raises(StudyError, match=f"keep_head: .*{said}"):
            refuse()


@pytest.mark.parametrize("strategy", ["full", "lora", "lora-all", "prompt"])
@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_a_saved_model_says_which_classes_it_has_wherever_it_is_copied(
    variant: Make, families: dict[str, str], tmp_path: Path, strategy: str, family: str
) -> None:
    odd = tmp_path / "größe [1] {a} 'b' \"c\" & d"
    base = save_classifier(odd / "base", families[family], ("hate", "offensive", "neither"))
    asked = variant(model=base, strategy=strategy)
    network, tokenizer = randomised(build(base, asked, DESKS)), load_tokenizer(asked)
    save_model(odd / "model", network, tokenizer, asked)
    copied = Path(shutil.copytree(odd / "model", tmp_path / "copied [2]"))
    batch = tokenizer(["good film", "a dull plot with no end"], padding=True, return_tensors="pt")
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected, names = network(**batch).logits, dict(enumerate(DESKS))
    models = [load(copied)]
    if strategy == "full":
        models += [
            AutoModelForSequenceClassification.from_pretrained(copied),
            pipeline("text-classification", str(copied)).model,
        ]
    elif strategy.startswith("lora"):
        config = AutoConfig.from_pretrained(copied / "classifier_config.json")
        options = {"config": config, "ignore_mismatched_sizes": True}
        models.append(AutoModelForSequenceClassification.from_pretrained(copied, **options))
        merged(load(copied)).save_pretrained(odd / "merged")  # type: ignore[operator]
        models.append(AutoModelForSequenceClassification.from_pretrained(odd / "merged"))
    for loaded in models:
        assert loaded.config.id2label == names and loaded.config.label2id == {name: i for i, name in names.items()}
        assert loaded.config.problem_type == "single_label_classification"
        torch.testing.assert_close(loaded.eval()(**batch).logits, expected, rtol=1e-4, atol=1e-5)


def test_an_adapter_without_the_names_of_its_classes_is_refused_unless_they_are_given(
    variant: Make, tiny: dict[str, Path], tmp_path: Path
) -> None:
    asked = variant(model=str(tiny["bert"]))
    save_model(tmp_path / "model", build(tiny["bert"], asked, DESKS), load_tokenizer(asked), asked)
    (tmp_path / "model" / "classifier_config.json").unlink()
    with pytest.raises(StudyError, match="holds an adapter and no classifier_config"):
        load(tmp_path / "model")
    assert load(tmp_path / "model", DESKS).config.label2id["billing"] == 1  # type: ignore[union-attr,index]


@pytest.mark.parametrize("strategy", ["lora", "prompt"])
def test_an_adapter_does_not_load_with_other_classes_or_without_its_base(
    variant: Make, tiny: dict[str, Path], tmp_path: Path, strategy: str
) -> None:
    base, run = Path(shutil.copytree(tiny["bert"], tmp_path / "base")), tmp_path / "run" / "model"
    asked = variant(model=str(base), strategy=strategy)
    save_model(run, build(base, asked, DESKS), load_tokenizer(asked), asked)
    with pytest.raises(StudyError, match=f"{run} does not load on {base}: .*size mismatch"):
        load(run, ("ham", "spam"))
    shutil.rmtree(base)
    with pytest.raises(StudyError, match=f"{run} does not load on {base}: "):
        load(run)


def test_weights_in_half_precision_are_trained_in_float32(variant: Make, tiny: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tiny["bert"], tmp_path / "half")
    AutoModelForSequenceClassification.from_pretrained(tiny["bert"], dtype="float16").save_pretrained(tmp_path / "half")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    asked = variant(model=str(tmp_path / "half"))
    check([asked])
    assert {parameter.dtype for parameter in build(tmp_path / "half", asked).parameters()} == {torch.float32}
