"""The parts of any classifier are found in the model, and the strategies work on them."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from peft_study.analysis.strategy_checks import MODEL_TYPES, check_all, tiny_model, toy_variant
from peft_study.errors import StudyError
from peft_study.strategies.encoders import find_parts, pattern, set_dropout
from peft_study.training import model as models

STRATEGIES = ("last2", "bitfit", "lora", "lora-all", "ia3")  # each trains other parts; full is checked beside them
WHOLE = {"gpt2", "llama"}  # which classify at the last token
NO_BIAS = {"eurobert", "gemma3_text", "llama", "modernbert", "phi3", "qwen3", "smollm3"}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_strategies_train_save_load_and_merge_on_a_model_type(model_type: str, tmp_path: Path) -> None:
    folder = tiny_model(model_type, tmp_path / "model")
    faults = {row["strategy"]: row["fault"] for row in check_all(str(folder), STRATEGIES)}
    if model_type in NO_BIAS:
        assert "has no parameter that it would train; full, head and lora-all work on it" in faults.pop("bitfit")
    assert list(faults.values()) == [""] * len(faults), faults


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        ("t5", "has an encoder and a decoder"),
        ("ibert", "has no blocks with linear layers"),
        ("vit", "transformers builds no sequence classifier of model type 'vit'"),
    ],
)
def test_a_model_type_that_cannot_work_is_refused_with_the_reason(model_type: str, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        find_parts(AutoConfig.for_model(model_type))


def test_an_encoder_without_attention_weights_is_refused_by_the_methods_that_adapt_them(tmp_path: Path) -> None:
    folder = tiny_model("fnet", tmp_path / "model")
    with pytest.raises(StudyError, match=r"'lora', model type 'fnet' has no query-value layers .* lora-all work on it"):
        models.build(folder, toy_variant(str(folder), "lora"))
    models.build(folder, toy_variant(str(folder), "lora-all"))


@pytest.mark.parametrize("model_type", ["bert", "deberta-v2", "esm", "modernbert", "mpnet", "xlm", *sorted(WHOLE)])
def test_the_last_block_is_restricted_to_the_first_token_only_if_the_logits_stay(
    model_type: str, tmp_path: Path
) -> None:
    folder = tiny_model(model_type, tmp_path / "model")
    model = models.build(folder, toy_variant(str(folder), "lora")).eval()
    hooked = [module for module in model.modules() if models._first_token in module._forward_pre_hooks.values()]
    assert bool(hooked) == (model_type not in WHOLE)
    batch = {"input_ids": torch.tensor([[1, 6, 7, 8, 9, 2], [1, 5, 4, 2, 0, 0]])}
    batch["attention_mask"] = batch["input_ids"].ne(0).long()
    logits = model(**batch).logits
    torch.testing.assert_close(logits, models.read_every_token(model)(**batch).logits)
    assert not any(models._first_token in module._forward_pre_hooks.values() for module in hooked)


class PlainConfig(PretrainedConfig):  # type: ignore[misc]
    """Of a model type that is registered here, as a package outside of transformers would."""

    model_type = "plain-mixer"
    num_hidden_layers, hidden_size, vocab_size, some_dropout = 2, 32, 64, 0.1


class Plain(PreTrainedModel):  # type: ignore[misc]
    """Blocks of linear layers over word embeddings, and a head on their mean."""

    config_class, base_model_prefix = PlainConfig, "body"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.body = torch.nn.ModuleDict({"embeddings": torch.nn.Embedding(config.vocab_size, config.hidden_size)})
        blocks = [{name: torch.nn.Linear(32, 32) for name in ("q_proj", "v_proj")} for _ in range(2)]
        self.body["stages"] = torch.nn.ModuleList(torch.nn.ModuleDict({"attn": torch.nn.ModuleDict(b)}) for b in blocks)
        self.top = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None, **_: Any) -> Any:
        states = self.body["embeddings"](input_ids)
        for block in self.body["stages"]:
            attention = block["attn"]
            states = states + attention["v_proj"](torch.tanh(attention["q_proj"](states)))
        logits = self.top(states.mean(dim=1))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def test_a_model_type_from_outside_that_follows_the_rule_takes_no_line_of_code(tmp_path: Path) -> None:
    AutoConfig.register("plain-mixer", PlainConfig)
    AutoModelForSequenceClassification.register(PlainConfig, Plain)
    folder = tiny_model("plain-mixer", tmp_path / "model")
    assert [row["fault"] for row in check_all(str(folder), ["full", "last2", "bitfit", "lora", "lora-all"])] == [""] * 5


def test_a_layer_is_matched_in_every_block_or_in_one_and_nowhere_else() -> None:
    parts = find_parts(BertConfig())
    every, last = (re.compile(pattern(parts.modules("query-value"), number)) for number in (r"\d+", "11"))
    first_query, last_value = "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.11.attention.self.value"
    assert every.fullmatch(first_query) and every.fullmatch(f"base_model.model.{last_value}")
    assert last.fullmatch(last_value) and not last.fullmatch(first_query)
    assert not every.fullmatch("bert.encoder.layer.11.attention.output.dense")


def test_dropout_of_the_encoder_is_set_and_that_of_the_head_stays() -> None:
    config = AutoConfig.for_model("distilbert")
    set_dropout(config, 0.0)
    assert (config.dropout, config.attention_dropout, config.seq_classif_dropout) == (0.0, 0.0, 0.2)
