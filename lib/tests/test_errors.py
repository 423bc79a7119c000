"""What is said of a fault is short, whatever another library quotes of the data."""

import pytest

from peft_study.errors import StudyError, message, one_line


@pytest.mark.parametrize("fault", [ValueError("could not convert " + "a review, " * 900), StudyError("x\n" * 9000)])
def test_a_message_is_a_line_of_at_most_600_characters(fault: Exception) -> None:
    for said in (one_line(fault), message(type(fault).__name__, str(fault))):
        assert len(said) <= 600 and "\n" not in said


def test_what_another_library_says_ends_where_it_would_quote_the_data() -> None:
    said = message("ValueError", "could not convert " + "a review, " * 900)
    assert said.startswith("ValueError: could not convert a review") and len(said) < 220 and said.endswith("…")
