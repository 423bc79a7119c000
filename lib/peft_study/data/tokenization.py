"""Texts -> token ids: tokenised once and whole, kept in the cache, cut to each variant's window by slicing."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.data.datasets import model_folder
from peft_study.data.reviews import Reviews
from peft_study.files import replacing
from peft_study.study.variant import Variant

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HEAD_SHARE = 0.25  # of the tokens that `head+tail` keeps: reviews conclude at their end


@dataclass(frozen=True)
class Tokens:
    """The untruncated token ids of many texts, laid end to end: `flat[bounds[i]:bounds[i + 1]]` is text i.

    `prefix` and `suffix` are the special tokens around a text ([CLS] and [SEP] for BERT).
    """

    flat: np.ndarray
    bounds: np.ndarray
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, special tokens included; shape (texts,)."""
        return np.diff(self.bounds) + len(self.prefix) + len(self.suffix)

    def encode(self, row: int, max_length: int, truncation: str) -> np.ndarray:
        """The model's input for text `row`: at most `max_length` ids, special tokens included; int32."""
        ids = self.flat[self.bounds[row] : self.bounds[row + 1]]
        head, tail = kept(len(ids), max_length - len(self.prefix) - len(self.suffix), truncation)
        return np.concatenate([self.prefix, ids[:head], ids[len(ids) - tail :], self.suffix], dtype=np.int32)


def kept(length: int, room: int, truncation: str) -> tuple[int, int]:
    """How many tokens of the start and of the end of a text of `length` tokens fit in `room`."""
    if length <= room:
        return length, 0
    head = {"head": room, "tail": 0, "head+tail": round(room * HEAD_SHARE)}[truncation]
    return head, room - head


def tokenize_texts(texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast") -> Tokens:
    """Tokenise `texts` once: the result is kept in the cache under a hash of the texts and the tokenizer.

    Length and truncation are applied later, by slicing, so that every variant shares the one result.
    """
    backend, prefix, suffix = untruncated(tokenizer)
    digest = blake2b(backend.to_str().encode(), digest_size=12)
    digest.update(json.dumps(list(texts)).encode())
    file = paths.cache() / "tokens" / f"{digest.hexdigest()}.npz"
    return Tokens(*(_read_tokens(file) or _write_tokens(texts, backend, file)), prefix, suffix)


def _read_tokens(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """What an earlier call wrote; None where there is nothing, or a damaged file."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["flat"], arrays["bounds"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write_tokens(texts: Sequence[str], backend: Any, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Tokenise and write in one step, so that a half-written file is never read."""
    rows = [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
    bounds = np.cumsum([0, *map(len, rows)])
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(bounds[-1]))
    with replacing(file) as partial:
        np.savez(partial, flat=flat, bounds=bounds)
    return flat, bounds


def untruncated(tokenizer: "PreTrainedTokenizerFast") -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """What tokenises whole texts; the special tokens that the model expects before and after a text."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return backend, tuple(full[:start]), tuple(full[start + len(bare) :])


def tokenize(
    reviews: Reviews, tokenizer: "PreTrainedTokenizerFast", variant: Variant
) -> dict[str, list[dict[str, Any]]]:
    """The examples of each part of a run (`train`, `validation`, `test`, and `ood` where the variant names one)."""
    corpus = reviews.corpus
    tokens = {split: tokenize_texts(texts, tokenizer) for split, texts in corpus.splits.items() if texts}
    return {part: examples(table, tokens[corpus.split_of(part)], variant) for part, table in reviews.parts.items()}


def examples(table: pd.DataFrame, tokens: Tokens, variant: Variant) -> list[dict[str, Any]]:
    """The reviews of `table` as the Trainer takes them: a dict each of `input_ids` (int32) and `labels` (int)."""
    return [
        {"input_ids": tokens.encode(row, variant.max_length, variant.truncation), "labels": label}
        for row, label in zip(table["id"], table["label"].tolist(), strict=True)
    ]


def load_tokenizer(variant: Variant) -> "PreTrainedTokenizerFast":
    """The model's own fast tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder(variant.model), local_files_only=True, trust_remote_code=False)
