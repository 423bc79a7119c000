"""Masking one word at a time: every figure is that of a forward pass without the word, for any strategy and encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peft_study.data.reviews import load_reviews
from peft_study.data.tokenization import load_tokenizer, tokenize_texts, window
from peft_study.study.variant import Variant
from peft_study.training import masking
from peft_study.training.masking import explain, log_odds
from peft_study.training.model import build, load

TEXT = "the film was superb , unbelievable"
Make = Callable[..., Variant]


def built(variant: Variant, labels: tuple[str, ...] = ("negative", "positive")) -> tuple[torch.nn.Module, Any]:
    return build(variant.model, variant, labels), load_tokenizer(variant)


def score(model: torch.nn.Module, ids: list[int], target: int) -> float:
    """The log-odds of a class by a forward pass, computed from the probabilities."""
    with torch.no_grad():
        chance = model.eval()(torch.tensor([ids])).logits[0].double().softmax(0)[target]
    return float(torch.log(chance / (1 - chance)))


@pytest.mark.parametrize("strategy", ["full", "lora", "prompt"])
def test_an_effect_is_what_a_forward_pass_without_the_word_changes(strategy: str, variant: Make) -> None:
    model, tokenizer = built(variant(strategy=strategy))
    verdict = explain(model, tokenizer, TEXT, 32, "head")
    assert [TEXT[start:end] for start, end, _ in verdict.words] == TEXT.split()
    ids, words = verdict.window.input_ids, verdict.window.words
    assert verdict.target == 1 and verdict.log_odds == pytest.approx(score(model, ids, 1), abs=1e-5)
    for number, (*_, effect) in enumerate(verdict.words):
        without = [tokenizer.mask_token_id if word == number else i for i, word in zip(ids, words, strict=True)]
        assert without != ids
        assert effect == pytest.approx(verdict.log_odds - score(model, without, 1), abs=1e-5)
    assert max(abs(effect) for *_, effect in verdict.words) > 0.01


def test_all_pieces_of_a_word_are_masked_at_once(variant: Make) -> None:
    model, tokenizer = built(variant())
    verdict = explain(model, tokenizer, "good zebra", 32, "head")
    assert len(verdict.words) == 2 and verdict.window.words.count(1) == 5
    start, *_, end = verdict.window.input_ids
    without = [start, verdict.window.input_ids[1], *[tokenizer.mask_token_id] * 5, end]
    assert verdict.words[1][2] == pytest.approx(verdict.log_odds - score(model, without, 1), abs=1e-5)


def test_without_a_mask_token_the_unknown_one_stands_for_a_word(variant: Make) -> None:
    model, tokenizer = built(variant())
    unknown, tokenizer.mask_token = tokenizer.unk_token_id, None
    verdict = explain(model, tokenizer, "good film", 32, "head")
    ids = verdict.window.input_ids
    expected = verdict.log_odds - score(model, [ids[0], unknown, *ids[2:]], 1)
    assert verdict.words[0][2] == pytest.approx(expected, abs=1e-5)


def test_of_several_classes_the_predicted_one_is_explained(variant: Make) -> None:
    model, tokenizer = built(variant(strategy="full"), ("a", "b", "c"))
    verdict = explain(model, tokenizer, TEXT, 32, "head")
    assert verdict.target == verdict.label == int(verdict.logits.argmax())
    assert verdict.log_odds == pytest.approx(score(model, verdict.window.input_ids, verdict.target), abs=1e-5)
    assert verdict.confidence == pytest.approx(1 / (1 + np.exp(-verdict.log_odds)), abs=1e-6)


def test_batches_change_nothing(variant: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = built(variant())
    at_once = explain(model, tokenizer, TEXT, 32, "head")
    monkeypatch.setattr(masking, "TOKENS_AT_ONCE", 20)
    assert np.allclose(at_once.words, explain(model, tokenizer, TEXT, 32, "head").words, atol=1e-5)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_a_text_without_words_has_a_verdict_and_no_effects(text: str, variant: Make) -> None:
    verdict = explain(*built(variant()), text, 32, "head")
    assert verdict.words == [] and np.isfinite(verdict.logits).all()


def test_words_outside_the_window_have_no_effect(variant: Make) -> None:
    model, tokenizer = built(variant())
    words = explain(model, tokenizer, "good bad dull fine film plot some long", 6, "head+tail").words
    assert [(start, end) for start, end, _ in words] == [(0, 4), (24, 28), (29, 33), (34, 38)]


def test_the_model_is_left_as_it_was_and_asked_in_evaluation_mode(variant: Make) -> None:
    model, tokenizer = built(variant())
    before = [parameter.clone() for parameter in model.parameters()]
    model.train()
    first = explain(model, tokenizer, TEXT, 32, "head")
    model.train()
    assert explain(model, tokenizer, TEXT, 32, "head").words == first.words  # no dropout
    assert all(torch.equal(old, new) and new.grad is None for old, new in zip(before, model.parameters(), strict=True))


def test_autocast_around_it_does_not_coarsen_the_effects(variant: Make) -> None:
    model, tokenizer = built(variant())
    exact = explain(model, tokenizer, TEXT, 32, "head")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (explain(model, tokenizer, TEXT, 32, "head").logits == exact.logits).all()


def test_log_odds_are_against_all_other_classes_together() -> None:
    logits = np.log([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    assert log_odds(logits, 2) == pytest.approx([np.log(0.25), np.log(4)])


def test_a_saved_model_explains_as_the_trained_one_did(variant: Make, tmp_path: Path) -> None:
    model, tokenizer = built(variant(strategy="lora"))
    model.save_pretrained(tmp_path / "model")
    saved = explain(load(tmp_path / "model"), tokenizer, TEXT, 32, "head")
    assert np.allclose(saved.words, explain(model, tokenizer, TEXT, 32, "head").words, atol=1e-5)


@pytest.mark.parametrize("truncation", ["head", "tail", "head+tail"])
def test_a_window_is_what_the_training_reads_of_the_same_text(truncation: str, variant: Make) -> None:
    reviews = load_reviews(small := variant(max_length=16))
    tokenizer = load_tokenizer(small)
    tokens = tokenize_texts(reviews.corpus.splits["train"], tokenizer)
    for row, text in reviews.train[["id", "text"]].head(20).itertuples(index=False):
        read = window(text, tokenizer, 16, truncation)
        assert read.input_ids == tokens.encode(row, 16, truncation).tolist()
        assert read.total == tokens.lengths[row] and read.is_cut == (read.total > 16)
        assert len(read.spans) == len(read.words) == len(read.input_ids)
