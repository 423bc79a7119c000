"""What only the models and the data reveal about a study, refused before anything trains."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from peft_study.data import datasets
from peft_study.data.reviews import Corpus, budget, load_corpus
from peft_study.errors import StudyError
from peft_study.strategies.encoders import architecture
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training.model import apply_strategy, require_possible

_CORPUS = {"dataset", "ood_dataset", "text_column", "label_column", "label_names", "test_size", "ood_size", "data_seed"}


def check(variants: Iterable[Variant]) -> None:
    """Load the models and the data of `variants`; raises one `StudyError` with every fault, each named once."""
    faults: dict[str, None] = {}
    loaded: dict[str, Any] = {}  # what could not be loaded is None, and not asked for again

    def attempt(check: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return check(*arguments)
        except StudyError as error:
            faults[str(error)] = None

    for variant in variants:
        corpus = variant.model_dump_json(include=_CORPUS)
        if variant.model not in loaded:
            loaded[variant.model] = attempt(datasets.model_folder, variant.model)
        if corpus not in loaded:
            loaded[corpus] = attempt(load_corpus, variant)
        if folder := loaded[variant.model]:
            attempt(_check_model, variant, folder)
        if loaded[corpus]:
            attempt(_check_classes, variant, loaded[corpus])
    if faults:
        raise StudyError("\n  ".join(faults if len(faults) == 1 else [f"there are {len(faults)} faults:", *faults]))


def _check_classes(variant: Variant, corpus: Corpus) -> None:
    """Refuse a budget that leaves no review of some class to train on."""
    present = set(budget(corpus, variant)[0]["label"])
    if absent := [repr(name) for label, name in enumerate(corpus.labels) if label not in present]:
        raise StudyError(
            f"train_size = {variant.train_size} leaves no review of {', '.join(absent)} to train on; raise it, or "
            "lower validation_fraction"
        )


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
    adapter = STRATEGIES[variant.strategy].adapter
    room = longest - (virtual := adapter.virtual_tokens(variant.peft) if adapter else 0)
    if variant.max_length > room:
        taken = f", of which {variant.strategy!r} takes {virtual}" if virtual else ""
        raise StudyError(
            f"max_length = {variant.max_length}: {variant.model!r} reads at most {longest} tokens{taken}; ask for at "
            f"most {room}"
        )
    if variant.peft or variant.target_modules:
        _check_adapter(folder, variant)


def _check_adapter(folder: Path, variant: Variant) -> None:
    """Refuse what peft refuses: the adapter is put into random weights in the shape of the model in `folder`."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    apply_strategy(AutoModelForSequenceClassification.from_config(config), variant)
