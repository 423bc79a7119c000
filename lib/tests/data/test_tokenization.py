"""Which tokens a model is given: cut by slicing, kept in the cache, the same as the tokenizer's own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_folders import reviews, save_model, save_reviews
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from peft_study import paths
from peft_study.analysis.windows import window
from peft_study.data import tokenization
from peft_study.data.reviews import load_reviews
from peft_study.engine.check import check
from peft_study.errors import StudyError
from peft_study.study.variant import Variant
from peft_study.text import SEPARATOR
from peft_study.widgets import markup

Make = Callable[..., Variant]
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def ids_of(tokens: tokenization.Tokens, row: int, max_length: int, mode: str = "head") -> list[int]:
    return tokens.encode(row, max_length, mode)["input_ids"].tolist()  # type: ignore[no-any-return]


@SHARED
@given(length=st.integers(0, 60), max_length=st.integers(8, 64), mode=st.sampled_from(["head", "tail", "head+tail"]))
def test_truncation_keeps_the_head_the_tail_or_both(length: int, max_length: int, mode: str) -> None:
    frame = tokenization.Template((1, None, 2), (0, 0, 0))
    tokens = tokenization.Tokens(np.arange(10, 10 + length), np.array([0, length]), np.arange(length), frame)
    ids, text, room = ids_of(tokens, 0, max_length, mode), list(range(10, 10 + length)), max_length - 2
    assert (ids[0], ids[-1]) == (1, 2)
    assert len(ids) == min(length, room) + 2
    if length <= room:
        assert ids[1:-1] == text
    else:
        head = {"head": room, "tail": 0, "head+tail": round(room / 4)}[mode]
        assert ids[1:-1] == text[:head] + text[length - (room - head) :]


@SHARED
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_tokens_are_those_of_the_tokenizer_itself(variant: Make, texts: list[str]) -> None:
    tokenizer = tokenization.load_tokenizer(variant())
    tokens = tokenization.tokenize_texts(texts, tokenizer)
    for row, text in enumerate(texts):
        expected = tokenizer(text)["input_ids"]
        assert tokens.lengths[row] == len(expected)
        assert ids_of(tokens, row, 1000) == expected
        assert ids_of(tokens, row, 16) == tokenizer(text, truncation=True, max_length=16)["input_ids"]


SOME = st.text(min_size=1, max_size=40).filter(lambda text: SEPARATOR not in text)


@SHARED
@given(first=SOME, second=SOME, kind=st.sampled_from(["bert", "distilbert"]))
def test_a_pair_is_framed_and_cut_as_by_the_tokenizer_itself(
    tiny: dict[str, Path], first: str, second: str, kind: str
) -> None:
    tokenizer = tokenization.load_tokenizer(Variant(model=str(tiny[kind])))
    tokens = tokenization.tokenize_texts([f"{first}{SEPARATOR}{second}"], tokenizer, cached=False)
    for length in (8, 15, 16, 1000):
        expected = tokenizer(first, second, truncation="longest_first", max_length=length)
        read = tokens.encode(0, length, "head")
        assert read["input_ids"].tolist() == expected["input_ids"]
        assert (kind == "bert") == ("token_type_ids" in read) == ("token_type_ids" in expected)
        assert kind != "bert" or read["token_type_ids"].tolist() == expected["token_type_ids"]
    assert tokens.lengths.tolist() == [len(tokenizer(first, second)["input_ids"])]


def test_of_a_pair_both_texts_keep_what_the_window_has_of_each(variant: Make) -> None:
    tokenizer, text = tokenization.load_tokenizer(variant()), f"good film bad plot dull{SEPARATOR}fine actors"
    tokens = tokenization.tokenize_texts([text], tokenizer, cached=False)
    for mode, read in (("head", "good film bad"), ("tail", "bad plot dull"), ("head+tail", "good plot dull")):
        cut = tokens.cut(0, text, 8, mode)
        assert cut == f"{read}{SEPARATOR}fine actors"
        shown = window(text, tokenizer, 8, mode)
        assert shown.input_ids == tokens.encode(0, 8, mode)["input_ids"].tolist() and shown.is_cut
        assert [text[slice(*span)] for span in shown.spans if span] == cut.split()


@pytest.mark.parametrize(
    ("mode", "read"), [("head", "Good film bad"), ("tail", "bad  plot dull"), ("head+tail", "Good plot dull")]
)
def test_the_part_of_a_text_that_the_model_reads_is_cut_at_the_characters_of_its_tokens(
    variant: Make, mode: str, read: str
) -> None:
    texts = ["Good film bad  plot dull", "Fine"]
    tokens = tokenization.tokenize_texts(texts, tokenization.load_tokenizer(variant()))
    assert [tokens.cut(row, text, 5, mode) for row, text in enumerate(texts)] == [read, "Fine"]


@pytest.fixture
def tokenizer(variant: Make) -> Any:
    return tokenization.load_tokenizer(variant())


def test_texts_are_tokenised_once_by_each_tokenizer(
    tokenizer: Any, tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(tiny["distilbert"], tmp_path / "goad")
    vocabulary = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(vocabulary.replace('"good"', '"goad"'))
    other_tokenizer = tokenization.load_tokenizer(Variant(model=str(other)))
    first = tokenization.tokenize_texts(["good film"], tokenizer)
    monkeypatch.setattr(tokenization, "_write_tokens", lambda *_: pytest.fail("tokenised again"))
    assert tokenization.tokenize_texts(["good film"], tokenizer).flat.tolist() == first.flat.tolist()
    for texts, fast in ((["bad film"], tokenizer), (["good film"], other_tokenizer)):
        with pytest.raises(pytest.fail.Exception):
            tokenization.tokenize_texts(texts, fast)


@pytest.mark.parametrize("keep", [0, 50])
def test_a_truncated_file_of_tokens_is_made_anew(tokenizer: Any, keep: int) -> None:
    whole = tokenization.tokenize_texts(["good film", "bad film"], tokenizer)
    (file,) = (paths.cache() / "tokens").glob("*.npz")
    content = file.read_bytes()
    file.write_bytes(content[:keep])
    assert tokenization.tokenize_texts(["good film", "bad film"], tokenizer).flat.tolist() == whole.flat.tolist()
    assert file.read_bytes() == content


@pytest.mark.parametrize("held_out", [True, False])
def test_a_run_has_its_tables_and_their_examples(variant: Make, tmp_path: Path, held_out: bool) -> None:
    splits = {"train": reviews(200)} | ({} if held_out else {"test": reviews(60, seed=1)})
    asked = variant(dataset=str(save_reviews(tmp_path / "own", **splits)), test_size=40, truncation="head")
    run, tokenizer = load_reviews(asked), tokenization.load_tokenizer(asked)
    assert list(run.parts) == ["train", "validation", "test", "ood"]
    assert all(list(table) == ["id", "text", "label"] for table in run.parts.values())
    assert len(run.train) + len(run.validation) == asked.train_size
    for part, examples in tokenization.tokenize(run, tokenizer, asked).items():
        rows = tokenizer(run.parts[part]["text"].tolist(), truncation=True, max_length=asked.max_length)["input_ids"]
        assert [row["input_ids"].tolist() for row in examples] == rows
        assert [row["labels"] for row in examples] == run.parts[part]["label"].tolist()


# --- tokenizers in Python, and those without a padding token


def save_bertweet(folder: Path) -> Path:
    """A RoBERTa whose tokenizer exists in Python only: word pieces end in @@ unless they end a word."""
    save_model(folder, "roberta")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    (folder / "vocab.txt").write_text("".join(f"{letter}@@ 9\n{letter} 9\n" for letter in letters))
    (folder / "bpe.codes").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "BertweetTokenizer", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 1}))
    return folder


def test_a_tokenizer_in_python_gives_its_own_tokens_once(
    variant: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = variant(model=str(save_bertweet(tmp_path / "bertweet")), max_length=12, truncation="head")
    check([asked])
    tokenizer, texts = tokenization.load_tokenizer(asked), ["good film", "a bad plot", "é"]
    assert not tokenizer.is_fast
    first = tokenization.tokenize_texts(texts, tokenizer)
    for row, text in enumerate(texts):
        assert ids_of(first, row, 12) == tokenizer(text)["input_ids"]
    pair = tokenization.tokenize_texts([f"good film{SEPARATOR}a bad plot"], tokenizer)
    assert ids_of(pair, 0, 30) == tokenizer("good film", "a bad plot")["input_ids"], "two tokens between them"
    monkeypatch.setattr(tokenization, "_write_tokens", lambda *_: pytest.fail("tokenised twice"))
    assert tokenization.tokenize_texts(texts, tokenizer).flat.tolist() == first.flat.tolist()


def test_the_window_of_a_tokenizer_in_python_knows_the_words_of_its_tokens(tmp_path: Path) -> None:
    tokenizer = tokenization.load_tokenizer(Variant(model=str(save_bertweet(tmp_path / "bertweet"))))
    read = window("good  film", tokenizer, 8, "head")
    assert read.spans == [None, *[(0, 4)] * 4, *[(6, 10)] * 2, None] and read.is_cut
    assert read.words == [None, *[0] * 4, *[1] * 2, None]
    assert markup.windowed("good  film", window("good  film", tokenizer, 20, "head")) == "good  film"


def test_where_a_tokenizer_puts_nothing_between_two_texts_a_line_break_parts_them(tmp_path: Path) -> None:
    letters = {letter: number for number, letter in enumerate(["<|endoftext|>", *sorted(bytes_to_unicode().values())])}
    tokenizer = GPT2Tokenizer(vocab=letters, merges=[])
    config = GPT2Config(vocab_size=len(letters), n_layer=1, n_embd=8, n_head=1, eos_token_id=0, bos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tokenizer = tokenization.load_tokenizer(Variant(model=str(tmp_path)))
    assert "token_type_ids" not in tokenizer.model_input_names, "GPT-2 would take them for tokens"
    (first, second), line = (tokenizer(text)["input_ids"] for text in ("ab", "cd")), tokenizer("\n")["input_ids"]
    assert ids_of(tokenization.tokenize_texts(["ab"], tokenizer), 0, 16) == first
    pair = tokenization.tokenize_texts([f"ab{SEPARATOR}cd"], tokenizer)
    assert ids_of(pair, 0, 16) == [*first, *line, *second] and pair.encode(0, 16, "head").keys() == {"input_ids"}


def without_padding(folder: Path, kind: str, **config: Any) -> Path:
    """A model whose tokenizer names no padding token."""
    save_model(folder, kind)
    file = folder / "tokenizer_config.json"
    file.write_text(
        json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "pad_token"})
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    file.write_text(json.dumps(settings | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    own = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(own | config))
    return folder


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_padding_token_that_the_configuration_names_is_taken_and_said(
    variant: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = without_padding(tmp_path / "model", kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token_id is None
    assert "`[PAD]`" in tokenization.match_model(tokenizer, folder) and tokenizer.pad_token_id == 0
    assert tokenization.match_model(tokenizer, folder) == ""
    check([variant(model=str(folder))])
    assert "The tokenizer has no padding token; texts are padded with `[PAD]`" in capsys.readouterr().err


@pytest.mark.parametrize("pad", [None, 7, 5000])
def test_a_padding_token_that_is_none_a_word_or_unknown_is_refused(tmp_path: Path, pad: int | None) -> None:
    folder = without_padding(tmp_path / "model", "bert", pad_token_id=pad)
    with pytest.raises(
        StudyError, match=f"has no padding token, and pad_token_id = {pad} in config.json is no special"
    ):
        tokenization.load_tokenizer(Variant(model=str(folder)))
