"""Texts to token ids: whole texts are tokenised once and cached; windows are slices."""

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.data.datasets import model_folder
from peft_study.data.reviews import Reviews
from peft_study.errors import StudyError, one_line
from peft_study.files import fingerprint, replacing
from peft_study.strategies.encoders import find_parts
from peft_study.study.variant import Variant
from peft_study.text import SEPARATOR, each_part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNHEARD_OF = "𓂀"  # a character that few vocabularies have
HEAD_SHARE = 0.25  # of the tokens that `head+tail` keeps: reviews conclude at their end


@dataclass(frozen=True)
class Template:
    """What a tokenizer makes of a text, or of the two parts of a pair: [CLS] first [SEP] second [SEP] for BERT.

    `tokens` are the special tokens, with None in the place of each part. `types` are the token types in these places,
    by which a model may tell the parts apart; zeros where it cannot, or the tokenizer does not number them.
    """

    tokens: tuple[int | None, ...]
    types: tuple[int, ...]

    @property
    def special(self) -> int:
        """The number of special tokens."""
        return len(self.tokens) - self.parts

    @property
    def parts(self) -> int:
        """The number of parts: 1, or 2 for pairs."""
        return self.tokens.count(None)

    def fill(self, parts: Iterable[Any], special: Callable[[int], Any]) -> list[Any]:
        """The `parts` in their places, and lists of what `special` makes of each special token in theirs."""
        each = iter(parts)
        return [next(each) if token is None else [special(token)] for token in self.tokens]

    def inputs(self, parts: Iterable[Any]) -> dict[str, np.ndarray]:
        """The `input_ids` of a text whose `parts` have these, int32; `token_type_ids` beside them if any is not 0."""
        pieces = [np.asarray(piece, dtype=np.int32) for piece in self.fill(parts, int)]  # an empty one is no float
        types = np.repeat(np.array(self.types, dtype=np.int32), list(map(len, pieces)))
        return {"input_ids": np.concatenate(pieces)} | ({"token_type_ids": types} if any(self.types) else {})

    def kept(self, lengths: Sequence[int], max_length: int, truncation: str) -> list[tuple[int, int]]:
        """How many tokens of the start and of the end of each part of `lengths` tokens fit in `max_length`.

        The longer part is cut first, until both are as long (`longest_first` of transformers).
        """
        room, longest = max_length - self.special, len(lengths) - 1 - int(np.argmax(lengths[::-1]))
        short = min(*lengths, room // len(lengths))
        rooms = [room - short * (len(lengths) - 1) if part == longest else short for part in range(len(lengths))]
        return [kept(length, part, truncation) for length, part in zip(lengths, rooms, strict=True)]


@dataclass(frozen=True)
class Tokens:
    """The untruncated token ids of the parts of many texts, concatenated: `flat[bounds[i]:bounds[i + 1]]` is part i.

    A text has one part, a pair two. `ends` holds, for each token, the number of characters of its part up to its end.
    """

    flat: np.ndarray
    bounds: np.ndarray
    ends: np.ndarray
    template: Template

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, special tokens included; shape (texts,)."""
        return np.diff(self.bounds[:: self.template.parts]) + self.template.special

    def encode(self, row: int, max_length: int, truncation: str) -> dict[str, np.ndarray]:
        """The model's input for text `row`: at most `max_length` tokens, special ones included (`Template.inputs`)."""
        kept = self._kept(row, self.flat, max_length, truncation)
        return self.template.inputs(np.concatenate([ids[:head], ids[len(ids) - tail :]]) for ids, (head, tail) in kept)

    def cut(self, row: int, text: str, max_length: int, truncation: str) -> str:
        """The part of text `row`, which is `text`, within the window; a space joins its start and its end."""
        kept = self._kept(row, self.ends, max_length, truncation)

        def within(part: str) -> str:
            ends, (head, tail) = next(kept)
            if head == len(ends):
                return part
            first, last = (ends[i - 1] if i else 0 for i in (head, len(ends) - tail))
            return f"{part[:first].strip()} {part[last:].strip() if tail else ''}".strip()

        return each_part(within, text)

    def _kept(
        self, row: int, values: np.ndarray, max_length: int, truncation: str
    ) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
        """Of each part of text `row` the `values`, one for each token, and how many of its start and end fit."""
        bounds = self.bounds[row * self.template.parts :][: self.template.parts + 1]
        parts = [values[start:end] for start, end in pairwise(bounds)]
        return zip(parts, self.template.kept(list(map(len, parts)), max_length, truncation), strict=True)


def kept(length: int, room: int, truncation: str) -> tuple[int, int]:
    """How many tokens of the start and of the end of a text of `length` tokens fit in `room`."""
    if length <= room:
        return length, 0
    head = {"head": room, "tail": 0, "head+tail": round(room * HEAD_SHARE)}[truncation]
    return head, room - head


def tokenize_texts(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", cached: bool = True) -> Tokens:
    """Tokenise `texts`, all single or all pairs, once; the cache, if it is used, stores the result.

    Its key is a hash of texts and tokenizer. Length and truncation are applied later, by slicing, so all variants share
    the result.
    """
    around = template(tokenizer, 1 + texts[0].count(SEPARATOR))
    parts = [part for text in texts for part in text.split(SEPARATOR)]
    if not cached:
        return Tokens(*_tokens(parts, tokenizer), around)
    digest = blake2b(_identity(tokenizer).encode(), digest_size=12)
    digest.update(json.dumps(list(texts)).encode())
    file = paths.cache() / "tokens" / f"{digest.hexdigest()}.npz"
    return Tokens(*(_read_tokens(file) or _write_tokens(parts, tokenizer, file)), around)


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


def template(tokenizer: Any, parts: int = 1) -> Template:
    """The special tokens of a text or, with 2 `parts`, a pair; disables truncation and padding of `tokenizer`.

    If the tokenizer puts none between the parts, as those of decoders, a line break separates them.
    """
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    try:
        bare, line_break = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "\n"))
        whole = tokenizer(*["a"] * parts)
        tokenizer(UNHEARD_OF)
    except Exception as error:  # such as a vocabulary without the token for what is unknown
        raise StudyError(
            f"model: the tokenizer in {tokenizer.name_or_path} cannot tokenise a text: {one_line(error, 200)}; take "
            "the files that belong to the model"
        ) from error
    full, frame = whole["input_ids"], list[tuple[int | None, int]]()
    kinds, place = whole.get("token_type_ids", [0] * len(full)), 0
    while place < len(full):
        is_part = bool(bare) and full[place : place + len(bare)] == bare
        if is_part and frame and frame[-1][0] is None:
            frame += [(token, 0) for token in line_break]
        frame.append((None if is_part else full[place], kinds[place]))
        place += len(bare) if is_part else 1
    tokens, types = zip(*frame, strict=True)
    if tokens.count(None) != parts:
        raise StudyError(
            f"model: the tokenizer in {tokenizer.name_or_path} makes {bare} of 'a', and {full} with special tokens, "
            "which must contain the former; take the tokenizer's files that belong to the model"
        )
    return Template(tokens, types)


def tokenize(
    reviews: Reviews, tokenizer: "PreTrainedTokenizerBase", variant: Variant
) -> dict[str, list[dict[str, Any]]]:
    """The examples of each part of a run (`train`, `validation`, `test` and, if the variant names one, `ood`)."""
    corpus = reviews.corpus
    tokens = {split: tokenize_texts(texts, tokenizer) for split, texts in corpus.splits.items() if texts}
    return {part: examples(table, tokens[corpus.split_of(part)], variant) for part, table in reviews.parts.items()}


def examples(table: pd.DataFrame, tokens: Tokens, variant: Variant) -> list[dict[str, Any]]:
    """The texts of `table` for the Trainer: the dicts of `Tokens.encode`, with `labels` (int)."""
    return [
        {**tokens.encode(row, variant.max_length, variant.truncation), "labels": label}
        for row, label in zip(table["id"], table["label"].tolist(), strict=True)
    ]


def window_texts(table: pd.DataFrame, tokens: Tokens, variant: Variant) -> list[str]:
    """The part of each text of `table` within the window; `tokens` are those of the table's split."""
    rows = zip(table["id"], table["text"], strict=True)
    return [tokens.cut(row, text, variant.max_length, variant.truncation) for row, text in rows]


def load_tokenizer(variant: Variant) -> "PreTrainedTokenizerBase":
    """The model's tokenizer. Raises `StudyError` where it does not load or `match_model` refuses it."""
    tokenizer = read_tokenizer(variant)
    match_model(tokenizer, model_folder(variant.model))
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


def match_model(tokenizer: Any, folder: Path) -> str:
    """Adapt a `tokenizer` to the model in `folder`: no token types if the model has at most one, and a padding token.

    Without a padding token it takes that of the model's configuration, or else its end token. Returns a sentence about
    that, empty otherwise. Raises `StudyError` where the configuration names neither, or a token that is not special and
    would be removed from texts, and where a model that reads the first token would get one of the text.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a value of another type, a type of model that is unknown
        raise StudyError(f"model: config.json in {folder} does not load: {one_line(error, 300)}") from error
    if getattr(config, "type_vocab_size", None) in (None, 0, 1):
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names  # the latter are saved
    if template(tokenizer).tokens[0] is None and not find_parts(config).is_decoder:
        raise StudyError(
            f"model: the tokenizer in {tokenizer.name_or_path} puts no token such as [CLS] before a text, and the "
            "classifier reads nothing but the first; take the files that belong to the model"
        )
    if tokenizer.pad_token_id is not None:
        return ""
    number = config.eos_token_id if config.pad_token_id is None else config.pad_token_id
    token = next((token for token, i in tokenizer.get_vocab().items() if i == number), None)
    if token is None or not re.fullmatch(r"<.+>|\[.+\]", token):
        raise StudyError(
            f"model: the tokenizer in {folder} has no padding token, and pad_token_id = {number} in config.json is no "
            'special token of it; name one in tokenizer_config.json, such as "pad_token": "<pad>"'
        )
    tokenizer.pad_token = token
    return f"The tokenizer has no padding token; texts are padded with `{token}`, as the model's configuration says."
