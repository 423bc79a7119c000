"""The model that a run kept, with all that its predictions depend on: tokenizer, window, precision, temperature."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from peft_study import paths
from peft_study.data.datasets import model_folder
from peft_study.data.reviews import joined
from peft_study.data.tokenization import tokenize_texts
from peft_study.errors import StudyError, unknown
from peft_study.files import make_readable, remove, replacing
from peft_study.records.layout import is_finished, is_interrupted, read_metrics, read_variant, recorded_labels
from peft_study.records.model_card import card
from peft_study.records.read import fitted_temperature, reading
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.training.model import load, merged, quiet
from peft_study.training.prediction import Tell, predict

AT_ONCE = 2048  # texts that are tokenised and sorted by length together


@dataclass(frozen=True)
class Classifier:
    """A finished run's model, on the GPU if there is one, and how the run used it.

    `names` are those of the classes 0, 1, ... Logits divided by `temperature` give calibrated probabilities; it is
    fitted on the run's validation texts, and 1 where there are none or they determine none. `bf16`: whether the run
    predicted under autocast.
    """

    model: Any
    tokenizer: Any
    variant: Variant
    names: tuple[str, ...]
    temperature: float = 1.0
    bf16: bool = False

    @property
    def columns(self) -> list[str]:
        """The columns of `label`."""
        return ["predicted_label", *(f"probability_{name}" for name in self.names), "truncated"]

    def read(self, texts: Iterable[object]) -> list[Any]:
        """Texts, or pairs, as the run reads them: cleaned, each one string; None where one is empty or no text.

        Raises `StudyError` for texts where the run reads pairs, and the reverse.
        """
        columns = self.variant.text_columns
        parts = [list(text) if isinstance(text, list | tuple) else [text] for text in texts]
        if any(len(each) != len(columns) for each in parts):
            reads = f"pairs of texts ({', '.join(columns)})" if len(columns) > 1 else "single texts, not pairs"
            raise StudyError(f"the run classifies {reads}; pass them in this form")
        return [text if text and text.strip() else None for text in map(joined, parts)]

    def label(self, texts: Iterable[object], tell: Tell = lambda what, done, total: None) -> pd.DataFrame:
        """The predicted class of each text, the probability of every class, and whether the text was cut.

        Where the run reads pairs, each text is one: `("a premise", "a hypothesis")`. A row per text, in their order,
        with the `columns`; all are missing where a text is empty or not a text.
        """
        texts = self.read(texts)
        sound = {row: text for row, text in enumerate(texts) if text is not None}
        logits, cut = self.logits(list(sound.values()), tell)
        predicted = np.array(self.names, dtype=object)[logits.argmax(axis=1)]
        chances = softmax(logits.astype(np.float64) / self.temperature, axis=1)
        table = pd.DataFrame(dict(zip(self.columns, [predicted, *chances.T, cut], strict=True)), list(sound))
        return table.astype({"truncated": "boolean"}).reindex(range(len(texts)))

    def logits(
        self, texts: Sequence[str], tell: Tell = lambda what, done, total: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The logits of texts as `read` gives them, (n, classes), and whether each is longer than the window, (n,).

        They are cut to the run's window and classified in its precision. The logits are not yet divided by
        `temperature`.
        """
        logits, cut = np.zeros((len(texts), len(self.names)), np.float32), np.zeros(len(texts), bool)
        window = self.variant.max_length, self.variant.truncation
        for start in range(0, len(texts), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            tokens = tokenize_texts(texts[part], self.tokenizer, cached=False)
            cut[part] = tokens.lengths > window[0]
            rows = range(len(tokens.lengths))
            logits[part] = predict(
                self.model,
                [{**tokens.encode(row, *window), "labels": 0} for row in rows],
                rows,
                self.tokenizer.pad_token_id,
                bf16=self.bf16,
                tell=lambda what, done, _, start=start: tell(what, start + done, len(texts)),  # type: ignore[misc]
            ).logits
        return logits, cut


def load_classifier(folder: Path) -> Classifier:
    """The classifier of the run whose record is in `folder`.

    Raises `StudyError` where the run is not finished, its record is damaged, it kept no model, or its base model is
    gone.
    """
    import torch
    from transformers import AutoTokenizer

    quiet()
    name = f"{folder.parent.name}/{folder.name}"
    if not (folder / "metrics.json").exists():
        raise StudyError(f"the run {name!r} is not finished (no metrics.json in {folder}); run its study to the end")
    if is_interrupted(folder):
        raise StudyError(f"the training of {name!r} was interrupted; run it again, or take another run")
    if not (folder / "model").is_dir():
        raise StudyError(
            f"the run {name!r} kept no model; to train it again, set save_model: true in study.yaml and delete its "
            "folder"
        )
    try:
        with reading(folder / "metrics.json"):
            precision = dict(read_metrics(folder).get("environment") or {}).get("precision")
        with reading(folder / "params.yaml"):
            variant = read_variant(folder)
        with reading(folder / "model"):
            tokenizer = AutoTokenizer.from_pretrained(folder / "model", local_files_only=True, trust_remote_code=False)
        factor = fitted_temperature(folder)
        is_bundled = variant.model.startswith("bundled:")  # then the base model is wherever the cache is now
        base = model_folder(variant.model) if is_bundled else None
        model: Any = load(folder / "model", recorded_labels(folder), base)
    except StudyError as error:
        raise StudyError(f"the run {name!r}: {error}") from error
    return Classifier(
        model.to("cuda" if torch.cuda.is_available() else "cpu"),
        tokenizer,
        variant,
        tuple(map(str, model.config.id2label.values())),
        factor,
        precision == "bf16",
    )


def save_merged(folder: Path, output: Path, force: bool = False) -> None:
    """Write the model of the run in `folder` to the folder `output`, merged into its base model, with a model card.

    It needs transformers only. Raises `StudyError` where an adapter cannot be merged, and where `output` exists,
    unless `force`.
    """
    if output.exists() and not force:
        raise StudyError(f"{output} exists; name another folder, or replace it with --force")
    classifier = load_classifier(folder)
    model, strategy = classifier.model, STRATEGIES[classifier.variant.strategy]
    if strategy.adapter and not strategy.merges:
        raise StudyError(f"the adapter of {strategy.label} cannot be merged into the weights; use {folder / 'model'}")
    with replacing(output) as partial:
        (merged(model) if strategy.adapter else model).save_pretrained(str(partial))
        classifier.tokenizer.save_pretrained(str(partial))
        (partial / "README.md").write_text(card(folder, plain=True), encoding="utf-8")
        make_readable(partial)
        remove(output)


def saved_models() -> dict[str, Path]:
    """The folders of finished runs that kept their model, of any study, by `study/run`."""
    folders = [model.parent for model in sorted(paths.home().glob("runs/*/*/model"))]
    return {f"{folder.parent.name}/{folder.name}": folder for folder in folders if is_finished(folder)}


def find_run(name: str) -> Path:
    """The folder of the run `STUDY/RUN`, or `runs/STUDY/RUN`. Raises `StudyError` with the names there are."""
    runs = paths.home() / "runs"
    folder = runs / name.removeprefix("runs/")
    if folder.is_dir() and folder.parent.parent == runs:
        return folder
    if saved := saved_models():
        raise StudyError(f"{unknown('run', name, saved)} (STUDY/RUN, finished, with its model)")
    raise StudyError(f"unknown run {name!r}; no run in {runs} has kept a model yet, ./run_all.sh trains some")
