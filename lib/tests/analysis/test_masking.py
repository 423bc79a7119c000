"""Masking one word at a time: every figure is that of a forward pass without the word, for any strategy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peft_study.analysis.masking import explain
from peft_study.analysis.windows import window
from peft_study.data.reviews import load_reviews
from peft_study.data.tokenization import load_tokenizer, tokenize_texts
from peft_study.study.variant import Variant
from peft_study.training import prediction
from peft_study.training.model import build

TEXT = "the film was superb , unbelievable"
Make = Callable[..., Variant]


def built(variant: Variant, labels: tuple[str, ...] = ("negative", "positive")) -> tuple[torch.nn.Module, Any]:
    return build(variant.model, variant, labels), load_tokenizer(variant)


def score(model: torch.nn.Module, ids: list[int], target: int) -> float:
    """The log-odds of a class by a forward pass, computed from the probabilities."""
    with torch.no_grad():
        chance = model.eval()(torch.tensor([ids])).logits[0].double().softmax(0)[target]
    return float(torch.log(chance / (1 - chance)))


@pytest.mark.parametrize(
    ("strategy", "mask", "labels"),
    [("full", "mask_token_id", "ab"), ("prompt", "unk_token_id", "ab"), ("lora", "mask_token_id", "abc")],
)
def test_an_effect_is_what_a_forward_pass_without_the_word_changes(
    strategy: str, mask: str, labels: str, variant: Make
) -> None:
    model, tokenizer = built(variant(strategy=strategy), tuple(labels))
    if mask == "unk_token_id":
        tokenizer.mask_token = None
    verdict = explain(model, tokenizer, TEXT, 32, "head")
    target = 1 if len(labels) == 2 else verdict.label
    assert [TEXT[start:end] for start, end, _ in verdict.words] == TEXT.split()
    ids, words = verdict.window.input_ids, verdict.window.words
    assert words.count(5) > 1, "no word of several pieces"
    assert verdict.target == target and verdict.label == int(verdict.logits.argmax())
    assert verdict.log_odds == pytest.approx(score(model, ids, target), abs=1e-5)
    assert verdict.confidence == pytest.approx(1 / (1 + np.exp(-score(model, ids, verdict.label))), abs=1e-6)
    for number, (*_, effect) in enumerate(verdict.words):
        without = [getattr(tokenizer, mask) if word == number else i for i, word in zip(ids, words, strict=True)]
        assert effect == pytest.approx(verdict.log_odds - score(model, without, target), abs=1e-5)
    nothing = [i if word is None else getattr(tokenizer, mask) for i, word in zip(ids, words, strict=True)]
    assert verdict.log_odds_without == pytest.approx(score(model, nothing, target), abs=1e-5)
    assert max(abs(effect) for *_, effect in verdict.words) > 0.01


def test_neither_batches_nor_autocast_nor_dropout_change_an_effect(
    variant: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = built(variant())
    first = explain(model, tokenizer, TEXT, 32, "head")
    before = [parameter.clone() for parameter in model.parameters()]
    monkeypatch.setattr(prediction, "classified_at_once", lambda device, tokens: 2)
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.allclose(first.words, explain(model, tokenizer, TEXT, 32, "head").words, atol=1e-5)
    assert all(torch.equal(old, new) and new.grad is None for old, new in zip(before, model.parameters(), strict=True))


def test_a_text_without_words_has_a_verdict_and_words_outside_the_window_have_no_effect(variant: Make) -> None:
    model, tokenizer = built(variant())
    verdict = explain(model, tokenizer, " \n", 32, "head")
    assert verdict.words == [] and verdict.log_odds == verdict.log_odds_without and np.isfinite(verdict.logits).all()
    words = explain(model, tokenizer, "good bad dull fine film plot some long", 6, "head+tail").words
    assert [(start, end) for start, end, _ in words] == [(0, 4), (24, 28), (29, 33), (34, 38)]


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
def test_a_window_is_what_the_training_reads_of_the_same_text(truncation: str, variant: Make) -> None:
    reviews = load_reviews(small := variant(max_length=16))
    tokenizer = load_tokenizer(small)
    tokens = tokenize_texts(reviews.corpus.splits["train"], tokenizer)
    for row, text in reviews.train[["id", "text"]].head(20).itertuples(index=False):
        read = window(text, tokenizer, 16, truncation)
        assert read.input_ids == tokens.encode(row, 16, truncation)["input_ids"].tolist()
        assert read.total == tokens.lengths[row] and read.is_cut == (read.total > 16)
        assert len(read.spans) == len(read.words) == len(read.input_ids)
