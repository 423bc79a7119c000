"""Does a strategy work on an encoder? Each is trained on toy reviews, saved, loaded and merged, as a run is.

The toy reviews are generated here and learned in a few steps, so that a check takes seconds and needs no dataset.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from peft_study.data.datasets import model_folder
from peft_study.data.tokenization import load_tokenizer
from peft_study.errors import StudyError, message, unknown
from peft_study.records.write import save_model
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training.model import build, count_parameters, load, merged
from peft_study.training.prediction import log_loss, pad_batch, predict
from peft_study.training.trainer import fit

TOLERANCE = 1e-5  # between logits that differ by rounding alone
MODEL_TYPES = (  # encoders and decoders of transformers on which the strategies are tested
    "albert", "bert", "bloom", "canine", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "esm",
    "eurobert", "flaubert", "gemma3_text", "gpt2", "gpt_neox", "jina_embeddings_v3", "llama", "luke", "megatron-bert",
    "mobilebert", "modernbert", "mpnet", "nomic_bert", "nystromformer", "opt", "phi3", "qwen2", "qwen3", "rembert",
    "roberta", "roberta-prelayernorm", "roformer", "smollm3", "xlm", "xlm-roberta-xl",
)  # fmt: skip
SMALL = {  # the shape of `tiny_model`, in the names of all model types
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "hidden_size": 32, "embedding_size": 32, "true_hidden_size": 32, "intra_bottleneck_size": 32,
    "word_embed_proj_dim": 32, "input_embedding_size": 32, "output_embedding_size": 32,
    "intermediate_size": 64, "ffn_dim": 64, "hidden_dim": 64, "vocab_size": 64, "num_hash_buckets": 64,
    "max_position_embeddings": 64, "attention_window": 16, "entity_vocab_size": 8, "entity_emb_size": 8,
    "pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2,
    "initializer_range": 0.1, "init_std": 0.1,
}  # fmt: skip
HIGHEST_RATE = 1e-2  # rates that are best on reviews may overshoot in the first steps on an untrained model
SUBJECTS = ("the film", "the plot", "the scene", "the end")
OPINIONS = (("dull", "bad", "awful", "boring"), ("good", "fine", "superb", "moving"))  # negative, positive


def toy_reviews() -> pd.DataFrame:
    """Thirty-two short reviews (`text`, `label`), half of each class, whose class shows in two of their words."""
    rows = [
        (f"{subject} was {words[i]} and {words[i - 1]}", label)
        for subject, i in itertools.product(SUBJECTS, range(4))
        for label, words in enumerate(OPINIONS)
    ]
    return pd.DataFrame(rows, columns=["text", "label"])


def toy_variant(model: str, strategy: str = "full") -> Variant:
    """A variant that trains `model` on the toy reviews for twelve steps, at the strategy's rate or `HIGHEST_RATE`."""
    return Variant(
        model=model,
        dataset="toy",
        strategy=strategy,
        validation_fraction=0.0,
        batch_size=len(toy_reviews()),  # each step sees both classes evenly, so that the loss must fall
        epochs=12.0,
        precision="fp32",
        learning_rate=min(STRATEGIES[strategy].learning_rate, HIGHEST_RATE),
    )


def toy_examples(tokenizer: Any) -> list[dict[str, Any]]:
    """The toy reviews as the Trainer takes them: `input_ids` and `labels` of each."""
    reviews = toy_reviews()
    tokens = tokenizer(reviews["text"].tolist())["input_ids"]
    return [{"input_ids": ids, "labels": label} for ids, label in zip(tokens, reviews["label"], strict=True)]


def tiny_model(model_type: str, folder: Path) -> Path:
    """Save a random two-layer classifier of a transformers model type, with a tokenizer for the toy reviews."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, BertTokenizer

    known = AutoConfig.for_model(model_type)
    config = AutoConfig.for_model(model_type, **{name: value for name, value in SMALL.items() if hasattr(known, name)})
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    text = " ".join(toy_reviews()["text"])
    words = sorted({*text.split(), *text} - {" "})  # Qwen2's tokenizer, without merges, reads characters
    vocabulary = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *words]
    BertTokenizer(vocab={word: number for number, word in enumerate(vocabulary)}).save_pretrained(folder)
    return folder


def check_all(model: str, strategies: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Check full fine-tuning, with which the others are compared, then each of `strategies` (None: all) on `model`.

    A row per strategy: `strategy`, `seconds`, `fault` (why it does not work; empty where it does) and, unless
    an error stopped it, the measurements of `check`. Raises `StudyError` for an unknown strategy, and for a model that
    cannot be loaded or is of no known family.
    """
    names = list(dict.fromkeys(["full", *(STRATEGIES if strategies is None else strategies)]))
    if strange := [name for name in names if name not in STRATEGIES]:
        raise StudyError(f"strategies: {unknown('strategy', strange[0], STRATEGIES)}")
    pretrained = _logits(build(model_folder(model), toy_variant(model)), load_tokenizer(toy_variant(model)))
    for name in names:
        variant, start = toy_variant(model, name), perf_counter()
        row, error = _attempt(lambda variant=variant: check(variant, pretrained))  # type: ignore[misc]
        fault = error or "; ".join(faults(row))
        yield (row or {"strategy": name}) | {"fault": fault, "seconds": perf_counter() - start}


def check(variant: Variant, pretrained: np.ndarray) -> dict[str, Any]:
    """Prepare, train, save, load and merge a variant of toy reviews, and measure.

    `pretrained` (n, 2) are the logits of the plain classifier with the same head. The largest differences between two
    models' logits: `start`, of the prepared model from `pretrained`; `reloaded`, of the model loaded again from the
    trained one; `merged`, of the merged one from it, None where it does not merge, and `unmerged` says why if it
    should. `loss_before` and `loss_after` are cross-entropies on the toy reviews (nats), `flops` those of a step,
    `model_bytes` the size of the saved weights; `unchanged` counts the tensors that should train, have a gradient after
    training and did not change. The parameters are counted as in `metrics.json`.
    """
    model: Any = build(model_folder(variant.model), variant)
    tokenizer, labels = load_tokenizer(variant), toy_reviews()["label"].to_numpy()
    before = _logits(model, tokenizer)
    initial = {name: tensor.detach().clone() for name, tensor in model.named_parameters() if tensor.requires_grad}
    with tempfile.TemporaryDirectory() as scratch:
        examples = {"train": toy_examples(tokenizer), "validation": []}
        training = fit(model, tokenizer, examples, variant, Path(scratch))
        after = _logits(model, tokenizer)
        size = save_model(Path(scratch, "model"), model, tokenizer, variant)
        reloaded = _logits(load(Path(scratch, "model")).to(model.device), tokenizer)
    difference, unmerged = None, ""
    if STRATEGIES[variant.strategy].merges:
        difference, unmerged = _attempt(lambda: _largest(_logits(merged(model), tokenizer) - after))
    return {
        "start": _largest(before - pretrained),
        "loss_before": log_loss(before, labels),
        "loss_after": log_loss(after, labels),
        "reloaded": _largest(reloaded - after),
        "merged": difference,
        "unmerged": unmerged,
        "model_bytes": size,
        "flops": training.figures["flops_per_step"],
        "unchanged": sum(tensor.equal(initial[name]) for name, tensor in _used(model, tokenizer).items()),
        "strategy": variant.strategy,
        **count_parameters(model),
    }


def faults(row: Mapping[str, Any]) -> list[str]:
    """What the measurements of `check` show to be wrong with a strategy; nothing where it works."""
    before, after, difference = row["loss_before"], row["loss_after"], row["merged"] or 0
    conditions = {
        f"the loss does not fall: {before:.4f} before training, {after:.4f} after": not after < before,
        f"{row['unchanged']} of the tensors that should train did not change": row["unchanged"] > 0,
        "the head does not train": row["trainable_head"] < row["head"],
        "only the head trains": row["strategy"] != "head" and row["trainable"] == row["trainable_head"],
        f"loaded again, its logits differ by {row['reloaded']:.0e}": row["reloaded"] > TOLERANCE / 10,
        f"merged, its logits differ by {difference:.0e}": not difference <= TOLERANCE,
        f"it should merge, but {row['unmerged']}": bool(row["unmerged"]),
    }
    return [fault for fault, holds in conditions.items() if holds]


def _logits(model: Any, tokenizer: Any) -> np.ndarray:
    """The logits of the toy reviews, (n, 2)."""
    examples = toy_examples(tokenizer)
    return predict(model, examples, range(len(examples)), tokenizer.pad_token_id).logits


def _used(model: Any, tokenizer: Any) -> dict[str, Any]:
    """The parameters that train and that the logits depend on, by name: not the factor of a bias that is zero."""
    examples = toy_examples(tokenizer)[:2]
    batch = pad_batch(examples, tokenizer.pad_token_id)
    model.train()(**batch).logits.sum().backward()
    used = {name: tensor for name, tensor in model.named_parameters() if tensor.grad is not None and tensor.grad.any()}
    model.zero_grad(set_to_none=True)
    return used


def _largest(differences: np.ndarray) -> float:
    """The largest difference between two models' logits."""
    return float(np.abs(differences).max())


def _attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    """What `work` returns, or the line that says why it cannot.

    A strategy may be anybody's code, and may raise anything: one that is broken must not hide how the others fare.
    """
    try:
        return work(), ""
    except Exception as error:
        return None, message(type(error).__name__, str(error))
