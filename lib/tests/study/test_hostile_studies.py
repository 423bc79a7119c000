"""Study files and names that mean harm, or that a cat wrote: refused in one message, at a bounded cost, never run."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peft_study import paths
from peft_study.errors import StudyError
from peft_study.study.study import read_study

GOOD = {
    "title": "Tiny",
    "question": "Does it run?",
    "baseline": "full",
    "margin": 1.0,
    "defaults": {"epochs": 2, "train_size": 100, "max_length": 32, "validation_fraction": 0.1},
    "strategies": {"full": {"learning_rate": 1e-4}, "lora": {"lora_r": 8}},
    "matrix": {"strategy": ["full", "lora"], "train_size": [60, 100], "seed": [1, 2]},
}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def write(text: str | bytes, name: str = "study") -> Path:
    """`runs/<name>/study.yaml` with this content; returns the file."""
    file = paths.study_folder(name) / "study.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def refusal() -> str:
    """What is said of the study that is refused."""
    with pytest.raises(StudyError) as raised:
        read_study("study")
    return str(raised.value)


# ---- study files


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def bad_texts(draw: st.DrawFn) -> bytes:
    """A good study's file with a key renamed, some value replaced, and some of its bytes cut or replaced."""
    content: dict[str, Any] = copy.deepcopy(GOOD)
    inside = draw(st.sampled_from([content, content["defaults"], content["strategies"]["lora"], content["matrix"]]))
    key = draw(st.sampled_from(list(inside)))
    inside[key[: draw(st.sampled_from([-1, None]))]] = draw(JUNK)
    text = yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    return draw(st.sampled_from([text, text[:end], text[:start] + draw(st.binary(max_size=4)) + text[end:]]))


def test_at_least_forty_bad_study_files_are_each_refused_in_one_message() -> None:
    refused = set()

    @settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(bad_texts())
    def each_is_good_or_refused(text: bytes) -> None:
        write(text)
        try:
            read_study("study")
        except StudyError as error:
            assert len(str(error)) < 10_000, "a message is there to be read"
            refused.add(text)

    each_is_good_or_refused()
    assert len(refused) >= 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{BOMB}title: t\nquestion: q\ndefaults: {{peft: *i}}\nmatrix: {{}}\n", "aliases expanded"),
        ("title: t\nquestion: q\nmatrix: {}\ndefaults: &a {peft: *a}\n", "contains itself by an alias"),
        ("title: " + "[" * 20_000, "nested too deeply"),
        ("title: " + "x" * 2_000_000, "it has 2,000,007 bytes, at most 1,048,576 are read"),
        (f"title: t\nquestion: q\nmatrix: {{{', '.join(f'a{n}: [1, 2]' for n in range(41))}}}",
         "it has 2,199,023,255,552 runs, at most 10,000 are allowed"),
        ("matrix: {" + ", ".join(f"a{n}: 1" for n in range(4_500)) + "}", "has 4,502 faults:"),
        ("title: !!python/object/apply:os.system ['touch owned']", "could not determine a constructor for the tag"),
        ("title: t\nquestion: q\nmatrix: {seed: [" + "9" * 5000 + "]}", "not readable as YAML"),
    ],
    ids=["bomb", "contains itself", "deep", "large", "matrix", "many keys", "python", "number"],
)  # fmt: skip
def test_a_file_that_would_run_a_program_or_take_all_memory_or_time_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(text)
    output = refusal()
    assert message in output and len(output) < 2000 and not (tmp_path / "owned").exists()


# ---- names


@pytest.mark.parametrize(
    "name", ["x; rm -rf ~", "$(touch owned)", "a'b", 'a"b', "a{b}", "-n", "a|b", "..", "a\nb", "a*"]
)
def test_a_study_whose_name_a_shell_could_read_otherwise_is_refused(name: str) -> None:
    if name != "..":
        write(yaml.safe_dump(GOOD), name)
    with pytest.raises(StudyError, match=r"cannot have that name|unknown study"):
        read_study(name)


def test_long_names_spaces_and_letters_of_any_language_are_ordinary() -> None:
    for name in ("n" * 60, "my study", "größer_als-1.5+x"):
        write(yaml.safe_dump(GOOD), name)
        assert len(read_study(name).variants) == 8
    write(yaml.safe_dump({**GOOD, "matrix": {"strategy": ["full", "lora"], "text_column": ["c" * 300]}}))
    assert "names of more than 200 characters" in refusal()


def test_a_run_is_named_by_letters_digits_and_a_few_signs_whatever_its_values(make_study: Callable[..., Path]) -> None:
    values = ["; touch owned", "$(touch owned)", "../../x", "<b>"]
    make_study(matrix={"strategy": ["full"], "model": values})
    runs = read_study("tiny").variants
    assert len(runs) == len(values)
    assert all(set(run) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.+") for run in runs)
