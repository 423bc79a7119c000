"""What a model reads of one text, and where in the text it stands: for panels and for masking."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from peft_study.data.tokenization import places, template
from peft_study.text import SEPARATOR

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_Place = tuple[int, tuple[int, int] | None, int | None]  # a token, its span and its word


@dataclass(frozen=True)
class Window:
    """The tokens that a model reads of a text, and their places in it.

    `inputs`: those of `Template.inputs`. `spans`: for each token the start and end of its characters, None for a
    special token. `words`: for each the number of the word that it is a piece of, None for a special token. `total`:
    how many tokens, special ones included, the text has without truncation. `unknown`: start and end of the parts that
    the vocabulary lacks, so that the model reads its unknown token.
    """

    inputs: dict[str, np.ndarray]
    spans: list[tuple[int, int] | None]
    words: list[int | None]
    total: int
    unknown: list[tuple[int, int]]

    @property
    def input_ids(self) -> list[int]:
        """The tokens, special ones included."""
        return self.inputs["input_ids"].tolist()

    @property
    def is_cut(self) -> bool:
        """Whether the text is longer than the window."""
        return len(self.input_ids) < self.total


def window(text: str, tokenizer: "PreTrainedTokenizerBase", max_length: int, truncation: str) -> Window:
    """The window of one text or pair, the same tokens that `Tokens.encode` gives, with their places in the text.

    What counts as a word is the tokenizer's matter: BERT parts words at spaces and punctuation.
    """
    parts = text.split(SEPARATOR)
    around, start, first = template(tokenizer, len(parts)), 0, 0
    read = list[list[_Place]]()
    for part in parts:
        tokens, spans, words = places(part, tokenizer)
        moved = [(start + begin, start + end) for begin, end in spans]
        read.append(list(zip(tokens, moved, [first + word for word in words], strict=True)))
        start, first = start + len(part) + 1, first + max(words, default=-1) + 1
    lengths = list(map(len, read))
    kept = around.kept(lengths, max_length, truncation)
    chosen = [part[:head] + part[len(part) - tail :] for part, (head, tail) in zip(read, kept, strict=True)]
    inputs = around.inputs([token for token, *_ in part] for part in chosen)
    shown: list[_Place] = [place for piece in around.fill(chosen, lambda token: (token, None, None)) for place in piece]
    unknown = [span for token, span, _ in shown if span and token == tokenizer.unk_token_id]
    return Window(
        inputs, [span for _, span, _ in shown], [word for *_, word in shown], sum(lengths) + around.special, unknown
    )
