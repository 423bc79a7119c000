"""The names of the parts of each family of encoders, from which a strategy finds the layers that it trains."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from peft_study.errors import StudyError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Architecture:
    """One family of encoders.

    The linear layers are named relative to their block (`attention.q_lin` of `transformer.layer.0.attention.q_lin`), in
    the order query, key, value, attention output, and the two of the feed-forward part. `norms` are layer
    normalisations, `head` the classifier's modules, `dropouts` the configuration's dropout fields. With
    `counts_from_padding` positions start after the number of the padding token, not at 0.
    """

    attention: tuple[str, str, str, str]
    feed_forward: tuple[str, str]
    norms: tuple[str, ...]
    head: tuple[str, ...]
    dropouts: tuple[str, ...] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    counts_from_padding: bool = False

    def linears(self, which: str) -> tuple[str, ...]:
        """The linear layers called `query-value`, `feed-forward`, `feed-forward-out`, `ia3` or `all`."""
        query, key, value, _ = self.attention
        return {
            "query-value": (query, value),
            "feed-forward": self.feed_forward,
            "feed-forward-out": self.feed_forward[1:],
            "ia3": (key, value, self.feed_forward[1]),
            "all": self.attention + self.feed_forward,
        }[which]

    def positions(self, encoder: "PretrainedConfig") -> int:
        """The number of tokens that an encoder of this configuration reads at once."""
        before = (encoder.pad_token_id or 0) + 1 if self.counts_from_padding else 0
        return int(encoder.max_position_embeddings - before)


_BERT = Architecture(
    attention=("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    feed_forward=("intermediate.dense", "output.dense"),
    norms=("LayerNorm",),
    head=("classifier",),
)
ARCHITECTURES = {
    "distilbert": Architecture(
        attention=("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
        feed_forward=("ffn.lin1", "ffn.lin2"),
        norms=("sa_layer_norm", "output_layer_norm", "LayerNorm"),
        head=("pre_classifier", "classifier"),
        dropouts=("dropout", "attention_dropout"),
    ),
    "bert": _BERT,
    "roberta": replace(_BERT, counts_from_padding=True),
}


def architecture(model_type: str) -> Architecture:
    """The architecture of a transformers `model_type`, or a `StudyError` naming those that are known."""
    if model_type not in ARCHITECTURES:
        raise StudyError(
            f"model type {model_type!r} is not supported; supported: {', '.join(ARCHITECTURES)}; use an encoder of "
            "one of these"
        )
    return ARCHITECTURES[model_type]


def in_blocks(names: Iterable[str], number: str = r"\d+") -> str:
    """A regular expression for the layers `names` of the encoder's blocks (or of block `number`)."""
    return rf".*\.layer\.{number}\.({'|'.join(map(re.escape, names))})"


def is_part(name: str, parts: Iterable[str]) -> bool:
    """Whether a parameter with the dotted `name` belongs to one of the modules `parts`."""
    return not set(name.split(".")).isdisjoint(parts)
