"""A run's `model/README.md`: what the model is, what it reaches, how to load it, and what not to expect of it.

The layout is that of the hub's model cards: a header of YAML, then Markdown. All of it is computed from the record;
names that come with the data are escaped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from peft_study.data.datasets import is_on_hub
from peft_study.files import replacing
from peft_study.records.layout import label_names, read_metrics, recorded_params
from peft_study.records.read import read_arrays
from peft_study.statistics.calibration import expected_error, losses, overconfidence
from peft_study.statistics.intervals import accuracy, interval, macro_f1
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.text import listed, markdown_escape, points

Arrays = Mapping[str, np.ndarray]

_ADAPTER = """\
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

folder = "."  # where this file is
names = {names}
model = AutoPeftModelForSequenceClassification.from_pretrained(
    folder, id2label=names, label2id={{name: i for i, name in names.items()}}
)
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
print(classify("A text to classify.", truncation=True, max_length={length}))
"""
_WHOLE = """\
from transformers import pipeline

folder = "."  # where this file is
classify = pipeline("text-classification", model=folder)
print(classify("A text to classify.", truncation=True, max_length={length}))
"""


def write_card(folder: Path) -> None:
    """Write the card of the run whose record is in `folder`; none where it kept no model."""
    if (folder / "model").is_dir():
        with replacing(folder / "model" / "README.md") as partial:
            partial.write_text(card(folder), encoding="utf-8")


def card(folder: Path) -> str:
    """The text of the card of the run whose record, and model, is in `folder`."""
    variant, metrics = Variant(**(recorded_params(folder) or {})), read_metrics(folder)
    files = {"test": folder / "preds_and_labels.npz", "other kind": folder / "ood_preds_and_labels.npz"}
    parts = {name: read_arrays(file) for name, file in files.items() if file.exists()}
    labels = label_names(folder)
    adapted = (folder / "model" / "adapter_config.json").exists()
    sections = [
        f"# {STRATEGIES[variant.strategy].label} on `{variant.dataset}`",
        _what(variant, metrics, [markdown_escape(name) for name in labels]),
        "## Data",
        _data(variant, metrics["data"]),
        "## What it reaches",
        _scores(parts),
        _by_class(parts["test"], [markdown_escape(name) for name in labels]),
        "## How to load it",
        _loading(variant, labels, adapted),
        "## Limits",
        _limits(variant, metrics, parts),
    ]
    return f"---\n{_header(variant, adapted)}---\n\n" + "\n\n".join(sections) + "\n"


def _header(variant: Variant, adapted: bool) -> str:
    """What the hub reads; models and datasets only where they are names of the hub."""
    entries: dict[str, Any] = {} if not is_on_hub(variant.model) else {"base_model": variant.model.split("@")[0]}
    entries |= {} if not is_on_hub(variant.dataset) else {"datasets": [variant.dataset.split("@")[0]]}
    entries |= {
        "library_name": "peft" if adapted else "transformers",
        "pipeline_tag": "text-classification",
        "metrics": ["accuracy", "f1"],
        "tags": [variant.strategy],
    }
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)


def _what(variant: Variant, metrics: Mapping[str, Any], names: list[str]) -> str:
    """The model, its classes, its base model, what was trained of it, and how."""
    counts, where = metrics["parameters"], metrics["environment"]
    strategy = STRATEGIES[variant.strategy]
    return (
        f"A classifier of texts into {len(names)} classes: {listed(names)}. Its base model is `{variant.model}` "
        f"({_commit(where['model_revision'])}weights `{where['model']}`). {strategy.label}: {strategy.description}. "
        f"Of {counts['total']:,} parameters {counts['trainable']:,} were trained: "
        f"{counts['trainable_backbone']:,} of the backbone, {counts['trainable_adapter']:,} of the adapter, "
        f"{counts['trainable_head']:,} of the classification head. "
        f"Training took {metrics['training']['steps']:,} steps at a peak learning rate of "
        f"{metrics['training']['learning_rate']:g}; the seed is {variant.seed}."
    )


def _commit(revision: str | None) -> str:
    """Which commit of the hub something is, if it is of the hub."""
    return f"commit `{revision}`, " if revision else ""


def _data(variant: Variant, counts: Mapping[str, Any]) -> str:
    """Which texts it learned from and was tested on."""
    origin = "held out of its training split" if counts["held_out"] else "its own test split"
    return (
        f"`{variant.dataset}` ({_commit(counts['revision'])}fingerprint `{counts['fingerprint']}`): "
        f"{counts['train']:,} texts to train on, {counts['validation']:,} to validate with, "
        f"{counts['test']:,} to test with ({origin}). {counts['duplicates']:,} repeated rows were dropped. "
        f"The model reads {variant.max_length} tokens of a text at most (`{variant.truncation}`)."
    )


def _scores(parts: Mapping[str, Arrays]) -> str:
    """A table with a row for each test set."""
    rows = ["| texts | number | accuracy (%) | macro F1 (%) | log-loss (nats) | calibration error (points) |"]
    rows.append("|---|---:|---:|---:|---:|---:|")
    for name, part in parts.items():
        labels, logits = part["labels"], part["logits"]
        cells = [str(interval(part["preds"], labels, which).scaled(100)) for which in (accuracy, macro_f1)]
        sound = np.isfinite(logits).all()  # of a training that diverged they are not
        cells += [f"{losses(logits, labels).mean():.3f}"] if sound else ["–"]
        cells += [str(expected_error(logits, labels).scaled(100))] if sound else ["–"]
        rows.append(f"| {name} | {len(labels):,} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n\nIn brackets 95 % intervals over the draw of texts; another seed is not in them."


def _by_class(test: Arrays, names: list[str]) -> str:
    """How well the classes are recognised, and what naming the commonest one would reach."""
    share = {int(i): float((test["preds"][test["labels"] == i] == i).mean()) for i in np.unique(test["labels"])}
    worst, best = min(share, key=share.__getitem__), max(share, key=share.__getitem__)
    common = np.bincount(test["labels"]).max() / len(test["labels"])
    return (
        f"Of the test texts of a class it recognises from {share[worst]:.1%} ({names[worst]}) to {share[best]:.1%} "
        f"({names[best]}). Always naming the commonest class would be right for {common:.1%}."
    )


def _loading(variant: Variant, labels: Sequence[str], adapted: bool) -> str:
    """The code that loads it, and what it needs."""
    code = (_ADAPTER if adapted else _WHOLE).format(names=dict(enumerate(labels)), length=variant.max_length)
    told = f"```python\n{code}```"
    if not adapted:
        return told
    where = (
        "It is fetched from the hub."
        if is_on_hub(variant.model)
        else "It is looked for where it was when this was trained; elsewhere, change that name."
    )
    return f"{told}\n\nThe adapter needs its base model, which `adapter_config.json` names. {where}"


def _limits(variant: Variant, metrics: Mapping[str, Any], parts: Mapping[str, Arrays]) -> str:
    """What the record does not promise."""
    elsewhere = "It was not tested on any other kind."
    if other := parts.get("other kind"):
        reached = interval(other["preds"], other["labels"]).scaled(100)
        elsewhere = f"On those of `{variant.ood_dataset}` its accuracy is {reached} %."
    lines = [
        f"It knows texts like those of `{variant.dataset}`. {elsewhere}",
        "Every text gets one of its classes, whether or not it belongs to any.",
        "It is one run with one seed: another one may do better or worse.",
    ]
    if np.isfinite(parts["test"]["logits"]).all():
        over = overconfidence(parts["test"]["logits"], parts["test"]["labels"]).scaled(100)
        lines.append(
            f"Its mean confidence on the test texts less its accuracy is {points(over.estimate)} [{points(over.low)}, "
            f"{points(over.high)}] points: above zero, it is surer than it is right."
        )
    if variant.truncation != "head":
        lines.append(
            f"It was trained on windows cut by `{variant.truncation}`, and the scores are for such; a pipeline cuts "
            "longer texts after their first tokens."
        )
    if metrics["training"]["interrupted"]:
        lines.append("Its training was interrupted.")
    return "\n".join(f"- {line}" for line in lines)
