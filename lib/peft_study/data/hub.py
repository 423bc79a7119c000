"""Models and datasets of the hub, by `owner/name` with an optional `@revision`.

The hub's cache keeps downloads, so they are available offline. The hub's client resumes interrupted downloads; this
module retries an overloaded hub, and raises one message for faults that only the user can correct.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft_study.errors import StudyError, one_line, writing

TOKENIZER = ["*.txt", "*.model", "*.codes", "*.spm", "*.bpe", "*.tokenizer"]  # files of tokenizers, beside JSON
PATTERNS = {"model": ["*.json", *TOKENIZER, "*.safetensors"], "dataset": None}  # what is fetched; None: all
WAITS = (1.0, 2.0, 4.0)  # seconds between tries while the hub is overloaded
_OVERLOADED = (408, 429, 500, 502, 503, 504)  # statuses of HTTP that may be better in a moment


def split(name: str) -> tuple[str, str | None]:
    """The hub name and the revision of `owner/name@revision`."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def fetch(name: str, kind: str) -> Path:
    """The local folder of a model or a dataset (`kind`), downloaded if necessary.

    Raises `StudyError` with a remedy where that fails.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()  # they become dead widgets in an executed notebook
    repository, revision = split(name)
    for wait in (*WAITS, None):
        try:
            with writing(Path(constants.HF_HUB_CACHE)):
                return _snapshot(repository, kind, revision)
        except StudyError:
            raise
        except Exception as error:  # the hub's client raises its own, the network's and the file system's errors
            if wait is None or _status(error) not in _OVERLOADED:
                raise StudyError(
                    f"{kind} = {name!r} {_reason(error)}; or give a folder with its files, or bundled:NAME"
                ) from error
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def revision(dataset: str) -> str | None:
    """The commit of a dataset in the cache, without a request to the hub; None if absent."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, asked = split(dataset)
    try:
        return _snapshot(repository, "dataset", asked, local=True).name  # the cache names it after its commit
    except LocalEntryNotFoundError:
        return None


def _snapshot(repository: str, kind: str, revision: str | None, local: bool = False) -> Path:
    """The folder of a revision in the hub's cache; with `local`, without a request to the hub."""
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {"revision": revision, "allow_patterns": PATTERNS[kind], "local_files_only": local}
    return Path(snapshot_download(repository, repo_type=kind, **options))


def _reason(error: Exception) -> str:
    """The fault, and its remedy."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    match error:
        case GatedRepoError():
            return "is gated: ask for access on its page of the hub and log in with `hf auth login`"
        case RepositoryNotFoundError():
            return (
                "is not on the hub, or it is private: check the spelling of owner/name and, where it is private, log "
                "in with `hf auth login`"
            )
        case RevisionNotFoundError():
            return "has no such revision on the hub: name one of its branches, tags or commits, or none"
    if constants.HF_HUB_OFFLINE:
        return "is not among what was fetched from the hub before; unset HF_HUB_OFFLINE to fetch it"
    return (
        f"could not be fetched from the hub ({type(error).__name__}: {one_line(error)}): check the name, the network "
        "and your token (`hf auth login`), or run the same command again later; what is fetched is kept"
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status that caused `error`, if any."""
    responses = (getattr(cause, "response", None) for cause in causes(error))
    return next((int(response.status_code) for response in responses if response is not None), None)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the errors that caused it."""
    while error is not None:
        yield error
        error = error.__cause__
