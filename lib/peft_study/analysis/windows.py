"""What a model reads of one text, and where in the text it stands: for panels and for masking."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_study.data.tokenization import kept, places, untruncated

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Window:
    """What a model reads of a text, and where in the text it stands.

    `input_ids`: special tokens included. `spans`: for each of them the start and end of its characters, None for a
    special token. `words`: for each the number of the word that it is a piece of, None for a special token. `total`:
    how many tokens, special ones included, the text has without truncation. `unknown`: start and end of the parts that
    the vocabulary lacks, so that the model reads its unknown token.
    """

    input_ids: list[int]
    spans: list[tuple[int, int] | None]
    words: list[int | None]
    total: int
    unknown: list[tuple[int, int]]

    @property
    def is_cut(self) -> bool:
        """Whether the text is longer than the window."""
        return len(self.input_ids) < self.total


def window(text: str, tokenizer: "PreTrainedTokenizerBase", max_length: int, truncation: str) -> Window:
    """The window of one text, the same tokens that `Tokens.encode` gives, with their places in the text.

    What counts as a word is the tokenizer's matter: BERT parts words at spaces and punctuation.
    """
    prefix, suffix = untruncated(tokenizer)
    tokens, spans, words = places(text, tokenizer)
    length = len(tokens)
    head, tail = kept(length, max_length - len(prefix) - len(suffix), truncation)
    chosen = [*range(head), *range(length - tail, length)]

    def padded(values: list[Any]) -> list[Any]:
        return [*[None] * len(prefix), *(values[i] for i in chosen), *[None] * len(suffix)]

    ids = [*prefix, *(tokens[i] for i in chosen), *suffix]
    unknown = [spans[i] for i in chosen if tokens[i] == tokenizer.unk_token_id]
    return Window(ids, padded(spans), padded(words), length + len(prefix) + len(suffix), unknown)
