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
    divisor,
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
        return self.adapter is not None and self.adapter.merges

    def callbacks(self, parameters: Mapping[str, Any]) -> list[TrainerCallback]:
        """The callbacks that the strategy adds to the Trainer, given the parameters of peft."""
        return [self.callback(parameters)] if self.callback else []


_NO_PREFIX = "DistilBERT's attention accepts no external keys and values; prompt and p-tuning work on it"
STRATEGIES: dict[str, Strategy] = {
    "full": Strategy("Full fine-tuning", "every weight trains", 1e-4, trains=lambda name, parts: True),
    "head": Strategy("Head only", "the encoder is frozen; only the classification head trains", 1.5e-2),
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
    "beft": Strategy(
        "BEFT",
        "a bias added to the output of every value projection, and the head, train",
        1e-2,
        Adapter("BeftConfig", "value"),
        citation="[Huang et al. 2026](https://arxiv.org/abs/2509.15974)",
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
        Adapter("LoraConfig"),
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
        Adapter("LoraConfig", use_rslora=True),
        citation="[Kalajdzievski 2023](https://arxiv.org/abs/2312.03732)",
    ),
    "dora": Strategy(
        "DoRA",
        "the direction of every query and value projection is learned with LoRA, its magnitude separately",
        5e-3,
        Adapter("LoraConfig", use_dora=True),
        citation="[S.-Y. Liu et al. 2024](https://arxiv.org/abs/2402.09353)",
    ),
    "pissa": Strategy(
        "PiSSA",
        "LoRA that starts from the largest singular values of the weight and freezes the rest",
        3e-3,
        Adapter("LoraConfig", init_lora_weights="pissa"),
        citation="[Meng et al. 2024](https://arxiv.org/abs/2404.02948)",
    ),
    "olora": Strategy(
        "OLoRA",
        "LoRA that starts from the QR decomposition of the weight and freezes the rest",
        3e-3,
        Adapter("LoraConfig", init_lora_weights="olora"),
        citation="[Büyükakyüz 2024](https://arxiv.org/abs/2406.01775)",
    ),
    "mica": Strategy(
        "MiCA",
        "LoRA whose B holds the singular vectors of the smallest singular values and is frozen; A trains",
        3e-3,
        Adapter("LoraConfig", init_lora_weights="mica"),
        citation="[Rüdiger and Raschka 2026](https://arxiv.org/abs/2604.01694)",
    ),
    "kasa": Strategy(
        "KaSA",
        "LoRA with learned singular values, on a weight without its smallest singular components; not regularised",
        3e-3,
        Adapter("LoraConfig", kasa_config={}),
        citation="[F. Wang et al. 2025](https://arxiv.org/abs/2412.06071)",
    ),
    "velora": Strategy(
        "VeLoRA",
        "LoRA that keeps its inputs for the backward pass as one number per group of features",
        3e-3,
        Adapter("LoraConfig", velora_config={}),
        citation="[Miles et al. 2024](https://arxiv.org/abs/2405.17991)",
    ),
    "bdlora": Strategy(
        "BD-LoRA",
        "LoRA whose B is block-diagonal, of two blocks",
        3e-3,
        Adapter("LoraConfig", use_bdlora={"target_modules_bd_b": [""], "nblocks": 2}),
        citation="[X. Wang et al. 2025](https://arxiv.org/abs/2510.23346)",
    ),
    "lora-plus": Strategy(
        "LoRA+",
        "LoRA with a learning rate of B that is 16 times that of A",
        5e-4,
        Adapter("LoraConfig"),
        citation="[Hayou et al. 2024](https://arxiv.org/abs/2402.12354)",
        optimizer=lora_plus,
    ),
    "adalora": Strategy(
        "AdaLoRA",
        "LoRA as a singular value decomposition; training prunes the least important ranks, from 12 to 8",
        4e-2,
        Adapter("AdaLoraConfig", init_r=12, target_r=8, total_step=UNKNOWN_STEPS),
        citation="[Zhang et al. 2023](https://arxiv.org/abs/2303.10512)",
        callback=budget_callback,
        unsaved="the importance of each rank",
    ),
    "gralora": Strategy(
        "GraLoRA",
        "LoRA on each of the four quarters of the weight",
        3e-3,
        Adapter("GraloraConfig"),
        citation="[Jung et al. 2025](https://arxiv.org/abs/2505.20355)",
    ),
    "glora": Strategy(
        "GLoRA",
        "low-rank matrices are added to the weight and multiply it, and adapt the bias",
        1e-3,
        Adapter("GloraConfig"),
        citation="[Chavan et al. 2023](https://arxiv.org/abs/2306.07967)",
    ),
    "delora": Strategy(
        "DeLoRA",
        "LoRA whose factors are normalised; a learned number bounds the update",
        1e-3,
        Adapter("DeloraConfig"),
        citation="[Bini et al. 2025](https://arxiv.org/abs/2503.18225)",
    ),
    "lily": Strategy(
        "Lily",
        "LoRA whose B matrices are shared by all layers and mixed by a learned router",
        1e-3,
        Adapter("LilyConfig"),
        citation="[Zhong, Zhao, et al. 2025](https://aclanthology.org/2025.findings-acl.874)",
    ),
    "peanut": Strategy(
        "PEANuT",
        "the update is the output of a small network whose input is the weight",
        1e-3,
        Adapter("PeanutConfig"),
        citation="[Zhong, Jiang, et al. 2025](https://arxiv.org/abs/2410.01870)",
    ),
    "deft": Strategy(
        "DEFT",
        "a learned low-rank subspace is removed from the weight and replaced",
        3e-3,
        Adapter("DeftConfig"),
        citation="[Kumar et al. 2025](https://proceedings.neurips.cc/paper_files/paper/2025/hash/93a34a7138bdad95e874018d5f491cc6-Abstract-Conference.html)",
    ),
    "adamss": Strategy(
        "AdaMSS",
        "the weight's singular vectors are clustered into five subspaces, each with an update of rank 1",
        1e-2,
        Adapter("AdamssConfig"),
        citation="[Zheng et al. 2025](https://openreview.net/forum?id=8ZdWmpYxT0)",
    ),
    "osf": Strategy(
        "OSF",
        "the half of the weight's singular components with the smaller singular values trains",
        1e-3,
        Adapter("OSFConfig"),
        citation="[Nayak et al. 2025](https://arxiv.org/abs/2504.07097)",
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
        Adapter("VeraConfig"),
        citation="[Kopiczko et al. 2024](https://arxiv.org/abs/2310.11454)",
    ),
    "pvera": Strategy(
        "PVeRA",
        "VeRA whose inner activations are drawn from a learned normal distribution during training",
        3e-2,
        Adapter("PveraConfig"),
        citation="[Fillioux et al. 2025](https://arxiv.org/abs/2512.07703)",
    ),
    "vblora": Strategy(
        "VB-LoRA",
        "LoRA whose factors are mixtures of the vectors of a learned bank that all layers share",
        3e-2,
        Adapter("VBLoRAConfig", vector_length=divisor(256)),
        citation="[Li et al. 2024](https://arxiv.org/abs/2405.15179)",
    ),
    "unilora": Strategy(
        "Uni-LoRA",
        "LoRA whose factors repeat the 256 entries of one learned vector at random places",
        3e-1,
        Adapter("UniLoraConfig"),
        citation="[Li et al. 2025](https://arxiv.org/abs/2506.00799)",
    ),
    "tinylora": Strategy(
        "TinyLoRA",
        "64 learned numbers per weight combine random matrices in the span of its two largest singular vectors",
        1e-2,
        Adapter("TinyLoraConfig"),
        citation="[Morris et al. 2026](https://arxiv.org/abs/2602.04118)",
    ),
    "loha": Strategy(
        "LoHa",
        "the update is the Hadamard product of two low-rank matrices",
        9e-3,
        Adapter("LoHaConfig"),
        citation="[Hyeon-Woo et al. 2022](https://arxiv.org/abs/2108.06098)",
    ),
    "hira": Strategy(
        "HiRA",
        "the update is the Hadamard product of the weight and a low-rank matrix",
        3e-2,
        Adapter("HiraConfig"),
        citation="[Huang et al. 2025](https://openreview.net/forum?id=TwJrTz9cRS)",
    ),
    "lokr": Strategy(
        "LoKr",
        "the update is a Kronecker product with a low-rank factor",
        3e-2,
        Adapter("LoKrConfig"),
        citation="[Yeh et al. 2024](https://arxiv.org/abs/2309.14859)",
    ),
    "oft": Strategy(
        "OFT",
        "the weight is rotated by a learned block-diagonal orthogonal matrix",
        3e-3,
        Adapter("OFTConfig"),
        citation="[Qiu et al. 2023](https://arxiv.org/abs/2306.07280)",
    ),
    "boft": Strategy(
        "BOFT",
        "OFT whose rotation is a product of sparse butterfly factors",
        3e-2,
        Adapter("BOFTConfig"),
        citation="[W. Liu et al. 2024](https://arxiv.org/abs/2311.06243)",
    ),
    "psoft": Strategy(
        "PSOFT",
        "the singular vectors of the weight's 32 largest singular values are rotated jointly and scaled",
        1e-2,
        Adapter("PsoftConfig", r=at_most(32)),
        citation="[Wu et al. 2026](https://arxiv.org/abs/2505.11235)",
    ),
    "road": Strategy(
        "RoAd",
        "pairs of outputs of every query and value projection are rotated and scaled",
        1e-1,
        Adapter("RoadConfig", group_size=divisor(64)),
        citation="[Liao and Monz 2024](https://arxiv.org/abs/2409.00119)",
    ),
    "hra": Strategy(
        "HRA",
        "the weight is multiplied by a chain of learned Householder reflections",
        9e-3,
        Adapter("HRAConfig"),
        citation="[Yuan et al. 2024](https://arxiv.org/abs/2405.17484)",
    ),
    "fourierft": Strategy(
        "FourierFT",
        "the update is the inverse Fourier transform of a few learned coefficients",
        9e-2,
        Adapter("FourierFTConfig"),
        citation="[Gao et al. 2024](https://arxiv.org/abs/2405.03003)",
    ),
    "waveft": Strategy(
        "WaveFT",
        "the update is the inverse wavelet transform of 1,000 learned coefficients",
        3e-3,
        Adapter("WaveFTConfig", n_frequency=1000),
        citation="[Bilican et al. 2025](https://arxiv.org/abs/2505.12532)",
    ),
    "c3a": Strategy(
        "C³A",
        "the update consists of circulant blocks: a circular convolution",
        1.0,
        Adapter("C3AConfig", block_size=divisor(128)),
        citation="[Chen et al. 2025](https://arxiv.org/abs/2407.19342)",
    ),
    "frod": Strategy(
        "FRoD",
        "in a basis that layers share, the diagonal and a sparse random set of other coefficients train",
        1e-2,
        Adapter("FrodConfig", progressbar=False),
        citation="[Wan et al. 2026](https://doi.org/10.1609/aaai.v40i31.39813)",
    ),
    "shira": Strategy(
        "SHiRA",
        "a fixed random choice of the weights of every query and value projection trains",
        3e-3,
        Adapter("ShiraConfig", r=at_most(32)),
        citation="[Bhardwaj et al. 2024](https://arxiv.org/abs/2406.13175)",
    ),
    "supertuning": Strategy(
        "Super-Tuning",
        "the largest 1% of the entries of every query and value projection train",
        3e-2,
        Adapter("SupertuningConfig"),
        citation="[Ilin et al. 2026](https://arxiv.org/abs/2607.09287)",
    ),
    "miss": Strategy(
        "MiSS",
        "one small matrix is shared by all shards of a weight",
        1e-3,
        Adapter("MissConfig", r=at_most(64)),
        citation="[Kang and Yin 2024](https://arxiv.org/abs/2409.15371)",
    ),
    "randlora": Strategy(
        "RandLoRA",
        "a full-rank update: a learned combination of frozen random low-rank matrices",
        1e-3,
        Adapter("RandLoraConfig"),
        citation="[Albert et al. 2025](https://arxiv.org/abs/2502.00987)",
    ),
    "prompt": Strategy(
        "Prompt tuning",
        "16 learned vectors are prepended to the input",
        9e-2,
        Adapter("PromptTuningConfig", "", **PROMPT),
        citation="[Lester et al. 2021](https://aclanthology.org/2021.emnlp-main.243)",
    ),
    "p-tuning": Strategy(
        "P-tuning",
        "16 vectors, the output of a small learned network, are prepended to the input",
        3e-2,
        Adapter("PromptEncoderConfig", "", **PROMPT, encoder_hidden_size=128),
        citation="[Liu et al. 2023](https://arxiv.org/abs/2103.10385)",
    ),
    "prefix": Strategy(
        "Prefix tuning",
        "16 learned keys and values are prepended in the attention of every block",
        9e-2,
        Adapter("PrefixTuningConfig", "", **PROMPT),
        citation="[Li and Liang 2021](https://aclanthology.org/2021.acl-long.353)",
        impossible={"distilbert": _NO_PREFIX},
    ),
    "cartridge": Strategy(
        "Cartridge",
        "as prefix tuning, with the first of the 16 keys and values frozen",
        1e-1,
        Adapter("CartridgeConfig", "", **PROMPT),
        citation="[Eyuboglu et al. 2026](https://arxiv.org/abs/2506.06266)",
        impossible={"distilbert": _NO_PREFIX},
    ),
}

UNAVAILABLE: dict[str, str] = {  # the other methods, as peft calls them, and why
    "MULTITASK_PROMPT_TUNING": "shares a prompt between several tasks, and requires the task of each text",
    "POLY": "shares LoRA adapters between several tasks, and requires the task of each text",
    "XLORA": "mixes LoRA adapters that are already trained",
    "ADAPTION_PROMPT": "changes the attention of GPT-2, Llama and Mistral only, and trains no head",
    "CPT": "is for text generation only",
    "SHADOW": "runs a small decoder beside the blocks of a decoder",
    "TRAINABLE_TOKENS": "trains no head; the parameter trainable_token_indices adds it to LoRA",
    "LoftQ": "starts LoRA from weights that bitsandbytes has quantised",
    "EVA, CorDA, LoRA-GA": "starts LoRA from activations or gradients of training texts",
    "Gaussian, orthogonal": "draws LoRA's initial weights differently; the parameter init_lora_weights sets it",
    "MonteCLoRA": "needs a second loss beside the cross-entropy",
    "LoRA-FA": "freezes A in the optimizer, after the trainable parameters are counted",
    "aLoRA": "adapts the tokens after an invocation in a prompt, for text generation",
    "QALoRA": "needs weights quantised with GPTQ",
    "Arrow": "routes between LoRA adapters that are already trained",
}


def label(strategy: str) -> str:
    """The label of a strategy."""
    return STRATEGIES[strategy].label
