"""A run's `model/README.md`: what the model is, its scores, how to load it, and its limits.

The template, `model_card.md` beside this file, is filled from the record; names that come with the data are escaped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peft_study.data.datasets import is_on_hub
from peft_study.data.labels import LABELS
from peft_study.data.tokenization import HEAD_SHARE, kept, template
from peft_study.files import replacing
from peft_study.records.layout import read_metrics, read_variant, recorded_labels
from peft_study.records.read import fitted_temperature, read_arrays
from peft_study.statistics.calibration import expected_error, losses
from peft_study.statistics.intervals import interval
from peft_study.statistics.scores import scored
from peft_study.strategies.table import STRATEGIES
from peft_study.text import UNKNOWN, class_list, markdown_escape

_TEMPLATE = Path(__file__).with_suffix(".md")


def write_card(folder: Path) -> None:
    """Write the card of the run whose record is in `folder`; none where it kept no model."""
    if (folder / "model").is_dir():
        with replacing(folder / "model" / "README.md") as partial:
            partial.write_text(card(folder), encoding="utf-8")


def card(folder: Path, plain: bool = False) -> str:
    """The text of the card of the run whose record, and model, is in `folder`; `plain`: of the model once merged."""
    from huggingface_hub import ModelCard, ModelCardData
    from transformers import AutoTokenizer

    variant, metrics = read_variant(folder), read_metrics(folder)
    labels = recorded_labels(folder) or LABELS
    files = {"test": folder / "preds_and_labels.npz", "other kind": folder / "ood_preds_and_labels.npz"}
    parts = {name: read_arrays(file) for name, file in files.items() if file.exists()}
    adapted = not plain and (folder / "model" / "adapter_config.json").exists()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", local_files_only=True, trust_remote_code=False)
    texts = ["text"] if len(variant.text_columns) == 1 else ["first", "second"]
    around = template(tokenizer, len(texts))
    pieces = around.fill(texts, lambda token: token)
    types = [
        f"[{kind}]" + f" * len({piece})" * (piece in texts) for kind, piece in zip(around.types, pieces, strict=True)
    ]
    code = {"ids": " + ".join(map(str, pieces)), "types": " + ".join(types) * any(around.types)}
    room = variant.max_length - around.special
    head, tail = kept(room + 1, room, variant.truncation)
    header = ModelCardData(
        base_model=variant.model.split("@")[0] if is_on_hub(variant.model) else None,
        datasets=[variant.dataset.split("@")[0]] if is_on_hub(variant.dataset) else None,
        library_name="peft" if adapted else "transformers",
        pipeline_tag="text-classification",
        metrics=["accuracy", "f1"],
        tags=[variant.strategy],
    )
    return str(
        ModelCard.from_template(
            header,
            template_path=str(_TEMPLATE),
            variant=variant,
            strategy=STRATEGIES[variant.strategy],
            adapted=adapted,
            on_hub=is_on_hub(variant.model),
            run=f"{folder.parent.name}/{folder.name}",
            window={"room": room, "head": head, "tail": tail, "texts": texts, **code},
            columns=list(map(markdown_escape, variant.text_columns)),
            at_most={"head": "room", "tail": "0", "head+tail": f"round(room * {HEAD_SHARE})"}[variant.truncation],
            temperature=fitted_temperature(folder),
            names=dict(enumerate(labels)),
            classes=markdown_escape(class_list(labels)),
            counts=metrics["parameters"],
            data=metrics["data"],
            training=metrics["training"],
            where=metrics["environment"],
            scores=[_scores(name, part) for name, part in parts.items()],
        )
    )


def _scores(name: str, part: Mapping[str, Any]) -> list[str]:
    """The row of one test set. The logits of a training that diverged are not finite."""
    labels, logits = part["labels"], part["logits"]
    cells = [str(interval(scored(metric, labels, part["preds"])).scaled(100)) for metric in ("accuracy", "macro_f1")]
    finite = np.isfinite(logits).all()
    cells += [f"{losses(logits, labels).mean():.3f}" if finite else UNKNOWN]
    cells += [str(expected_error(logits[None], labels).scaled(100)) if finite else UNKNOWN]
    return [name, f"{len(labels):,}", *cells]
