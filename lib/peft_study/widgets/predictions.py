"""A trained model at work on single reviews: one's own, and those that it got wrong."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets

from peft_study.data import browsing
from peft_study.errors import StudyError
from peft_study.records.layout import label_names, recorded_params, saved_models
from peft_study.report import run_claims
from peft_study.study.variant import Variant
from peft_study.training.attribution import Attribution, explain
from peft_study.training.prediction import Predictions
from peft_study.widgets import markup, reviews
from peft_study.widgets.panel import Panel, dropdown, place, search, yes_or_no

THIS = "this run, just trained"
EXAMPLE = "I expected very little, and for an hour that is what I got. Then it turns into something quite wonderful."
Prepared = Any  # until the reviews and the model come apart
Explain = Callable[[str], Attribution]


def trial(prepared: Prepared) -> Panel:
    """A text to type, a model to ask: the class, how probable it is, and which words speak for which class."""
    saved = saved_models()

    def render(model: str, text: str) -> Iterator[str]:
        if not text.strip():
            raise StudyError("there is no text to classify; type a sentence or two")
        yield markup.line("Reading the review …" if model == THIS else f"Loading the model of {model} …")
        verdict = (_of(prepared) if model == THIS else _of_run(saved[model], _made(saved[model])))(text)
        names = prepared.corpus.labels if model == THIS else label_names(saved[model])
        yield _explained([f"{verdict.confidence:.1%} sure", model], verdict.label, text, verdict, names)

    area = ipywidgets.Layout(width="44rem", height="7rem")
    return Panel(
        render,
        button="Classify",
        text=ipywidgets.Textarea(description="review", value=EXAMPLE, layout=area),
        model=dropdown("model", [THIS, *saved]),
    )


def mistakes(prepared: Prepared, test: Predictions) -> Panel:
    """The misclassified test reviews, most confident first, each coloured by what misled the model."""
    variant, names = prepared.variant, prepared.corpus.labels
    wrong = run_claims.mistakes(test, prepared.tables["test"], names)
    split = prepared.corpus.splits["train" if prepared.corpus.held_out else "test"]
    least = 100 // len(names)  # a class that is predicted is at least as probable as any other
    table = browsing.described(wrong, split, variant).assign(**wrong[["predicted", "probability"]])

    def render(label: int | None, sure: float, rated: bool | None, cut: bool | None, words: str, place: int) -> Any:
        found = browsing.search(table, label=label, rated=rated, words=words)
        found = found[found["probability"] >= sure / 100]
        if cut is not None:
            found = found[found["cut"] == cut]
        if found.empty:
            yield markup.line("No mistake fits all of this: loosen a condition.")
            return
        at = min(place, len(found))
        yield markup.line(f"Explaining mistake {at:,} of {len(found):,} …")
        row = found.iloc[at - 1]
        verdict = _of(prepared)(row["text"])
        said = f"predicted {row['predicted']} with {row['probability']:.1%}"
        heading = [f"mistake {at:,} of {len(found):,}", said, *reviews.facts(row)]
        yield _explained(heading, row["label"], row["text"], verdict, names)

    return Panel(
        render,
        label=reviews.classes("true class", names),
        sure=ipywidgets.IntSlider(
            description="at least sure (%)", min=least, max=99, value=least, continuous_update=False
        ),
        rated=yes_or_no("states a rating"),
        cut=yes_or_no("cut to the window"),
        words=search(),
        place=place("mistake", len(table)),
    )


def _explained(heading: Iterable[str], label: int, text: str, verdict: Attribution, names: Sequence[str]) -> str:
    """A review under the name of its class, its words coloured by what they add to the verdict, and the strongest."""
    sides = markup.sides(names, verdict.target)
    body = markup.coloured(text, verdict.words, verdict.window, sides)
    card = markup.review([names[label], *heading], label, body)
    return card + markup.legend(sides) + markup.strongest(text, verdict.words, sides)


def _of(prepared: Prepared) -> Explain:
    """What the model just trained says of a text, and why."""
    variant = prepared.variant
    return lambda text: explain(prepared.model, prepared.tokenizer, text, variant.max_length, variant.truncation)


def _made(folder: Path) -> float:
    """When a run was made."""
    return (folder / "metrics.json").stat().st_mtime


@lru_cache(maxsize=1)  # the model asked last: asking it again must not load it again
def _of_run(folder: Path, made: float) -> Explain:
    """The same of a finished run's saved model; `made` tells a run that was made anew from the one before."""
    from transformers import AutoTokenizer

    from peft_study.training.model import load

    variant = Variant(**(recorded_params(folder) or {}))
    model, tokenizer = (
        load(folder / "model", label_names(folder)),
        AutoTokenizer.from_pretrained(folder / "model", local_files_only=True),
    )
    return lambda text: explain(model, tokenizer, text, variant.max_length, variant.truncation)
