"""Folders in the layout of the hub: tiny models with random weights, and tiny reviews that a tiny model can learn."""

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd

WORDS = "the film a plot with some actors and one long scene was in its end all of us saw it there".split()  # noqa: SIM905
CLASSES = (("bad", "dull", "awful", "boring"), ("good", "fine", "superb", "moving"))


def reviews(count: int, seed: int = 0) -> pd.DataFrame:
    """`count` distinct reviews, half of each class, whose class shows in four of its words."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        words = rng.choices(WORDS, k=rng.randint(4, 30)) + rng.choices(CLASSES[i % 2], k=4)
        rng.shuffle(words)
        rows.append((" ".join(words) + f" {i}", i % 2))
    return pd.DataFrame(rows, columns=["text", "label"])


def save_reviews(folder: Path, **splits: pd.DataFrame) -> Path:
    """A dataset folder in the hub's layout: `plain_text/<split>-00000-of-00001.parquet`."""
    (folder / "plain_text").mkdir(parents=True)
    for name, table in splits.items():
        table.to_parquet(folder / "plain_text" / f"{name}-00000-of-00001.parquet", index=False)
    return folder


def save_tokenizer(folder: Path, kind: str) -> int:
    """A word-piece tokenizer of the test reviews' words and letters; returns the size of its vocabulary."""
    from transformers import BertTokenizer, DistilBertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *CLASSES[0], *CLASSES[1], *letters]
    vocabulary = list(dict.fromkeys([*vocabulary, *(f"##{letter}" for letter in letters)]))
    make = BertTokenizer if kind == "bert" else DistilBertTokenizer
    tokenizer = make(vocab={word: i for i, word in enumerate(vocabulary)})
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


SHAPES = {  # what a family calls width, blocks, heads and inner width; its positions
    "bert": ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", 64),
    "roberta": ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", 66),
    "distilbert": ("dim", "n_layers", "n_heads", "hidden_dim", 64),
}


def save_model(folder: Path, kind: str) -> Path:
    """A random two-layer encoder of the family `kind` with its tokenizer, as `save_pretrained` lays it out."""
    import torch
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    *names, positions = SHAPES[kind]
    sizes = dict(zip(names, (32, 2, 2, 64), strict=True)) | {"max_position_embeddings": positions}
    vocabulary = save_tokenizer(folder, "distilbert" if kind == "distilbert" else "bert")
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, pad_token_id=0, initializer_range=0.1, **sizes)
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    if kind == "roberta":
        model.pooler = None  # a classifier of this family has none
    model.save_pretrained(folder)
    return folder


def edit_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
