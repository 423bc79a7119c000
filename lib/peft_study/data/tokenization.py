"""Texts to token ids: whole texts are tokenised once and cached; windows are slices."""

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.data.datasets import model_folder
from peft_study.data.reviews import Reviews
from peft_study.errors import StudyError, one_line
from peft_study.files import fingerprint, replacing
from peft_study.study.variant import Variant

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNHEARD_OF = "𓂀"  # a character that few vocabularies have
HEAD_SHARE = 0.25  # of the tokens that `head+tail` keeps: reviews conclude at their end


@dataclass(frozen=True)
class Tokens:
    """The untruncated token ids of many texts, concatenated: `flat[bounds[i]:bounds[i + 1]]` is text i.

    `ends` holds, for each token, the number of characters of its text up to its end. `prefix` and `suffix` are the
    special tokens around a text ([CLS] and [SEP] for BERT).
    """

    flat: np.ndarray
    bounds: np.ndarray
    ends: np.ndarray
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, special tokens included; shape (texts,)."""
        return np.diff(self.bounds) + len(self.prefix) + len(self.suffix)

    def encode(self, row: int, max_length: int, truncation: str) -> np.ndarray:
        """The model's input for text `row`: at most `max_length` ids, special tokens included; int32."""
        ids = self.flat[self.bounds[row] : self.bounds[row + 1]]
        head, tail = self._kept(row, max_length, truncation)
        parts = (self.prefix, ids[:head], ids[len(ids) - tail :], self.suffix)
        return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])  # one without tokens is no float

    def cut(self, row: int, text: str, max_length: int, truncation: str) -> str:
        """The part of text `row`, which is `text`, within the window; a space joins its start and its end."""
        ends = self.ends[self.bounds[row] : self.bounds[row + 1]]
        head, tail = self._kept(row, max_length, truncation)
        if head == len(ends):
            return text
        first, last = (ends[i - 1] if i else 0 for i in (head, len(ends) - tail))
        return f"{text[:first].strip()} {text[last:].strip() if tail else ''}".strip()

    def _kept(self, row: int, max_length: int, truncation: str) -> tuple[int, int]:
        length = int(self.bounds[row + 1] - self.bounds[row])
        return kept(length, max_length - len(self.prefix) - len(self.suffix), truncation)


def kept(length: int, room: int, truncation: str) -> tuple[int, int]:
    """How many tokens of the start and of the end of a text of `length` tokens fit in `room`."""
    if length <= room:
        return length, 0
    head = {"head": room, "tail": 0, "head+tail": round(room * HEAD_SHARE)}[truncation]
    return head, room - head


def tokenize_texts(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", cached: bool = True) -> Tokens:
    """Tokenise `texts` once; the cache, if it is used, stores the result under a hash of texts and tokenizer.

    Length and truncation are applied later, by slicing, so all variants share the result.
    """
    prefix, suffix = untruncated(tokenizer)
    if not cached:
        return Tokens(*_tokens(texts, tokenizer), prefix, suffix)
    digest = blake2b(_identity(tokenizer).encode(), digest_size=12)
    digest.update(json.dumps(list(texts)).encode())
    file = paths.cache() / "tokens" / f"{digest.hexdigest()}.npz"
    return Tokens(*(_read_tokens(file) or _write_tokens(texts, tokenizer, file)), prefix, suffix)


def _identity(tokenizer: Any) -> str:
    """All that tokens depend on: of a tokenizer in Python its class, settings, vocabulary and files."""
    if tokenizer.is_fast:
        return cast("str", tokenizer.backend_tokenizer.to_str())
    files = [Path(tokenizer.name_or_path, name) for name in tokenizer.vocab_files_names.values()]
    vocabulary, settings = sorted(tokenizer.get_vocab().items()), sorted(map(repr, tokenizer.init_kwargs.items()))
    return repr((type(tokenizer).__name__, settings, vocabulary, fingerprint(*files)))


def _read_tokens(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The cached arrays; None where the file is absent or damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["flat"], arrays["bounds"], arrays["ends"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write_tokens(texts: Sequence[str], tokenizer: Any, file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokenise, and write the arrays atomically."""
    flat, bounds, ends = _tokens(texts, tokenizer)
    with replacing(file) as partial:
        np.savez(partial, flat=flat, bounds=bounds, ends=ends)
    return flat, bounds, ends


def _tokens(texts: Sequence[str], tokenizer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`flat`, `bounds` and `ends` of `Tokens`."""
    if tokenizer.is_fast:
        encodings = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
        tokenised = ((encoding.ids, encoding.offsets) for encoding in encodings)
    else:
        tokenised = (places(text, tokenizer)[:2] for text in texts)
    rows = [(np.array(ids, np.int32), np.array(spans, np.int32).reshape(-1, 2)[:, 1]) for ids, spans in tokenised]
    bounds = np.cumsum([0, *(len(ids) for ids, _ in rows)])
    flat, ends = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
    return flat, bounds, ends


def places(text: str, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """The tokens of a text, and for each its span of characters and the number of its word.

    A tokenizer in Python gives no spans: a token then has the span of its whitespace-separated word, or of the whole
    text if tokenising the words separately gives other tokens.
    """
    if tokenizer.is_fast:
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets, encoding.word_ids

    def read(part: str) -> list[int]:
        return list(tokenizer(part, add_special_tokens=False)["input_ids"])

    tokens, matches = read(text), list(re.finditer(r"\S+", text))
    pieces = [(match.span(), read(match[0])) for match in matches]
    if [token for _, own in pieces for token in own] != tokens:
        pieces = [((0, len(text)), tokens)]
    places = [(span, word) for word, (span, own) in enumerate(pieces) for _ in own]
    return tokens, [span for span, _ in places], [word for _, word in places]


def untruncated(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Disable truncation and padding of `tokenizer`; returns the special tokens before and after a text."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    try:
        bare, full = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        tokenizer(UNHEARD_OF)
    except Exception as error:  # such as a vocabulary without the token for what is unknown
        raise StudyError(
            f"model: the tokenizer in {tokenizer.name_or_path} cannot tokenise a text: {one_line(error, 200)}; take "
            "the files that belong to the model"
        ) from error
    starts = [i for i in range(len(full)) if bare and full[i : i + len(bare)] == bare]
    if not starts:
        raise StudyError(
            f"model: the tokenizer in {tokenizer.name_or_path} makes {bare} of 'a', and {full} with special tokens, "
            "which must contain the former; take the tokenizer's files that belong to the model"
        )
    if not starts[0]:
        raise StudyError(
            f"model: the tokenizer in {tokenizer.name_or_path} puts no token such as [CLS] before a text, and the "
            "classifier reads nothing but the first; take the files that belong to the model"
        )
    return tuple(full[: starts[0]]), tuple(full[starts[0] + len(bare) :])


def tokenize(
    reviews: Reviews, tokenizer: "PreTrainedTokenizerBase", variant: Variant
) -> dict[str, list[dict[str, Any]]]:
    """The examples of each part of a run (`train`, `validation`, `test` and, if the variant names one, `ood`)."""
    corpus = reviews.corpus
    tokens = {split: tokenize_texts(texts, tokenizer) for split, texts in corpus.splits.items() if texts}
    return {part: examples(table, tokens[corpus.split_of(part)], variant) for part, table in reviews.parts.items()}


def examples(table: pd.DataFrame, tokens: Tokens, variant: Variant) -> list[dict[str, Any]]:
    """The texts of `table` for the Trainer: dicts of `input_ids` (int32) and `labels` (int)."""
    return [
        {"input_ids": tokens.encode(row, variant.max_length, variant.truncation), "labels": label}
        for row, label in zip(table["id"], table["label"].tolist(), strict=True)
    ]


def window_texts(table: pd.DataFrame, tokens: Tokens, variant: Variant) -> list[str]:
    """The part of each text of `table` within the window; `tokens` are those of the table's split."""
    rows = zip(table["id"], table["text"], strict=True)
    return [tokens.cut(row, text, variant.max_length, variant.truncation) for row, text in rows]


def load_tokenizer(variant: Variant) -> "PreTrainedTokenizerBase":
    """The model's tokenizer. Raises `StudyError` where it does not load or cannot pad."""
    tokenizer = read_tokenizer(variant)
    set_padding(tokenizer, model_folder(variant.model))
    return tokenizer


def read_tokenizer(variant: Variant) -> "PreTrainedTokenizerBase":
    """The tokenizer in the model's folder. Raises `StudyError` where it does not load."""
    from transformers import AutoTokenizer

    folder = model_folder(variant.model)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # damaged files raise whatever they lead to, an absent package says which
        raise StudyError(
            f"model = {variant.model!r}: its tokenizer does not load ({type(error).__name__}: {one_line(error, 300)})"
            "; install the package that it names, or save the tokenizer as tokenizer.json beside the weights"
        ) from error


def set_padding(tokenizer: Any, folder: Path) -> str:
    """Give a `tokenizer` without a padding token that of the model's configuration in `folder`, or else its end token.

    Returns a sentence about it, empty if nothing changed. Raises `StudyError` where the configuration names neither, or
    a token that is not special and would be removed from texts.
    """
    if tokenizer.pad_token_id is not None:
        return ""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    number = config.eos_token_id if config.pad_token_id is None else config.pad_token_id
    token = next((token for token, i in tokenizer.get_vocab().items() if i == number), None)
    if token is None or not re.fullmatch(r"<.+>|\[.+\]", token):
        raise StudyError(
            f"model: the tokenizer in {folder} has no padding token, and pad_token_id = {number} in config.json is no "
            'special token of it; name one in tokenizer_config.json, such as "pad_token": "<pad>"'
        )
    tokenizer.pad_token = token
    return f"The tokenizer has no padding token; texts are padded with `{token}`, as the model's configuration says."
