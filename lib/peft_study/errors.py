"""The exception for faults that the user can correct, and the form of its messages."""

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

_LONGEST = 600  # characters of a message


class StudyError(Exception):
    """A fault that the user can correct: the message names the field or file, the value and the remedy."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message alone, since the call stack would bury it."""
        return [f"{type(self).__name__}: {self}"]


def unknown(what: str, value: str, allowed: Iterable[str]) -> str:
    """The message for an unknown name: the most similar allowed name, then the allowed names, cut if they are many."""
    allowed = list(allowed)
    near = get_close_matches(value, allowed)
    swapped = [name for name in near if sorted(name) == sorted(value)]  # letters, which the matches ignore
    guess = f"did you mean {(swapped + near)[0]!r}? " if near else ""
    return f"unknown {what} {value!r}; {guess}allowed: {cut(', '.join(allowed), _LONGEST - 200) or 'none'}"


def one_line(error: BaseException, most: int = _LONGEST) -> str:
    """The message of an error on one line of at most `most` characters."""
    return cut(" ".join(str(error).split()), most)


def cut(text: str, most: int) -> str:
    """Text of at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def quoted(value: object, most: int = 200) -> str:
    """The `repr` of a value, of at most `most` characters."""
    return cut(repr(value), most)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise errors of the file system, while `path` is written, as `StudyError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StudyError(f"no space left to write {path}; free some and run the same command again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
            raise StudyError(
                f"{path} cannot be written ({error.strerror}); make it writable, or set PEFT_STUDY_HOME "
                "(runs and reports), PEFT_STUDY_CACHE (assets) or HF_HOME (the hub's cache) to a folder that is"
            ) from error
        raise


_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def message(name: str, value: str) -> str:
    """An exception on one line: its name and the first line of its value.

    Other libraries may quote the data, so their messages are cut at a third of the length.
    """
    first = next((line.strip() for line in _ANSI.sub("", value).splitlines() if line.strip()), "")
    return cut(first, _LONGEST) if name == StudyError.__name__ else f"{name}: {cut(first, _LONGEST // 3)}"
