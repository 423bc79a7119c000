"""What is known of datasets by their names; of any other one, what can be said of every dataset.

Keys in brackets are those of notebooks/references.bib.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from peft_study.text import listed, markdown_escape

SOME = 10  # names of classes that a sentence lists


@dataclass(frozen=True)
class Source:
    """Sentences on a dataset: where its texts are from, what to notice in them, which words to expect, the task."""

    origin: str
    notice: str
    words: str
    task: str


IMDB = Source(
    origin="The reviews are from the Internet Movie Database [@maas2011]; they were labelled by their authors' own "
    "star ratings, at most four of ten for negative and at least seven for positive, so that lukewarm reviews are "
    "absent: the task is easier than the sentiment of arbitrary text.",
    notice="Notice how they are written: plot and opinion interleave, irony is common, and the verdict often comes "
    "last. A model that sees only a part may see none of it.",
    words="Expect plain words of praise and blame; a name or a title among them would be a warning. Whatever an "
    "encoder adds must come from order, negation, irony and from what it learned in pretraining.",
    task="This report answers for sentiment classification of film reviews [@maas2011].",
)


def source(dataset: str, labels: Sequence[str]) -> Source:
    """What may be said of the dataset of that name, whose classes are called `labels`."""
    if dataset.partition("@")[0] in ("bundled:imdb", "stanfordnlp/imdb"):
        return IMDB
    shown = [markdown_escape(name) for name in labels[:SOME]]
    names = listed([*shown, f"{len(labels) - SOME} more"] if len(labels) > SOME else shown)
    return Source(
        origin=f"The reviews, as this study calls every text, are those of `{dataset}`; its {len(labels)} classes are "
        f"{names}. Who gave them these labels, and by which rule, is for its own documentation to say.",
        notice="Notice what gives the class away, and where it stands. A model that sees only a part of a text may see "
        "none of it.",
        words="Expect words that speak of the class itself; a name, a date or a piece of markup among them would be a "
        "warning. Whatever an encoder adds must come from order, context and from what it learned in pretraining.",
        task=f"This report answers for the texts of `{dataset}`, sorted into {len(labels)} classes: {names}.",
    )


def other_source(dataset: str | None, count: int) -> str:
    """What is known of the test set of another kind, of `count` reviews."""
    if dataset is None:
        return "This study names no reviews of another kind."
    known = (
        " (Rotten Tomatoes: single sentences of critics [@pang2005].)" if dataset == "bundled:rotten-tomatoes" else ""
    )
    return (
        f"Every model is also tested, without training on them, on {count:,} reviews of another kind: `{dataset}`."
        f"{known}"
    )
