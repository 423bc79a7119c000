"""Files are written in one step, or not at all, and what the file system refuses is one clear error."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from peft_study.errors import StudyError
from peft_study.files import is_lfs_pointer, replacing, write_json


def test_a_written_file_replaces_the_old_one_and_leaves_no_other(tmp_path: Path) -> None:
    for content in ({"accuracy": 0.5}, {"accuracy": np.float64(0.9), "n": np.int64(3)}):
        write_json(tmp_path / "new" / "metrics.json", content)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["metrics.json"]
    assert json.loads((tmp_path / "new" / "metrics.json").read_text()) == {"accuracy": 0.9, "n": 3}


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "metrics.json") as partial:
        partial.write_text("half of the n")
        raise KeyboardInterrupt
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_is_one_clear_error_and_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("old")
    (tmp_path / f".metrics.partial-{os.getpid()}.json").symlink_to("/dev/full")  # no byte can be written to it
    with pytest.raises(StudyError, match=r"^no space left to write .*metrics.json; free some"):
        write_json(tmp_path / "metrics.json", {"accuracy": 0.9})
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Nobody, not even root, can write to `folder` meanwhile."""
    folder.chmod(0o500)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_read_only_folder_is_one_clear_error(tmp_path: Path) -> None:
    message = r"cannot be written .* make it writable, or set PEFT_STUDY_HOME"
    with _read_only(tmp_path), pytest.raises(StudyError, match=message):
        write_json(tmp_path / "metrics.json", {})
    assert not list(tmp_path.iterdir())


def test_a_pointer_of_git_lfs_is_told_from_the_file_it_stands_for(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for content, expected in ((pointer, True), (pointer[1:], False), (b"", False), (b"text,label\n", False)):
        (tmp_path / "file").write_bytes(content)
        assert is_lfs_pointer(tmp_path / "file") is expected
