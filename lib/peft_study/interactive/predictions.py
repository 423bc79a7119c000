"""A trained model at work on single reviews: one's own, and those that it got wrong."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets

from peft_study import browsing, run_claims
from peft_study.attribution import Attribution, explain
from peft_study.config import Variant
from peft_study.data import LABELS
from peft_study.errors import StudyError
from peft_study.evaluation import Predictions
from peft_study.folders import asked, saved_models
from peft_study.interactive import markup, reviews
from peft_study.interactive.panel import Panel, dropdown, place, search, yes_or_no
from peft_study.training import Prepared

THIS = "this run, just trained"
EXAMPLE = "I expected very little, and for an hour that is what I got. Then it turns into something quite wonderful."
Explain = Callable[[str], Attribution]


def trial(prepared: Prepared) -> Panel:
    """A text to type, a model to ask: the class, how probable it is, and which words speak for which class."""
    saved = saved_models()

    def render(model: str, text: str) -> Iterator[str]:
        if not text.strip():
            raise StudyError("there is no text to classify; type a sentence or two")
        yield markup.line("Reading the review …" if model == THIS else f"Loading the model of {model} …")
        verdict = (_of(prepared) if model == THIS else _of_run(saved[model], _made(saved[model])))(text)
        label = int(verdict.log_odds > 0)
        sure = max(verdict.probability, 1 - verdict.probability)
        yield _explained([f"{sure:.1%} sure", model], label, text, verdict)

    area = ipywidgets.Layout(width="44rem", height="7rem")
    return Panel(
        render,
        button="Classify",
        text=ipywidgets.Textarea(description="review", value=EXAMPLE, layout=area),
        model=dropdown("model", [THIS, *saved]),
    )


def mistakes(prepared: Prepared, test: Predictions) -> Panel:
    """The misclassified test reviews, most confident first, each coloured by what misled the model."""
    variant = prepared.variant
    wrong = run_claims.mistakes(test, prepared.tables["test"])
    split = prepared.corpus.splits["train" if prepared.corpus.held_out else "test"]
    table = browsing.described(wrong, split, variant).assign(probability=wrong["probability"])

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
        said = f"predicted {LABELS[1 - row['label']]} with {row['probability']:.1%}"
        heading = [f"mistake {at:,} of {len(found):,}", said, *reviews.facts(row)]
        yield _explained(heading, row["label"], row["text"], verdict)

    return Panel(
        render,
        label=reviews.classes("true class"),
        sure=ipywidgets.IntSlider(description="at least sure (%)", min=50, max=99, value=50, continuous_update=False),
        rated=yes_or_no("states a rating"),
        cut=yes_or_no("cut to the window"),
        words=search(),
        place=place("mistake", len(table)),
    )


def _explained(heading: Iterable[str], label: int, text: str, verdict: Attribution) -> str:
    """A review, its words coloured by what they add to the verdict, and the strongest of them."""
    body = markup.coloured(text, verdict.words, verdict.window)
    return markup.review(heading, label, body) + markup.legend() + markup.strongest(text, verdict.words)


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

    from peft_study.models import load

    variant = Variant(**(asked(folder) or {}))
    model, tokenizer = load(folder / "model"), AutoTokenizer.from_pretrained(folder / "model", local_files_only=True)
    return lambda text: explain(model, tokenizer, text, variant.max_length, variant.truncation)
