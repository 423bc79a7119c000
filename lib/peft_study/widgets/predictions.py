"""Predictions for single texts: the user's own, and misclassified test texts."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
from scipy.special import softmax

from peft_study.analysis.masking import explain
from peft_study.data.reviews import Reviews
from peft_study.errors import StudyError
from peft_study.records.classifier import Classifier, load_classifier, saved_models
from peft_study.report import display
from peft_study.study.variant import Variant
from peft_study.training.prediction import Predictions
from peft_study.widgets import controls, markup
from peft_study.widgets.controls import Shown
from peft_study.widgets.reviews import described, facts, matching

THIS, ALL = "this run, just trained", "all finished runs"
EXAMPLE = "I expected very little, and for an hour that is what I got. Then it turns into something quite wonderful."
EXAMPLES = (EXAMPLE, "The beginning is dull.")  # of a pair


@controls.where_live
def try_review(model: Any, tokenizer: Any, variant: Variant, labels: tuple[str, ...]) -> None:
    """02: classify the user's own text or pair with the model of this or a finished run, and explain it; or all."""
    saved, trained = saved_models(), Classifier(model, tokenizer, variant, labels)
    names = variant.text_columns if len(variant.text_columns) > 1 else ["text"]

    def render(model: str, **fields: str) -> Shown:
        texts = list(fields.values())
        if trained.read([texts]) == [None]:
            raise StudyError("there is no text to classify; type a sentence or two")
        if model == ALL:
            yield from of_all_runs(trained, saved, texts)
            return
        yield markup.line(f"{model}: masking one word at a time …")
        folder = saved.get(model)
        classifier = loaded(folder, (folder / "metrics.json").stat().st_mtime) if folder else trained
        (text,) = classifier.read([texts])
        yield explained(classifier, str(text), None, [model])

    fields = {
        f"text {number}": ipywidgets.Textarea(
            description=name,
            value=example,
            continuous_update=False,  # the text is then sent before the click of the button
            layout={"width": "44rem", "height": f"{7 / len(names)}rem"},
        )
        for number, (name, example) in enumerate(zip(names, EXAMPLES, strict=False))
    }
    controls.show(
        render,
        button="Classify (Ctrl+Enter)",
        **fields,
        model=controls.choice("model", [THIS, *([ALL] if saved else []), *saved]),
    )


def of_all_runs(trained: Classifier, saved: Mapping[str, Path], texts: Sequence[str]) -> Shown:
    """A table of each model's prediction for a text or pair: the one just `trained`, and those of all finished runs."""
    rows: list[dict[str, str]] = []
    for number, run in enumerate([THIS, *saved]):
        yield markup.line(f"Run {number + 1} of {len(saved) + 1}: {run} …")
        try:
            classifier = trained if run == THIS else load_classifier(saved[run])
            logits = classifier.logits(classifier.read([texts]))[0][0]
        except StudyError as error:
            rows.append({"run": run, "predicted class": str(error)})
            continue
        predicted = classifier.names[logits.argmax()]
        rows.append({"run": run, "predicted class": predicted, "probability": f"{softmax(logits).max():.1%}"})
    yield *map(markup.line, texts), pd.DataFrame(rows, index=range(1, len(rows) + 1)).fillna("")


@lru_cache(maxsize=1)  # asking the same model again must not load it again
def loaded(folder: Path, trained: float) -> Classifier:
    """The classifier of the run in `folder`; `trained` changes when the run is trained again."""
    return load_classifier(folder)


@controls.where_live
def browse_mistakes(model: Any, tokenizer: Any, variant: Variant, reviews: Reviews, test: Predictions) -> None:
    """02: the misclassified test texts by descending confidence, and the words that misled the model."""
    corpus, names = reviews.corpus, reviews.labels
    wrong = reviews.test.assign(sure=test.confidence)[test.preds != test.labels].sort_values("sure", ascending=False)
    wrong.insert(1, "class", [names[label] for label in wrong["label"]])
    table = described(wrong, corpus.splits[corpus.split_of("test")], tokenizer, variant.max_length)
    classifier = Classifier(model, tokenizer, variant, names)

    def render(place: controls.Place, words: str, **accepted: Any) -> Shown:
        row, count = controls.at_place(matching(table, words, **accepted), place)
        yield markup.line(f"Mistake {count}: masking one word at a time …")
        heading = [names[row["label"]], f"mistake {count}", *facts(row)]
        yield explained(classifier, row["text"], row["label"], heading, words)

    controls.show(
        render,
        label=controls.classes("true class", names),
        rated=controls.yes_or_no("states a rating"),
        cut=controls.yes_or_no("cut to the window"),
        words=controls.search(),
        place=controls.Place(description="mistake", value=1, min=1),
    )


def explained(
    classifier: Classifier, text: str, label: int | None, heading: Sequence[str], search: str = ""
) -> tuple[Any, ...]:
    """A text in the colour of its class (None: the predicted one) with its words by effect, and the legend."""
    variant, names = classifier.variant, classifier.names
    verdict = explain(classifier.model, classifier.tokenizer, text, variant.max_length, variant.truncation)
    sides = markup.sides(names, verdict.target)
    body = markup.coloured(text, verdict.words, verdict.window, sides, search)
    heading = [*heading, f"predicted {names[verdict.label]} with {verdict.confidence:.1%}"]
    card = display.card(heading, body, verdict.label if label is None else label)
    return card, markup.legend(verdict, sides)
