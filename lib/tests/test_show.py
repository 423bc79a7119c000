"""Disagreements are shown in both directions, in full, the most confident mistake first; and what cannot be shown."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from IPython.utils.capture import capture_output
from made_runs import make_runs, write_arrays

from peft_study import paths
from peft_study.records.read import Runs, load_runs
from peft_study.report import display as show

FULL, LORA = "full-n01000-s1", "lora-n01000-s1"
LONG = "a sentence of a review. " * 100


@pytest.fixture(autouse=True)
def shell() -> None:
    """Displays go to IPython, as in a kernel."""
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.instance()


def shown(call: Callable[[], Any]) -> list[str]:
    """The Markdown of each thing that a call shows."""
    with capture_output() as captured:
        call()
    return [output.data["text/markdown"] for output in captured.outputs]


def disagreements(runs: Runs, count: int = 2) -> list[str]:
    texts = {i: f"review {i}. {LONG}" for i in range(400)}
    return shown(lambda: show.disagreements(runs, (FULL, LORA), texts, count))


def test_both_directions_are_shown_in_full_the_most_confident_mistake_first() -> None:
    told = disagreements(make_runs({"lora": 0.8}), count=500)
    heads = [place for place, text in enumerate(told) if text.startswith("**Right:")]
    assert [re.findall(r"`([^`]+)`", told[place]) for place in heads] == [[FULL, LORA], [LORA, FULL]]
    for first, last in zip(heads, [*heads[1:], len(told)], strict=True):
        assert told[first].endswith(f"{last - first - 1} of {last - first - 1} reviews.")
        chances = [int(re.findall(r"(\d+)\\%", text)[1]) for text in told[first + 1 : last]]
        assert chances == sorted(chances) and len(chances) > 1
        assert all(text.count("a sentence of a review") == 100 for text in told[first + 1 : last])


def test_it_is_said_how_many_of_how_many_reviews_are_shown_or_that_there_is_none() -> None:
    assert re.search(r"2 of \d\d reviews\.$", disagreements(make_runs({"lora": 0.8}))[0])
    same = disagreements(make_runs({"": 1.0}))
    assert len(same) == 2 and all(text.endswith("There is no such review.") for text in same)


def test_equally_confident_mistakes_stand_in_the_order_of_their_ids() -> None:
    runs = make_runs({"lora": 0.8})
    preds = runs.preds[LORA].to_numpy()
    logits = np.where(preds[:, None] == 1, [-1.0, 1.0], [1.0, -1.0])
    write_arrays(paths.run_folder("made", LORA) / "preds_and_labels.npz", preds, logits=logits)
    told = disagreements(load_runs("made"), count=500)
    ids = [int(re.findall(r"review (\d+)", text)[0]) for text in told[1:] if text.startswith("> ")]
    split = next(place for place, text in enumerate(told[1:]) if text.startswith("**"))
    assert ids[:split] == sorted(ids[:split])


def test_without_logits_the_reviews_are_shown_without_a_confidence() -> None:
    runs = make_runs({"lora": 0.8})
    preds = runs.preds[LORA].to_numpy()
    write_arrays(paths.run_folder("made", LORA) / "preds_and_labels.npz", preds, logits=np.full((400, 2), np.nan))
    told = disagreements(load_runs("made"))
    assert len(told) == 6 and "nan" not in " ".join(told) and "lora" not in told[1] and "full" in told[1]


@pytest.mark.parametrize("texts", [{}, {0: "only one"}])
def test_reviews_that_are_not_at_hand_are_not_shown_and_the_reader_is_told(texts: dict[int, str]) -> None:
    runs = make_runs()
    assert shown(lambda: show.disagreements(runs, (FULL, LORA), texts)) == [
        "The reviews themselves are not on this machine."
    ]


def test_a_reason_is_shown_instead_of_what_cannot_be_made() -> None:
    assert shown(lambda: show.either("There is nothing.", lambda: pytest.fail("made"))) == ["There is nothing."]
    assert show.either("", lambda: 7) == 7


def test_an_empty_sentence_is_not_shown() -> None:
    assert shown(lambda: show.sentence("One.", "", "Two.")) == ["One.\n\nTwo."]
    assert shown(lambda: show.sentence("", "")) == []
