"""A trained model at work on single reviews: one's own, and those that it got wrong."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets
from IPython.display import display

from peft_study import paths
from peft_study.analysis.masking import Explanation, explain
from peft_study.data.reviews import Reviews
from peft_study.errors import StudyError
from peft_study.records.layout import is_interrupted, label_names, recorded_metrics, recorded_params
from peft_study.study.variant import Variant
from peft_study.training.model import load
from peft_study.training.prediction import Predictions
from peft_study.widgets import controls, markup
from peft_study.widgets.controls import Shown
from peft_study.widgets.reviews import described, facts, matching

THIS = "this run, just trained"
EXAMPLE = "I expected very little, and for an hour that is what I got. Then it turns into something quite wonderful."


@controls.where_live
def try_review(model: Any, tokenizer: Any, variant: Variant, labels: tuple[str, ...]) -> None:
    """02: classify a text of one's own, with the model just trained or that of a finished run, and see why."""
    saved, trained = saved_models(), model

    def render(text: str, model: str) -> Shown:
        if not text.strip():
            raise StudyError("there is no text to classify; type a sentence or two")
        yield markup.line("Masking one word at a time …" if model == THIS else f"Loading {model} …")
        if model == THIS:
            names, verdict = labels, explain(trained, tokenizer, text, variant.max_length, variant.truncation)
        else:
            names, verdict = label_names(saved[model]), explain_saved(saved[model], text)
        yield explained(verdict, text, verdict.label, names, f"{verdict.confidence:.1%} sure", model)

    area = ipywidgets.Layout(width="44rem", height="7rem")
    box, _ = controls.panel(
        render,
        button="Classify",
        text=ipywidgets.Textarea(description="review", value=EXAMPLE, layout=area),
        model=controls.choice("model", [THIS, *saved]),
    )
    display(box)


def saved_models() -> dict[str, Path]:
    """The folders of the complete records of any study that kept a model, by `study/run`."""
    folders = [model.parent for model in sorted(paths.home().glob("runs/*/*/model"))]
    return {
        f"{folder.parent.name}/{folder.name}": folder
        for folder in folders
        if recorded_params(folder) and recorded_metrics(folder) and not is_interrupted(folder)
    }


def explain_saved(folder: Path, text: str) -> Explanation:
    """The verdict of the model that a finished run saved in `folder`."""
    variant = Variant(**(recorded_params(folder) or {}))
    model, tokenizer = _loaded(folder, (folder / "metrics.json").stat().st_mtime)
    return explain(model, tokenizer, text, variant.max_length, variant.truncation)


@lru_cache(maxsize=1)  # the model asked last need not be loaded again
def _loaded(folder: Path, modified: float) -> tuple[Any, Any]:
    """The model of a run and its tokenizer; a record that replaces it is `modified` at another time."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", local_files_only=True)
    return load(folder / "model", label_names(folder)), tokenizer


@controls.where_live
def browse_mistakes(model: Any, tokenizer: Any, variant: Variant, reviews: Reviews, test: Predictions) -> None:
    """02: the test reviews that the model got wrong, the most confident first, and the words that misled it."""
    corpus, names = reviews.corpus, reviews.labels
    predicted = reviews.test.assign(predicted=[names[i] for i in test.preds], probability=test.confidence)
    wrong = predicted[test.preds != test.labels].sort_values("probability", ascending=False)
    table = described(wrong, corpus.splits[corpus.split_of("test")], tokenizer, variant.max_length)
    least = 100 // len(names)  # a predicted class is at least as probable as any other

    def render(sure: int, place: int, **accepted: Any) -> Shown:
        matches = matching(table[table["probability"] >= sure / 100], **accepted)
        row, count = controls.at_place(matches, place)
        yield markup.line(f"Mistake {count}: masking one word at a time …")
        heading = [f"mistake {count}", f"predicted {row['predicted']} with {row['probability']:.1%}", *facts(row)]
        verdict = explain(model, tokenizer, row["text"], variant.max_length, variant.truncation)
        yield explained(verdict, row["text"], row["label"], names, *heading)

    controls.show(
        render,
        label=controls.classes("true class", names),
        sure=ipywidgets.IntSlider(description="at least sure (%)", min=least, max=99, continuous_update=False),
        rated=controls.yes_or_no("states a rating"),
        cut=controls.yes_or_no("cut to the window"),
        words=controls.search(),
        place=controls.place("mistake", len(table)),
    )


def explained(verdict: Explanation, text: str, label: int, names: Sequence[str], *heading: str) -> tuple[Any, ...]:
    """A review under the name of its class, its words coloured by effect, what that means, and the strongest words."""
    sides = markup.sides(names, verdict.target)
    body = markup.coloured(text, verdict.words, verdict.window, sides)
    strongest = markup.strongest(text, verdict.words, sides)
    return markup.review([names[label], *heading], label, body), markup.legend(sides), strongest
