"""What only the models and the data can tell of a study: refused before anything trains."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from peft_study.data import datasets
from peft_study.data.reviews import Corpus, budget, load_corpus
from peft_study.errors import StudyError
from peft_study.strategies.encoders import architecture
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training.model import check_adapter, require_possible

_OF_THE_CORPUS = {"dataset", "ood_dataset", "text_column", "label_column", "label_names"}


def check(variants: Iterable[Variant]) -> None:
    """Refuse, before anything trains, what only the models and the data can tell. Every fault in one error."""
    variants, faults = list(variants), dict[str, None]()
    models: dict[str, Path | None] = {}
    corpora: dict[str, Corpus | None] = {}
    for variant in variants:
        with _noting(faults):
            if variant.model not in models:
                models[variant.model] = None  # where it cannot be had, that is said once
                models[variant.model] = datasets.model_folder(variant.model)
            if folder := models[variant.model]:
                _check_model(variant, folder)
        shared = variant.model_dump_json(include={*_OF_THE_CORPUS, "test_size", "ood_size", "data_seed"})
        with _noting(faults):
            if shared not in corpora:
                corpora[shared] = None
                corpora[shared] = load_corpus(variant)
            if corpus := corpora[shared]:
                _has_every_class(budget(corpus, variant)[0], corpus.labels, variant)
    if faults:
        raise StudyError("\n  ".join(faults if len(faults) == 1 else [f"there are {len(faults)} faults:", *faults]))


def _has_every_class(train: pd.DataFrame, labels: Sequence[str], variant: Variant) -> None:
    """Refuse a budget that leaves no review of some class to train on."""
    if unseen := [name for i, name in enumerate(labels) if not (train["label"] == i).any()]:
        raise StudyError(
            f"train_size = {variant.train_size} leaves no review of {', '.join(map(repr, unseen))} to train on; raise "
            "it, or lower validation_fraction"
        )


@contextmanager
def _noting(faults: dict[str, None]) -> Iterator[None]:
    """Add what is refused in this block to `faults`, instead of raising it."""
    try:
        yield
    except StudyError as error:
        faults[str(error)] = None


def _check_model(variant: Variant, folder: Path) -> None:
    """Refuse an unsupported architecture, a strategy that cannot work on it, and a `max_length` above the model's."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StudyError(f"model = {variant.model!r}: {file} is not readable as JSON: {error}") from error
    kind = config.get("model_type", "")
    architecture(kind)
    require_possible(variant, kind)
    longest = config["max_position_embeddings"] - (config.get("pad_token_id", 1) + 1 if kind == "roberta" else 0)
    room = longest - (own := STRATEGIES[variant.strategy].virtual_tokens(variant.peft))
    if variant.max_length > room:
        taken = f", of which {variant.strategy!r} takes {own}" if own else ""
        raise StudyError(
            f"max_length = {variant.max_length}: {variant.model!r} reads at most {longest} tokens{taken}; ask for at "
            f"most {room}"
        )
    if variant.peft or variant.target_modules:
        check_adapter(str(file.parent), variant)
