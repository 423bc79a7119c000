"""The strategies: a name, and how it fine-tunes. `STRATEGIES` is the only list of them.

An entry is all that a strategy needs: the runs, the counts, the notebooks and the tests go by the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peft_study.strategies.adapters import (
    LORA_FIELDS,
    PROMPT,
    UNKNOWN_STEPS,
    Adapter,
    at_most,
    budget_callback,
    feed_forward_out,
    last_blocks,
    lora_plus,
)

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback, TrainingArguments


@dataclass(frozen=True)
class Strategy:
    """How one strategy fine-tunes.

    It has an `adapter`, or `trains`: whether a parameter of the encoder trains, by its name and the number of the
    encoder's blocks; the head trains in any case. `learning_rate` is the peak rate used where the variant names none.
    `impossible` maps a model type to why the strategy cannot work on it, and what would. `optimizer` replaces the
    Trainer's AdamW, `callback` (of the study's parameters of peft) adds to its callbacks. `unsaved` is what a
    checkpoint leaves out, so that no training can go on from one; empty where that is nothing. `citation` is a key of
    notebooks/references.bib.
    """

    label: str
    description: str
    learning_rate: float
    adapter: Adapter | None = None
    trains: Callable[[str, int], bool] | None = None
    citation: str = ""
    impossible: Mapping[str, str] = field(default_factory=dict)
    optimizer: Callable[[torch.nn.Module, TrainingArguments], torch.optim.Optimizer] | None = None
    callback: Callable[[Mapping[str, Any]], TrainerCallback] | None = None
    unsaved: str = ""

    def heeds(self, name: str) -> bool:
        """Whether the field `name` of a variant makes a difference to this strategy."""
        own = self.adapter.reads if self.adapter else ()
        return name not in (*LORA_FIELDS, "target_modules", "peft") or name in own

    @property
    def merges(self) -> bool:
        """Whether the adapter can be folded into the weights, so that inference costs what it costs without."""
        return self.adapter is not None and self.adapter.targets != ""

    def callbacks(self, parameters: Mapping[str, Any]) -> list[TrainerCallback]:
        """What the strategy adds to the Trainer's callbacks, with these parameters of peft."""
        return [self.callback(parameters)] if self.callback else []


_NO_PREFIX = "DistilBERT's attention takes no keys and values from outside; prompt and p-tuning work on it"
STRATEGIES: dict[str, Strategy] = {
    "full": Strategy("Full fine-tuning", "every weight trains", 1e-4, trains=lambda name, blocks: True),
    "head": Strategy(
        "Head only",
        "the encoder is frozen; only the classification head trains",
        1.5e-2,
        trains=lambda name, blocks: False,
    ),
    "last2": Strategy(
        "Last two blocks",
        "the last two blocks of the encoder, what follows them, and the head train",
        5e-4,
        trains=last_blocks(2),
        citation="lee2019",
    ),
    "bitfit": Strategy(
        "BitFit",
        "only the bias terms and the head train",
        3e-3,
        trains=lambda name, blocks: name.endswith(".bias"),
        citation="benzaken2022",
    ),
    "ln": Strategy(
        "LayerNorm",
        "only the layer normalisations and the head train",
        1e-2,
        Adapter("LNTuningConfig", "norms"),
        citation="zhao2024",
    ),
    "lora": Strategy(
        "LoRA (query, value)",
        "a low-rank update of every query and value projection, and the head, train",
        3e-3,
        Adapter("LoraConfig", "query-value"),
        citation="hu2022",
    ),
    "lora-mlp": Strategy(
        "LoRA (feed-forward)",
        "a low-rank update of both linear layers of every feed-forward part, and the head, train",
        1e-3,
        Adapter("LoraConfig", "feed-forward"),
        citation="hu2022",
    ),
    "lora-all": Strategy(
        "LoRA (all linear)",
        "a low-rank update of all six linear layers of every encoder block, and the head, train",
        1e-3,
        Adapter("LoraConfig", "all"),
        citation="hu2022",
    ),
    "rslora": Strategy(
        "rsLoRA",
        "LoRA whose update is scaled by α/√r rather than α/r",
        3e-3,
        Adapter("LoraConfig", "query-value", use_rslora=True),
        citation="kalajdzievski2023",
    ),
    "dora": Strategy(
        "DoRA",
        "the direction of every query and value projection is learned with LoRA, its magnitude apart from it",
        5e-3,
        Adapter("LoraConfig", "query-value", use_dora=True),
        citation="liu2024dora",
    ),
    "pissa": Strategy(
        "PiSSA",
        "LoRA that starts from the largest singular values of the weight and freezes the rest",
        3e-3,
        Adapter("LoraConfig", "query-value", init_lora_weights="pissa"),
        citation="meng2024",
    ),
    "lora-plus": Strategy(
        "LoRA+",
        "LoRA whose B learns at 16 times the rate of A",
        5e-4,
        Adapter("LoraConfig", "query-value"),
        citation="hayou2024",
        optimizer=lora_plus,
    ),
    "adalora": Strategy(
        "AdaLoRA",
        "LoRA as a singular value decomposition, pruned during training from rank 12 to 8 where it matters least",
        4e-2,
        Adapter("AdaLoraConfig", "query-value", init_r=12, target_r=8, total_step=UNKNOWN_STEPS),
        citation="zhang2023",
        callback=budget_callback,
        unsaved="how much each rank matters",
    ),
    "ia3": Strategy(
        "(IA)³",
        "keys, values and the feed-forward part's inner activations are rescaled by learned vectors",
        3e-2,
        Adapter("IA3Config", "ia3", feedforward_modules=feed_forward_out),
        citation="liu2022",
    ),
    "vera": Strategy(
        "VeRA",
        "LoRA with frozen random matrices shared by all layers; only two scaling vectors per layer train",
        9e-2,
        Adapter("VeraConfig", "query-value"),
        citation="kopiczko2024",
    ),
    "loha": Strategy(
        "LoHa",
        "the update is the Hadamard product of two low-rank matrices",
        9e-3,
        Adapter("LoHaConfig", "query-value"),
        citation="hyeonwoo2022",
    ),
    "lokr": Strategy(
        "LoKr",
        "the update is a Kronecker product with a low-rank factor",
        3e-2,
        Adapter("LoKrConfig", "query-value"),
        citation="yeh2024",
    ),
    "oft": Strategy(
        "OFT",
        "the weight is rotated by a learned block-diagonal orthogonal matrix",
        3e-3,
        Adapter("OFTConfig", "query-value"),
        citation="qiu2023",
    ),
    "boft": Strategy(
        "BOFT",
        "OFT whose rotation is a product of sparse butterfly factors",
        3e-2,
        Adapter("BOFTConfig", "query-value"),
        citation="liu2024boft",
    ),
    "hra": Strategy(
        "HRA",
        "the weight is multiplied by a chain of learned Householder reflections",
        9e-3,
        Adapter("HRAConfig", "query-value"),
        citation="yuan2024",
    ),
    "fourierft": Strategy(
        "FourierFT",
        "the update is the inverse Fourier transform of a few learned coefficients",
        9e-2,
        Adapter("FourierFTConfig", "query-value"),
        citation="gao2024",
    ),
    "shira": Strategy(
        "SHiRA",
        "a fixed random choice of the weights of every query and value projection trains",
        3e-3,
        Adapter("ShiraConfig", "query-value", r=at_most(32)),
        citation="bhardwaj2024",
    ),
    "miss": Strategy(
        "MiSS",
        "one small matrix is shared by all shards of a weight",
        1e-3,
        Adapter("MissConfig", "query-value", r=at_most(64)),
        citation="kang2024",
    ),
    "randlora": Strategy(
        "RandLoRA",
        "a full-rank update: a learned combination of frozen random low-rank matrices",
        1e-3,
        Adapter("RandLoraConfig", "query-value"),
        citation="albert2025",
    ),
    "prompt": Strategy(
        "Prompt tuning",
        "16 learned vectors stand before the words of every review",
        9e-2,
        Adapter("PromptTuningConfig", **PROMPT),
        citation="lester2021",
    ),
    "p-tuning": Strategy(
        "P-tuning",
        "16 vectors, made by a small learned network, stand before the words of every review",
        3e-2,
        Adapter("PromptEncoderConfig", **PROMPT, encoder_hidden_size=128),
        citation="liu2023",
    ),
    "prefix": Strategy(
        "Prefix tuning",
        "16 learned keys and values stand before those of the words in every block's attention",
        9e-2,
        Adapter("PrefixTuningConfig", **PROMPT),
        citation="li2021",
        impossible={"distilbert": _NO_PREFIX},
    ),
}


def label(strategy: str) -> str:
    """The name of a strategy in words; that of one that only another program knows, as it is."""
    return STRATEGIES[strategy].label if strategy in STRATEGIES else strategy
