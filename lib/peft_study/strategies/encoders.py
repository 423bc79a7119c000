"""The parts of a text classifier that a strategy trains, found in the model itself.

One rule covers the encoders and decoders of transformers: the *head* are the classifier's modules beside its base
model; the *blocks* are the module lists with an entry for each hidden layer; *linear layers* and *norms* are told by
their class, and the linear layers of attention by their names. A model type that follows it needs no line here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_study.errors import StudyError, one_line

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

NUMBER = "#"  # stands for the number of a block in the name of a layer
_QUERY, _KEY, _VALUE = (
    {name, f"{name}_proj", f"{name}_global", name[0], f"{name[0]}_lin", f"{name[0]}_proj"}
    for name in ("query", "key", "value")
)
_FUSED = {"in_proj", "Wqkv", "c_attn", "query_key_value", "qkv_proj"}  # query, key and value in one projection
_FOUND: dict[Any, Parts] = {}  # building a model without weights takes tens of milliseconds
_OWN_DROPOUT = re.compile("cls|classif|summary|pooler|qa_")  # fields of heads


@dataclass(frozen=True)
class Parts:
    """The parts of one classifier; `NUMBER` in a name stands for the number of a block.

    `blocks` is their number and `lists` names the module lists that hold them. `query`, `key` and `value` name linear
    layers of the attention (the same one if the projection is fused), `attention` all of these in order, `feed_forward`
    the block's other linear layers. `norms` are normalisations, `after` those behind the last block and the pooler,
    `head` the modules of the classifier, its output layer last; they include the pooler if the configuration says
    `new_pooler`. `positions` is the number of tokens read at once, None where it is unlimited;
    with `counts_from_padding` positions start after the number of the padding token, not at 0.
    """

    lists: tuple[str, ...]
    blocks: int
    query: tuple[str, ...]
    key: tuple[str, ...]
    value: tuple[str, ...]
    attention: tuple[str, ...]
    feed_forward: tuple[str, ...]
    norms: tuple[str, ...]
    after: tuple[str, ...]
    head: tuple[str, ...]
    positions: int | None
    counts_from_padding: bool

    def modules(self, which: str) -> tuple[str, ...]:
        """The modules called `query-value`, `value`, `feed-forward`, `feed-forward-out`, `ia3`, `all` or `norms`."""
        out = self.feed_forward[-1:]
        named = {
            "query-value": self.query + self.value,
            "value": self.value,
            "feed-forward": self.feed_forward,
            "feed-forward-out": out,
            "ia3": self.key + self.value + out,
            "all": self.attention + self.feed_forward,
            "norms": self.norms,
        }
        return tuple(dict.fromkeys(named[which]))

    def block(self, name: str) -> int | None:
        """The number of the block that a module or parameter belongs to; None outside the blocks."""
        lists = "|".join(re.escape(name.partition(".")[2]) for name in self.lists)  # weights may lack the base's prefix
        found = re.match(rf"(?:.*\.)?(?:{lists})\.(\d+)(?:\.|$)", name)
        return int(found[1]) if found else None

    @property
    def is_decoder(self) -> bool:
        """Whether the model classifies at the last token: transformers calls the head of such models `score`."""
        return self.head == ("score",)

    def is_head(self, name: str) -> bool:
        """Whether a module or parameter belongs to the head, with or without peft's prefixes."""
        return re.match(rf"(base_model\.)?(model\.)?({'|'.join(map(re.escape, self.head))})(\.|$)", name) is not None


def pattern(names: Iterable[str], number: str = r"\d+") -> str:
    """A regular expression for modules of these names, in every block or in block `number`."""
    by_list: dict[str, list[str]] = {}
    for name in names:
        start, numbered, rest = name.partition(f"{NUMBER}.")
        by_list.setdefault(start + numbered, []).append(re.escape(rest))
    parts = [
        re.escape(start).replace(re.escape(NUMBER), number) + (f"({'|'.join(rests)})" if len(rests) > 1 else rests[0])
        for start, rests in by_list.items()
    ]
    return f".*({'|'.join(parts)})" if len(parts) > 1 else f".*{parts[0]}"


def find_parts(config: PretrainedConfig) -> Parts:
    """The parts of the sequence classifier of this configuration. Raises `StudyError` where there are none."""
    values = config.to_json_string(use_diff=False)
    if (type(config), values) not in _FOUND:
        _FOUND[type(config), values] = parts_of(untrained(config))
    return _FOUND[type(config), values]


def untrained(config: PretrainedConfig) -> torch.nn.Module:
    """The sequence classifier of a configuration without weights. Raises `StudyError` where transformers has none."""
    import torch
    from transformers import AutoModelForSequenceClassification

    if config.is_encoder_decoder:
        raise StudyError(f"model type {config.model_type!r} has an encoder and a decoder; use a model with one of them")
    if getattr(config, "pad_token_id", None) is None:
        config = copy.deepcopy(config)
        config.pad_token_id = 0  # else position embeddings that count from it would not show
    try:
        with torch.device("meta"):
            return AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-any-return]
    except Exception as error:  # every model type refuses in its own way
        fault = f"transformers builds no sequence classifier of model type {config.model_type!r}"
        raise StudyError(f"{fault} ({one_line(error, 200)}); use another encoder") from error


def parts_of(model: Any) -> Parts:
    """The parts of a sequence classifier. Raises `StudyError` where no blocks with linear layers are found."""
    import torch
    from transformers.pytorch_utils import Conv1D

    config, base = model.config, model.base_model_prefix
    head = [name for name, child in model.named_children() if name != base and any(True for _ in child.parameters())]
    modules = {name: module for name, module in model.named_modules() if name.split(".")[0] not in head}
    lists = {name: len(module) for name, module in modules.items() if isinstance(module, torch.nn.ModuleList)}
    count = config.num_hidden_layers if config.num_hidden_layers in lists.values() else max(lists.values(), default=0)
    whole = [name for name, length in lists.items() if length == count]
    outer = tuple(name for name in whole if not any(name.startswith(f"{other}.") for other in whole))
    inside = re.compile(rf"^({'|'.join(map(re.escape, outer))})\.\d+(\..+)?")

    def named(kind: Any) -> list[str]:
        """The names of all modules of a kind, each block's once."""
        names = (name for name, module in modules.items() if kind(module))
        return list(dict.fromkeys(inside.sub(rf"\1.{NUMBER}\2", name) for name in names))

    linears = [n for n in named(lambda module: isinstance(module, torch.nn.Linear | Conv1D)) if NUMBER in n]
    if not linears:
        raise StudyError(f"model type {config.model_type!r} has no blocks with linear layers; use another encoder")
    norms = named(lambda module: type(module).__name__.endswith("Norm"))
    attention = [n for n in linears if "att" in n.rpartition(".")[0]]
    fused = [n for n in attention if n.rpartition(".")[2] in _FUSED]
    query, key, value = (
        tuple([n for n in attention if n.rpartition(".")[2] in leaves] or fused) for leaves in (_QUERY, _KEY, _VALUE)
    )
    poolers = [n for n in modules if n.rpartition(".")[2] == "pooler"]
    outside = [n for n in norms if NUMBER not in n and "embed" not in n]
    places = [m for n, m in modules.items() if n.endswith("position_embeddings") and isinstance(m, torch.nn.Embedding)]
    padded = bool(places) and places[0].padding_idx is not None
    longest = getattr(config, "max_position_embeddings", None)
    return Parts(
        lists=outer,
        blocks=count,
        query=query,
        key=key,
        value=value,
        attention=tuple(attention),
        feed_forward=tuple(n for n in linears if n not in attention),
        norms=tuple(norms),
        after=(*outside, *poolers),
        head=(*(poolers if getattr(config, "new_pooler", False) else ()), *head),
        positions=longest - (places[0].padding_idx + 1 if padded else 0) if longest and longest > 0 else None,
        counts_from_padding=padded,
    )


def set_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set every dropout of the encoder in its configuration, but not those of the head."""
    for name, value in list(vars(config).items()):
        if re.search("dropout|pdrop", name) and type(value) in (float, int) and not _OWN_DROPOUT.search(name):
            setattr(config, name, rate)
