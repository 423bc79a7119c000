"""Predictions for single texts: the user's own, and misclassified test texts."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets

from peft_study import paths
from peft_study.analysis.masking import explain
from peft_study.data.reviews import Reviews
from peft_study.errors import StudyError
from peft_study.records.layout import is_interrupted, label_names, recorded_labels, recorded_metrics, recorded_params
from peft_study.report import display
from peft_study.study.variant import Variant
from peft_study.training.model import load
from peft_study.training.prediction import Predictions
from peft_study.widgets import controls, markup
from peft_study.widgets.controls import Shown
from peft_study.widgets.reviews import described, facts, matching

THIS = "this run, just trained"
EXAMPLE = "I expected very little, and for an hour that is what I got. Then it turns into something quite wonderful."
Parts = tuple[Any, Any, Variant, Sequence[str]]  # a model, its tokenizer, its variant, the names of its classes


@controls.where_live
def try_review(model: Any, tokenizer: Any, variant: Variant, labels: tuple[str, ...]) -> None:
    """02: classify the user's own text with this run's model or that of a finished run, and explain it."""
    saved, trained = saved_models(), (model, tokenizer, variant, labels)

    def render(text: str, model: str) -> Shown:
        if not text.strip():
            raise StudyError("there is no text to classify; type a sentence or two")
        yield markup.line(f"{model}: masking one word at a time …")
        yield explained(trained if model == THIS else saved_parts(saved[model]), text, None, [model])

    controls.show(
        render,
        button="Classify",
        text=ipywidgets.Textarea(description="text", value=EXAMPLE, layout={"width": "44rem", "height": "7rem"}),
        model=controls.choice("model", [THIS, *saved]),
    )


def saved_models() -> dict[str, Path]:
    """The folders of complete records with a saved model, of any study, by `study/run`."""
    folders = [model.parent for model in sorted(paths.home().glob("runs/*/*/model"))]
    return {
        f"{folder.parent.name}/{folder.name}": folder
        for folder in folders
        if recorded_params(folder) and recorded_metrics(folder) and not is_interrupted(folder)
    }


def saved_parts(folder: Path) -> Parts:
    """The current model that a finished run saved in `folder`."""
    return load_saved(folder, (folder / "metrics.json").stat().st_mtime)


@lru_cache(maxsize=1)  # asking the same model again must not load it again
def load_saved(folder: Path, trained: float) -> Parts:
    """The model that a finished run saved in `folder`; `trained` changes when the run is trained again."""
    from transformers import AutoTokenizer

    variant, names = Variant(**(recorded_params(folder) or {})), label_names(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", local_files_only=True)
    return load(folder / "model", recorded_labels(folder)), tokenizer, variant, names


@controls.where_live
def browse_mistakes(model: Any, tokenizer: Any, variant: Variant, reviews: Reviews, test: Predictions) -> None:
    """02: the misclassified test texts by descending confidence, and the words that misled the model."""
    corpus, names = reviews.corpus, reviews.labels
    wrong = reviews.test.assign(sure=test.confidence)[test.preds != test.labels].sort_values("sure", ascending=False)
    table = described(wrong, corpus.splits[corpus.split_of("test")], tokenizer, variant.max_length)

    def render(place: int, **accepted: Any) -> Shown:
        row, count = controls.at_place(matching(table, **accepted), place)
        yield markup.line(f"Mistake {count}: masking one word at a time …")
        heading = [names[row["label"]], f"mistake {count}", *facts(row)]
        yield explained((model, tokenizer, variant, names), row["text"], row["label"], heading)

    controls.show(
        render,
        label=controls.classes("true class", names),
        rated=controls.yes_or_no("states a rating"),
        cut=controls.yes_or_no("cut to the window"),
        words=controls.search(),
        place=controls.place("mistake", len(table)),
    )


def explained(parts: Parts, text: str, label: int | None, heading: Sequence[str]) -> tuple[Any, ...]:
    """A text in the colour of its class (None: the predicted one), its words by effect, and the strongest words."""
    model, tokenizer, variant, names = parts
    verdict = explain(model, tokenizer, text, variant.max_length, variant.truncation)
    sides = markup.sides(names, verdict.target)
    body = markup.coloured(text, verdict.words, verdict.window, sides)
    heading = [*heading, f"predicted {names[verdict.label]} with {verdict.confidence:.1%}"]
    card = display.card(heading, body, verdict.label if label is None else label)
    return card, markup.line(markup.LEGEND), markup.strongest(text, verdict.words, sides)
