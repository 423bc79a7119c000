"""Check the models and the data of a study before anything trains."""

import copy
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peft_study.data import datasets
from peft_study.data.labels import LABELS
from peft_study.data.model_files import weight_files
from peft_study.data.reviews import Corpus, budget, load_corpus
from peft_study.data.tokenization import match_model, read_tokenizer, template
from peft_study.errors import StudyError, one_line, quoted
from peft_study.strategies.adapters import LORA_FIELDS
from peft_study.strategies.encoders import find_parts
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import TESTED, Variant
from peft_study.text import class_list, several
from peft_study.training.model import (
    apply_strategy,
    attention,
    brings_head,
    lacks_pooler,
    model_options,
    quiet,
    require_pretrained,
)
from peft_study.training.prediction import pad_batch

_SOME, _UNKNOWN = 100, 0.2  # texts to tokenise; the share of unknown tokens above which a note is due
_WINDOW = {"model", "strategy", "peft", "max_length"}
_ADAPTER = {"model", "strategy", "peft", "target_modules", *LORA_FIELDS}


class _Checks:
    """Checks of a study, each made once, with their `faults` and `notes`."""

    def __init__(self) -> None:
        self.faults: dict[str, None] = {}
        self.notes: dict[str, None] = {}
        self._results: dict[Any, Any] = {}

    def once(self, key: Any, check: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `check`, None after a fault. `key` names what the result depends on."""
        if (key := (check, key)) not in self._results:
            self._results[key] = None
            try:
                self._results[key] = check(*arguments)
            except StudyError as error:
                self.faults[str(error)] = None
        return self._results[key]

    def note(self, *notes: str) -> None:
        """Add notes for the user, each once."""
        self.notes |= dict.fromkeys(notes)


def check(variants: Iterable[Variant], metric: str = "accuracy") -> None:
    """Load the models and the data of `variants`; raises one `StudyError` with every distinct fault.

    `metric` is that of the study. The weights are read once and not kept; each strategy passes a tiny batch through an
    untrained model of their shape.
    """
    checks = _Checks()
    for variant in variants:
        folder = checks.once(variant.model, datasets.model_folder, variant.model)
        corpus = checks.once(variant.model_dump_json(include=set(TESTED)), load_corpus, variant)
        if folder and corpus:
            _check_model(checks, variant, folder, corpus.labels, corpus.pool["text"].head(_SOME).tolist())
        elif folder:  # the classes are unknown
            _check_model(checks, variant.model_copy(update={"keep_head": False}), folder, LABELS)
        if corpus:
            checks.note(_summary(variant, corpus), *corpus.notes)
            if (distinct := len(corpus.pool)) < variant.train_size <= distinct + corpus.duplicates:
                checks.note(
                    f"train_size = {variant.train_size} includes repeated rows: only {distinct:,} texts are distinct"
                )
            checks.once(variant.model_dump_json(), _check_classes, variant, corpus)
            checks.once(corpus.labels, _check_metric, metric, corpus.labels)
    for note in checks.notes:
        print(f"note: {note}", file=sys.stderr)
    if faults := checks.faults:
        raise StudyError("\n  ".join(faults if len(faults) == 1 else [f"there are {len(faults)} faults:", *faults]))


def _summary(variant: Variant, corpus: Corpus) -> str:
    """The size and the classes of a dataset, on a line."""
    rows = f"{len(corpus.splits['train']):,} training rows, {corpus.unique:,} distinct texts"
    classes = f"{len(corpus.labels)} classes ({class_list(corpus.labels)})"
    return f"{variant.dataset}: {rows}, {len(corpus.test):,} test texts, {classes}"


def _check_classes(variant: Variant, corpus: Corpus) -> None:
    """Refuse a budget without a training text of some class."""
    present, pool = set(budget(corpus, variant)[0]["label"]), corpus.pool["label"].to_numpy()
    absent = [label for label in range(len(corpus.labels)) if label not in present]
    if not absent:
        return
    names = several([quoted(corpus.labels[label], 40) for label in absent], 5)
    fault = f"train_size = {variant.train_size} leaves no text of {names} to train on"
    first = [int(np.argmax(pool == label)) + 1 for label in absent if label in pool]
    if len(first) < len(absent):
        raise StudyError(f"{fault}: all are in the test set; merge or remove so rare a class, or lower test_size")
    raise StudyError(f"{fault}; raise it to {max(first)}")


def _check_metric(metric: str, labels: Sequence[str]) -> None:
    """Refuse a metric of two classes where there are more."""
    if metric == "auc" and len(labels) > 2:
        raise StudyError(
            f"metric: auc is for two classes, and the dataset has {len(labels)} ({class_list(labels)}); "
            "set accuracy, macro_f1 or balanced_accuracy"
        )


def _check_model(
    checks: _Checks, variant: Variant, folder: Path, labels: Sequence[str], texts: Sequence[str] = ()
) -> None:
    """Check the model in `folder` and the variant's strategy on it, for the classes `labels`, on some `texts`."""
    quiet()
    model, strategy = variant.model, variant.strategy
    options = checks.once((model, strategy, labels), model_options, variant, labels, folder)
    if options is None:
        return
    shapes = checks.once((model, labels), _load_shapes, variant, labels, folder)
    passed = [
        shapes and checks.once((model, strategy, labels, variant.keep_head), _check_weights, variant, *shapes, checks),
        checks.once(model, _check_values, model, folder, options["config"]),
        checks.once(variant.model_dump_json(include=_WINDOW), _check_window, variant, options["config"]),
        tokenizer := checks.once(model, _check_tokenizer, variant, folder, options["config"], checks),
    ]
    if tokenizer and texts:
        checks.once((model, *texts), _check_words, variant, tokenizer, texts, checks)
    if all(passed):
        checks.once(variant.model_dump_json(include=_ADAPTER), _try_batch, variant, options["config"])


def _check_weights(variant: Variant, model: Any, loading: Any, checks: _Checks) -> bool:
    """Refuse weights from which the strategy cannot start."""
    require_pretrained(model, loading, variant)
    if brings_head(model, loading) and not variant.keep_head:
        note = "has a classification head; every run starts from a new one (keep_head: true keeps it)"
        checks.note(f"model = {variant.model!r} {note}")
    if lacks_pooler(model, loading):
        checks.note(f"the weights of {variant.model!r} lack the pooler; a new one trains with the head")
    return True


def _check_values(name: str, folder: Path, config: Any) -> bool:
    """Read all weights of a model; refuse values that no training produces."""
    from safetensors import safe_open

    where, block = f"model = {name!r}: the folder {folder}", find_parts(config).block
    for file in weight_files(folder, where):
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - no mapping
                tensor = weights.get_tensor(key)
                in_block, damaged = block(key) is not None, "; the file is damaged, fetch it again"
                if in_block and tensor.element_size() == 1:
                    fault = f"{tensor.dtype} numbers, whose scale is lost; take the weights before they were quantised"
                elif in_block and tensor.ndim > 1 and not tensor.any():  # a download that broke off
                    fault = f"nothing but zeros{damaged}"
                elif not tensor.isfinite().all():
                    fault = f"numbers that are not finite (NaN or infinite){damaged}"
                else:
                    continue
                raise StudyError(f"{where}: {key} in {file.name} holds {fault}")
    return True


def _check_window(variant: Variant, config: Any) -> bool:
    """Refuse a `max_length` above the model's maximum."""
    longest, adapter = find_parts(config).positions, STRATEGIES[variant.strategy].adapter
    if longest is None:
        return True
    room = longest - (virtual := adapter.virtual_tokens(variant.peft) if adapter else 0)
    if variant.max_length > room:
        taken = f", of which {variant.strategy!r} takes {virtual}" if virtual else ""
        raise StudyError(
            f"max_length = {variant.max_length}: {variant.model!r} reads at most {longest} tokens{taken}; ask for at "
            f"most {room}"
        )
    return True


def _check_tokenizer(variant: Variant, folder: Path, config: Any, checks: _Checks) -> Any:
    """The tokenizer; refused if it does not load, has no padding token, or does not match the embeddings."""
    tokenizer, name = read_tokenizer(variant), f"model = {variant.model!r}"
    if note := match_model(tokenizer, folder):
        checks.note(f"{name}: {note}")
    template(tokenizer, len(variant.text_columns))
    vocabulary = tokenizer.get_vocab()
    if not vocabulary.keys() - set(tokenizer.all_special_tokens):
        raise StudyError(
            f"{name}: its tokenizer has no vocabulary; add its file (tokenizer.json or vocab.txt) to the folder"
        )
    if (largest := max(vocabulary.values())) >= config.vocab_size:  # `_try_batch` has few embeddings
        raise StudyError(
            f"{name}: its tokenizer has {largest + 1:,} tokens and its embeddings have {config.vocab_size:,} rows; "
            f"enlarge them once with model.resize_token_embeddings({largest + 1}), then save_pretrained"
        )
    if find_parts(config).counts_from_padding and tokenizer.pad_token_id != config.pad_token_id:
        raise StudyError(
            f"{name}: its tokenizer pads with token {tokenizer.pad_token_id}, and config.json says pad_token_id = "
            f"{config.pad_token_id}, from which such a model counts positions; name the same token in both"
        )
    if tokenizer.pad_token_id != config.pad_token_id or config.vocab_size > 1.1 * largest + 128:
        checks.note(
            f"{name}: its tokenizer has {largest + 1:,} tokens and pads with number {tokenizer.pad_token_id}; the "
            f"embeddings have {config.vocab_size:,} rows, padding {config.pad_token_id}; check that these fit"
        )
    return tokenizer


def _check_words(variant: Variant, tokenizer: Any, texts: Sequence[str], checks: _Checks) -> None:
    """Note a high share of unknown tokens in `texts`, as in another language."""
    tokens = [token for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] for token in ids]
    if (share := tokens.count(tokenizer.unk_token_id) / max(1, len(tokens))) > _UNKNOWN:
        unknown = f"{share:.0%} of the tokens of the first {len(texts)} texts are {tokenizer.unk_token}"
        checks.note(f"model = {variant.model!r}: {unknown}; its vocabulary may be of another language")


def _load_shapes(variant: Variant, labels: Sequence[str], folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """The pretrained classifier without values, and the report of `from_pretrained`.

    Raises `StudyError` where the weights do not load.
    """
    from transformers import AutoModelForSequenceClassification

    options = model_options(variant, labels, folder) | {"device_map": "meta"}
    try:
        return AutoModelForSequenceClassification.from_pretrained(folder, **options)  # type: ignore[no-any-return]
    except Exception as error:  # whatever damaged weights lead to
        raise StudyError(f"model = {variant.model!r}: its weights do not load: {one_line(error, 300)}") from error


def _try_batch(variant: Variant, config: Any) -> None:
    """Pass two short texts forward and backward through an untrained model, as the strategy trains it.

    The model has the shape in `config` and zero weights. To be fast, it has few word embeddings, and two blocks unless
    the variant may name others. Raises `StudyError` where it fails.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForSequenceClassification

    config, pad = copy.deepcopy(config), config.pad_token_id or 0
    config.vocab_size = pad + 2
    if not (variant.peft or variant.target_modules):
        config.num_hidden_layers = min(2, config.num_hidden_layers)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention())
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(torch.zeros(parameter.shape)))
    try:
        model = apply_strategy(model, variant).train()
        if empty := [name for name, parameter in model.named_parameters() if not parameter.numel()]:
            raise StudyError(f"strategy = {variant.strategy!r}, peft = {variant.peft}: {empty[0]} would be empty")
        batch = pad_batch([{"input_ids": [pad + 1] * length} for length in (4, 2)], pad)
        model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    except StudyError:
        raise
    except Exception as error:  # every method and model says in its own way that they do not go together
        raise StudyError(
            f"strategy = {variant.strategy!r} does not work on {variant.model!r}: {one_line(error, 300)}"
        ) from error
