"""Gradient × input: on a linear model it is exact; on any model it names words, in the window that the model reads."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from peft_study.data import tokenization
from peft_study.study.variant import Variant
from peft_study.training import model as models
from peft_study.training import trainer as training
from peft_study.training.attribution import explain, gradient_times_input

BIAS = 0.25


class Linear(torch.nn.Module):
    """A bag of words: the log-odds are the sum of the words' own weights, and a constant."""

    def __init__(self, words: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(words, 5)
        self.words.requires_grad_(False)
        self.head = torch.nn.Linear(5, 2)
        self.head.bias.data = torch.tensor([0.0, BIAS])

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.words

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return SimpleNamespace(logits=self.head(self.words(input_ids).sum(dim=1)))


def test_the_contributions_to_a_linear_model_add_up_to_its_score_less_its_constant() -> None:
    logits, contributions = gradient_times_input(Linear(10), [1, 2, 2, 7])
    assert contributions.shape == (4,)
    assert contributions.sum() == pytest.approx(logits[1] - logits[0] - BIAS, abs=1e-5)


def test_the_contribution_to_a_linear_model_is_the_words_own_weight_wherever_it_stands() -> None:
    model = Linear(10)
    weights = (model.words.weight @ (model.head.weight[1] - model.head.weight[0])).detach().numpy()
    for ids in ([1, 2, 3], [3, 1, 2, 2]):
        assert gradient_times_input(model, ids)[1] == pytest.approx(weights[ids], abs=1e-6)


def test_a_word_keeps_its_share_behind_a_layer_normalisation_though_that_ignores_its_scale() -> None:
    model = Linear(10)
    norm = torch.nn.LayerNorm(5)
    model.forward = lambda input_ids, attention_mask: SimpleNamespace(  # type: ignore[method-assign]
        logits=model.head(norm(model.words(input_ids)).sum(dim=1))
    )
    model.norm = norm
    shares = (norm(model.words.weight) @ (model.head.weight[1] - model.head.weight[0])).detach().numpy()
    found = gradient_times_input(model, [1, 2, 3])[1]
    assert found == pytest.approx(shares[[1, 2, 3]], abs=1e-5) and np.abs(found).max() > 0.01
    assert not norm._forward_hooks


def test_a_model_is_left_as_it_was() -> None:
    model = Linear(10)
    before = [parameter.clone() for parameter in model.parameters()]
    first = gradient_times_input(model, [1, 2])[1]
    assert all(torch.equal(old, new) and new.grad is None for old, new in zip(before, model.parameters(), strict=True))
    assert not model.words._forward_hooks
    assert (gradient_times_input(model, [1, 2])[1] == first).all()


@pytest.fixture
def prepared(variant: Callable[..., Variant]) -> Callable[..., training.Prepared]:
    return lambda **changes: training.prepare(variant(**changes))


@pytest.mark.parametrize("strategy", ["full", "lora", "prompt"])
def test_every_kind_of_strategy_can_be_explained(strategy: str, prepared: Callable[..., training.Prepared]) -> None:
    run = prepared(strategy=strategy)
    text = "the film was superb , unbelievable"
    found = explain(run.model, run.tokenizer, text, 32, "head")
    assert [text[start:end] for start, end, _ in found.words] == text.split()
    assert np.isfinite(found.contributions).all() and np.abs(found.contributions).max() > 0
    logits = run.model(torch.tensor([found.window.input_ids])).logits[0]
    assert found.log_odds == pytest.approx(float((logits[1] - logits[0]).detach()), abs=1e-5)
    assert found.target == 1 and found.label == int(logits.argmax())
    assert found.confidence == pytest.approx(float(logits.softmax(0).max().detach()), abs=1e-5)


def test_a_word_is_the_sum_of_its_pieces(prepared: Callable[..., training.Prepared]) -> None:
    run = prepared()
    found = explain(run.model, run.tokenizer, "good zebra", 32, "head")
    assert len(found.window.input_ids) > 2 + len(found.words) == 4
    inside = [share for span, share in zip(found.window.spans, found.contributions, strict=True) if span]
    assert sum(share for *_, share in found.words) == pytest.approx(sum(inside), abs=1e-6)


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
def test_a_window_is_what_the_training_reads_of_the_same_text(
    truncation: str, prepared: Callable[..., training.Prepared]
) -> None:
    run = prepared(max_length=16)
    table = run.tables["train"]
    tokens = tokenization.tokenize_texts(run.corpus.splits["train"], run.tokenizer)
    for row, text in table[["id", "text"]].head(20).itertuples(index=False):
        read = tokenization.window(text, run.tokenizer, 16, truncation)
        assert read.input_ids == tokens.encode(row, 16, truncation).tolist()
        assert read.total == tokens.lengths[row] and read.is_cut == (read.total > 16)
        assert len(read.spans) == len(read.words) == len(read.input_ids)


def test_a_saved_model_explains_as_the_trained_one_did(
    prepared: Callable[..., training.Prepared], tmp_path: Path
) -> None:
    from peft_study.records.write import save_model

    run = prepared()
    save_model(tmp_path / "model", run)
    ids = run.examples["test"][0]["input_ids"]
    logits, contributions = gradient_times_input(models.load(tmp_path / "model"), ids)
    expected = gradient_times_input(run.model, ids)
    assert logits == pytest.approx(expected[0], abs=1e-5) and contributions == pytest.approx(expected[1], abs=1e-5)
