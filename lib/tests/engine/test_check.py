"""What only models and data can tell of a study is refused before anything trains, all of it in one error."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from made_folders import edit_json, reviews, save_model, save_reviews
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from peft_study.engine.check import check
from peft_study.errors import StudyError
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant

Make = Callable[..., Variant]


def test_every_fault_that_only_models_and_data_can_tell_is_named_once_in_one_error(variant: Make) -> None:
    asked: dict[str, dict[str, Any]] = {
        "there is no folder /no/model": {"model": "/no/model"},
        "max_length = 65: .* reads at most 64 tokens": {"max_length": 65},
        "train_size = 5000: the pool has 200 labelled texts": {"train_size": 5000},
        "train_size = 4 .*leaves no text for validation": {"train_size": 4},
        "test_size = 61: there are only 60 texts": {"test_size": 61},
        "text_column = 'txt'": {"text_column": "txt"},
        "there is no folder /no/reviews": {"dataset": "/no/reviews"},
        "unknown bundled dataset 'imbd'; did you mean 'imdb'": {"ood_dataset": "bundled:imbd"},
    }
    with pytest.raises(StudyError) as error:
        check([variant(), *(variant(**fields, seed=seed) for fields in asked.values() for seed in (1, 2))])
    head, *faults = str(error.value).splitlines()
    assert head == f"there are {len(asked)} faults:"
    for pattern, fault in zip(asked, faults, strict=True):
        assert re.search(pattern, fault)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"model_type": "t5"}', "model type 't5' has an encoder and a decoder; use a model with one of them"),
        ('{"model_type": "bert"', r"config\.json does not load: .* not a valid JSON file"),
        ('{"hidden_size": 32}', r"config\.json does not load: .* Should have a `model_type` key in its config\.json"),
        ('{"model_type": "roberta", "max_position_embeddings": 514}', "at most 512 tokens"),  # less the padding's two
    ],
)
def test_the_configuration_of_a_model_is_heeded(variant: Make, tmp_path: Path, config: str, said: str) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "config.json").write_text(config)
    with pytest.raises(StudyError, match=said):
        check([variant(model=str(folder), max_length=513)])


def test_a_budget_that_leaves_out_a_class_is_refused_before_anything_trains(variant: Make, tmp_path: Path) -> None:
    rare = ["a", "b"] * 98 + ["c"] * 4
    folder = save_reviews(tmp_path / "rare", train=reviews(200).assign(label=rare))
    fields: dict[str, Any] = {"dataset": str(folder), "test_size": 20, "ood_dataset": None}
    check([variant(train_size=100, **fields)])
    with pytest.raises(StudyError, match="train_size = 20 leaves no text of 'c' to train on; raise it"):
        check([variant(train_size=20, **fields)])


# --- models


def edit(folder: Path, **values: Any) -> Path:
    """Change values of a model's configuration."""
    edit_json(folder / "config.json", **values)
    return folder


def add_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<user>", "<url>"])
    tokenizer.save_pretrained(folder)


def need_a_package(folder: Path) -> None:
    names = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "tokenizer.json").rename(folder / "vocab.txt")


def lose_the_vocabulary(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (folder / "tokenizer.json").rename(folder / "spiece.model")


def lose_the_frame(folder: Path) -> None:
    """Nothing is put before and after a text."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    edit_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")


def know_nothing_unknown(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zz"] = tokenizer["model"]["vocab"].pop("[UNK]")
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "[UNK]"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """A change of the weights, by their names."""

    def damage(folder: Path) -> None:
        change(tensors := load_file(folder / "model.safetensors"))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


VALUE = "encoder.layer.1.attention.self.value.weight"


@pytest.mark.parametrize(
    ("kind", "damage", "said"),
    [
        (
            "bert",
            add_tokens,
            r"its tokenizer has \d+ tokens and .* have \d+ rows; .*resize_token_embeddings",
        ),
        ("bert", need_a_package, "its tokenizer does not load .*fugashi.*; install the package"),
        ("bert", lose_the_vocabulary, "its tokenizer has no vocabulary"),
        (
            "bert",
            lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'),
            "an encoder and a decoder; use",
        ),
        ("bert", lambda folder: edit(folder, hidden_size=48), "the weights of .* do not match config.json"),
        ("bert", lambda folder: edit(folder, num_hidden_layers=3), "the weights of .* do not match config.json"),
        ("bert", lambda folder: edit(folder, hidden_size="wide"), "config.json does not load"),
        ("roberta", lambda folder: edit(folder, pad_token_id=1), "pads with token 0, and .* pad_token_id = 1"),
        ("roberta", lambda folder: edit(folder, pad_token_id=None), "pads with token 0, and .* pad_token_id = None"),
        ("bert", lose_the_frame, r"puts no token such as \[CLS\] before a text"),
        ("bert", know_nothing_unknown, r"cannot tokenise a text: .*\[UNK\]"),
        ("roberta", lambda folder: edit(folder, is_decoder=True), "config.json has is_decoder.*use an encoder"),
        (
            "bert",
            lambda folder: edit(folder, num_hidden_layers=1),
            r"16 tensors of blocks that config.json does not define, .*layer\.1",
        ),
        (
            "bert",
            weights(lambda all: all.update({VALUE.replace("value", "distance_embedding"): torch.ones(127, 16)})),
            "1 tensors of blocks that config.json does not define, the first .*distance_embedding",
        ),
        (
            "bert",
            weights(lambda all: all[VALUE][0].fill_(torch.nan)),
            f"{VALUE} in .* holds numbers that are not finite",
        ),
        ("bert", weights(lambda all: all[VALUE].zero_()), f"{VALUE} in .* holds nothing but zeros; .*fetch it again"),
        (
            "bert",
            weights(lambda all: all.update({VALUE: all[VALUE].to(torch.int8)})),
            f"{VALUE} in .* holds torch.int8",
        ),
    ],
)
def test_a_model_that_would_fail_or_mislead_in_training_is_refused(
    variant: Make, tmp_path: Path, kind: str, damage: Callable[[Path], object], said: str
) -> None:
    damage(folder := save_model(tmp_path / "model", kind))
    with pytest.raises(StudyError, match=said) as error:
        check([variant(model=str(folder), strategy=strategy, max_length=16) for strategy in ("full", "lora")])
    assert str(folder) in str(error.value) and len(str(error.value)) < 600


def test_a_window_ends_where_the_positions_of_a_roberta_do(variant: Make, families: dict[str, str]) -> None:
    """The first position is the number after that of the padding token: of 66 positions 65 are left."""
    check([variant(model=families["roberta"], max_length=65)])
    with pytest.raises(StudyError, match=r"max_length = 66: .* at most 65 tokens"):
        check([variant(model=families["roberta"], max_length=66)])


@pytest.mark.parametrize("family", ["distilbert", "bert", "roberta"])
def test_every_strategy_passes_the_check_of_every_family_in_seconds(
    variant: Make, families: dict[str, str], family: str
) -> None:
    names = [name for name, strategy in STRATEGIES.items() if family not in strategy.impossible]
    start = perf_counter()
    check([variant(strategy=name, model=families[family], learning_rate=None) for name in names])
    assert perf_counter() - start < 30  # one to three on an idle machine


@pytest.mark.parametrize("count", [0, -1, True, "16"])
def test_no_vectors_before_the_words_are_refused(variant: Make, count: Any) -> None:
    with pytest.raises(StudyError, match=f"num_virtual_tokens = {count!r}; it must be a whole number above 0"):
        check([variant(strategy="prompt", peft={"num_virtual_tokens": count})])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"strategy": "lora", "target_modules": ["query", "k_proj"]}, "target_modules = .* has no module 'k_proj'"),
        ({"strategy": "adalora", "peft": {"init_r": 0}}, r"peft = {'init_r': 0}: .*lora_A.* would be empty"),
        ({"strategy": "p-tuning", "peft": {"encoder_hidden_size": 0}}, "mlp_head.* would be empty"),
    ],
)
def test_an_adapter_of_which_a_part_would_be_absent_is_refused(
    variant: Make, tiny: dict[str, Path], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(StudyError, match=said):
        check([variant(model=str(tiny["bert"]), max_length=16, **fields)])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: edit(folder, pad_token_id=4), r"pads with number 0; the embeddings have \d+ rows, padding 4"),
        (lambda folder: swap_words(folder), r"100% of the tokens of the first \d+ texts are \[UNK\]"),
        (lambda folder: None, ""),
    ],
)
def test_signs_of_the_tokenizer_of_another_model_are_told(
    variant: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], said: str
) -> None:
    damage(folder := save_model(tmp_path / "model", "bert"))
    check([variant(model=str(folder), max_length=16)])
    assert re.search(said, told) if (told := capsys.readouterr().err) else not said


def swap_words(folder: Path) -> None:
    """A vocabulary of another script."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {word if word[0] == "[" else chr(0x4E00 + i): i for word, i in words.items()}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
