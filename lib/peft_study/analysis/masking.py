"""Which words of a text move a model's verdict, and how far: one word is masked at a time.

The effect of a word is the log-odds of a class less those without the word, whose pieces the tokenizer's mask token
replaces (occlusion: Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901; leave-one-out on words: Li et al. 2016,
https://arxiv.org/abs/1612.08220). The class is the second of two (positive), of more the predicted one.

An effect is exact for this word in this text, and for nothing else: effects do not add up to the log-odds. Of two words
that say the same, either can be masked at no loss, and a *not* and the word it negates share one effect. Nor do they
start from zero: the log-odds of a text whose words are all masked are given beside them. A sum of effects may therefore
oppose the prediction (in 12% to 16% of texts: NOTES.md).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp, softmax

from peft_study.analysis.windows import Window, window
from peft_study.training.prediction import predict

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Explanation:
    """A model's verdict on one text, and which words move it.

    `logits`: (classes,). `log_odds`: of the class `target` against all others together, in nats; `log_odds_without`:
    the same with every word masked. `words`: start, end and effect (in nats of the `log_odds`) of each word that the
    model reads, in order.
    """

    window: Window
    logits: np.ndarray
    target: int
    log_odds: float
    log_odds_without: float
    words: list[tuple[int, int, float]]

    @property
    def label(self) -> int:
        """The predicted class."""
        return int(self.logits.argmax())

    @property
    def confidence(self) -> float:
        """The probability of the predicted class."""
        return float(softmax(self.logits).max())


def explain(
    model: "Module", tokenizer: "PreTrainedTokenizerBase", text: str, max_length: int, truncation: str
) -> Explanation:
    """The verdict of `model` on `text`, which may be a pair, cut to its window, and the effect of every word in it.

    One pass for the text, one for each of its words and one without any, in batches. A tokenizer without a mask token
    uses its unknown or padding token.
    """
    read = window(text, tokenizer, max_length, truncation)
    pieces: dict[int, list[int]] = {}  # the places of each word in the window
    for place, word in enumerate(read.words):
        if word is not None:
            pieces.setdefault(word, []).append(place)
    mask_ids = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    hidden = [*pieces.values(), [place for places in pieces.values() for place in places]]
    copies = np.tile(read.input_ids, (1 + len(hidden), 1))
    for row, places in enumerate(hidden, start=1):
        copies[row, places] = next(token for token in mask_ids if token is not None)
    examples = [read.inputs | {"input_ids": copy, "labels": 0} for copy in copies]
    logits = predict(model, examples, range(len(examples)), tokenizer.pad_token_id).logits
    target = 1 if logits.shape[1] == 2 else int(logits[0].argmax())
    odds = logits[:, target] - logsumexp(np.delete(logits, target, axis=1), axis=1)
    whole, *masked_odds, without = odds.tolist()
    spans = [[span for place in places if (span := read.spans[place])] for places in pieces.values()]
    words = [(word[0][0], word[-1][1], whole - masked) for word, masked in zip(spans, masked_odds, strict=True)]
    return Explanation(read, logits[0], target, whole, without, words)
