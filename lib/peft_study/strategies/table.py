"""The strategies by name. `STRATEGIES` is their only list: runs, counts, notebooks and tests read it."""

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
from peft_study.strategies.encoders import Parts

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback, TrainingArguments


@dataclass(frozen=True)
class Strategy:
    """A fine-tuning strategy.

    It has an `adapter`, or `trains`: a function of a parameter's name and the model's parts that returns whether the
    parameter trains; the head always trains, and with neither it alone. `learning_rate` is the default peak rate.
    `impossible` maps a model type to the reason why the strategy cannot work on it, with an alternative. `optimizer`
    replaces the Trainer's AdamW; `callback`, a function of the study's parameters of peft, adds a callback. `unsaved`
    names the state that checkpoints lack, without which training cannot resume; empty if they lack none. `citation` is
    a link in Markdown to the work, whose URL is in notebooks/references.bib.
    """

    label: str
    description: str
    learning_rate: float
    adapter: Adapter | None = None
    trains: Callable[[str, Parts], bool] | None = None
    citation: str = ""
    impossible: Mapping[str, str] = field(default_factory=dict)
    optimizer: Callable[[torch.nn.Module, TrainingArguments], torch.optim.Optimizer] | None = None
    callback: Callable[[Mapping[str, Any]], TrainerCallback] | None = None
    unsaved: str = ""

    def heeds(self, name: str) -> bool:
        """Whether the strategy depends on the field `name` of a variant."""
        own = self.adapter.reads if self.adapter else ()
        return name not in (*LORA_FIELDS, "target_modules", "peft") or name in own

    @property
    def merges(self) -> bool:
        """Whether the adapter can be merged into the weights, so that it adds no cost to inference."""
        return self.adapter is not None and self.adapter.targets != ""

    def callbacks(self, parameters: Mapping[str, Any]) -> list[TrainerCallback]:
        """The callbacks that the strategy adds to the Trainer, given the parameters of peft."""
        return [self.callback(parameters)] if self.callback else []


_NO_PREFIX = "DistilBERT's attention accepts no external keys and values; prompt and p-tuning work on it"
STRATEGIES: dict[str, Strategy] = {
    "full": Strategy("Full fine-tuning", "every weight trains", 1e-4, trains=lambda name, parts: True),
    "head": Strategy(
        "Head only",
        "the encoder is frozen; only the classification head trains",
        1.5e-2,
    ),
    "last2": Strategy(
        "Last two blocks",
        "the last two blocks of the encoder, the layers after them, and the head train",
        5e-4,
        trains=last_blocks(2),
        citation="[Lee et al. 2019](https://arxiv.org/abs/1911.03090)",
    ),
    "bitfit": Strategy(
        "BitFit",
        "only the bias terms and the head train",
        3e-3,
        trains=lambda name, parts: name.endswith(".bias"),
        citation="[Ben Zaken et al. 2022](https://aclanthology.org/2022.acl-short.1)",
    ),
    "ln": Strategy(
        "LayerNorm",
        "only the layer normalisations and the head train",
        1e-2,
        Adapter("LNTuningConfig", "norms"),
        citation="[Zhao et al. 2024](https://arxiv.org/abs/2312.11420)",
    ),
    "lora": Strategy(
        "LoRA (query, value)",
        "a low-rank update of every query and value projection, and the head, train",
        3e-3,
        Adapter("LoraConfig", "query-value"),
        citation="[Hu et al. 2022](https://arxiv.org/abs/2106.09685)",
    ),
    "lora-mlp": Strategy(
        "LoRA (feed-forward)",
        "a low-rank update of both linear layers of every feed-forward part, and the head, train",
        1e-3,
        Adapter("LoraConfig", "feed-forward"),
        citation="[Hu et al. 2022](https://arxiv.org/abs/2106.09685)",
    ),
    "lora-all": Strategy(
        "LoRA (all linear)",
        "a low-rank update of all six linear layers of every encoder block, and the head, train",
        1e-3,
        Adapter("LoraConfig", "all"),
        citation="[Hu et al. 2022](https://arxiv.org/abs/2106.09685)",
    ),
    "rslora": Strategy(
        "rsLoRA",
        "LoRA whose update is scaled by α/√r rather than α/r",
        3e-3,
        Adapter("LoraConfig", "query-value", use_rslora=True),
        citation="[Kalajdzievski 2023](https://arxiv.org/abs/2312.03732)",
    ),
    "dora": Strategy(
        "DoRA",
        "the direction of every query and value projection is learned with LoRA, its magnitude separately",
        5e-3,
        Adapter("LoraConfig", "query-value", use_dora=True),
        citation="[S.-Y. Liu et al. 2024](https://arxiv.org/abs/2402.09353)",
    ),
    "pissa": Strategy(
        "PiSSA",
        "LoRA that starts from the largest singular values of the weight and freezes the rest",
        3e-3,
        Adapter("LoraConfig", "query-value", init_lora_weights="pissa"),
        citation="[Meng et al. 2024](https://arxiv.org/abs/2404.02948)",
    ),
    "lora-plus": Strategy(
        "LoRA+",
        "LoRA with a learning rate of B that is 16 times that of A",
        5e-4,
        Adapter("LoraConfig", "query-value"),
        citation="[Hayou et al. 2024](https://arxiv.org/abs/2402.12354)",
        optimizer=lora_plus,
    ),
    "adalora": Strategy(
        "AdaLoRA",
        "LoRA as a singular value decomposition; training prunes the least important ranks, from 12 to 8",
        4e-2,
        Adapter("AdaLoraConfig", "query-value", init_r=12, target_r=8, total_step=UNKNOWN_STEPS),
        citation="[Zhang et al. 2023](https://arxiv.org/abs/2303.10512)",
        callback=budget_callback,
        unsaved="the importance of each rank",
    ),
    "ia3": Strategy(
        "(IA)³",
        "keys, values and the feed-forward part's inner activations are rescaled by learned vectors",
        3e-2,
        Adapter("IA3Config", "ia3", feedforward_modules=feed_forward_out),
        citation="[Liu et al. 2022](https://arxiv.org/abs/2205.05638)",
    ),
    "vera": Strategy(
        "VeRA",
        "LoRA with frozen random matrices shared by all layers; only two scaling vectors per layer train",
        9e-2,
        Adapter("VeraConfig", "query-value"),
        citation="[Kopiczko et al. 2024](https://arxiv.org/abs/2310.11454)",
    ),
    "loha": Strategy(
        "LoHa",
        "the update is the Hadamard product of two low-rank matrices",
        9e-3,
        Adapter("LoHaConfig", "query-value"),
        citation="[Hyeon-Woo et al. 2022](https://arxiv.org/abs/2108.06098)",
    ),
    "lokr": Strategy(
        "LoKr",
        "the update is a Kronecker product with a low-rank factor",
        3e-2,
        Adapter("LoKrConfig", "query-value"),
        citation="[Yeh et al. 2024](https://arxiv.org/abs/2309.14859)",
    ),
    "oft": Strategy(
        "OFT",
        "the weight is rotated by a learned block-diagonal orthogonal matrix",
        3e-3,
        Adapter("OFTConfig", "query-value"),
        citation="[Qiu et al. 2023](https://arxiv.org/abs/2306.07280)",
    ),
    "boft": Strategy(
        "BOFT",
        "OFT whose rotation is a product of sparse butterfly factors",
        3e-2,
        Adapter("BOFTConfig", "query-value"),
        citation="[W. Liu et al. 2024](https://arxiv.org/abs/2311.06243)",
    ),
    "hra": Strategy(
        "HRA",
        "the weight is multiplied by a chain of learned Householder reflections",
        9e-3,
        Adapter("HRAConfig", "query-value"),
        citation="[Yuan et al. 2024](https://arxiv.org/abs/2405.17484)",
    ),
    "fourierft": Strategy(
        "FourierFT",
        "the update is the inverse Fourier transform of a few learned coefficients",
        9e-2,
        Adapter("FourierFTConfig", "query-value"),
        citation="[Gao et al. 2024](https://arxiv.org/abs/2405.03003)",
    ),
    "shira": Strategy(
        "SHiRA",
        "a fixed random choice of the weights of every query and value projection trains",
        3e-3,
        Adapter("ShiraConfig", "query-value", r=at_most(32)),
        citation="[Bhardwaj et al. 2024](https://arxiv.org/abs/2406.13175)",
    ),
    "miss": Strategy(
        "MiSS",
        "one small matrix is shared by all shards of a weight",
        1e-3,
        Adapter("MissConfig", "query-value", r=at_most(64)),
        citation="[Kang and Yin 2024](https://arxiv.org/abs/2409.15371)",
    ),
    "randlora": Strategy(
        "RandLoRA",
        "a full-rank update: a learned combination of frozen random low-rank matrices",
        1e-3,
        Adapter("RandLoraConfig", "query-value"),
        citation="[Albert et al. 2025](https://arxiv.org/abs/2502.00987)",
    ),
    "prompt": Strategy(
        "Prompt tuning",
        "16 learned vectors are prepended to the input",
        9e-2,
        Adapter("PromptTuningConfig", **PROMPT),
        citation="[Lester et al. 2021](https://aclanthology.org/2021.emnlp-main.243)",
    ),
    "p-tuning": Strategy(
        "P-tuning",
        "16 vectors, the output of a small learned network, are prepended to the input",
        3e-2,
        Adapter("PromptEncoderConfig", **PROMPT, encoder_hidden_size=128),
        citation="[Liu et al. 2023](https://arxiv.org/abs/2103.10385)",
    ),
    "prefix": Strategy(
        "Prefix tuning",
        "16 learned keys and values are prepended in the attention of every block",
        9e-2,
        Adapter("PrefixTuningConfig", **PROMPT),
        citation="[Li and Liang 2021](https://aclanthology.org/2021.acl-long.353)",
        impossible={"distilbert": _NO_PREFIX},
    ),
}


def label(strategy: str) -> str:
    """The label of a strategy; the name itself for one that only another program knows."""
    return STRATEGIES[strategy].label if strategy in STRATEGIES else strategy
