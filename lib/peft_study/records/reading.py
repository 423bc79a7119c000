"""One run's folder as the comparison reads it: what it holds, what it leaves out, why it cannot be compared.

Nothing but the layout that README documents is read, so that another program may have written it. What is absent is not
known and leaves a gap; a null says that there is nothing of the kind. What is there and damaged is refused.
"""

import json
import zipfile
import zlib
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from peft_study.errors import StudyError
from peft_study.plain_yaml import read_yaml
from peft_study.records import gaps
from peft_study.records.layout import changed, is_foreign, is_interrupted
from peft_study.study.variant import Variant

IDENTITY = ("strategy", "train_size", "seed")
_BLOCKS = ("data", "parameters", "training", "cost", "environment")
_REQUIRED = ("preds", "labels", "ids")


class _Damaged(ValueError):
    """What is wrong with a file, in words of our own."""


class RunRead(NamedTuple):
    """A run that can be compared.

    `row`: the variant's fields (what `params.yaml` leaves out as the study states it), then those of `metrics.json`
    with dotted names; `tested`: for each of its test sets, what tells the reviews in it from others; `gaps`: what the
    record leaves out, by name: a file, or `params.yaml: dropout`, `metrics.json: training.seconds`.
    """

    row: dict[str, Any]
    tested: dict[Hashable, Hashable]
    gaps: list[str]


def read_run(folder: Path, variant: Variant) -> RunRead:
    """Read the run of `variant`. Raises `StudyError` with the reason where it cannot be compared.

    All that the comparison reads of the folder is read here once, so that what is damaged is known beforehand.
    """
    _be_finished(folder)
    params = _read_params(folder / "params.yaml")
    if other := changed(params, variant):
        mend = "correct the one or the other" if is_foreign(folder) else "run the study again"
        raise StudyError(
            f"made with other values than study.yaml now asks for (params.yaml: {', '.join(other)}); {mend}"
        )
    blocks = read_json(folder / "metrics.json")
    with _reading(folder / "metrics.json"):
        metrics, run = _flat(blocks), dict(blocks.get("run") or {})
        unfit = gaps.unfit(metrics)
        metrics |= dict.fromkeys(unfit)
    _be_of(variant, run, params)
    read_log(folder)
    tests = _tests(folder, variant)
    tested: dict[Hashable, Hashable] = {
        test: (arrays["ids"].tobytes(), arrays["labels"].tobytes()) for test, (_, arrays) in tests.items()
    }
    if metrics.get("data.fingerprint") is not None:
        tested["fingerprint"] = metrics["data.fingerprint"]
    scores = {f"{part}.accuracy": (arrays["preds"] == arrays["labels"]).mean() for part, arrays in tests.values()}
    row = variant.model_dump() | dict.fromkeys(gaps.FIELDS) | metrics | {"ood.accuracy": None} | scores
    absent = [*gaps.absent(folder, blocks, variant), *gaps.undefined(tests)]
    return RunRead(row, tested, [*gaps.unsaid(variant, params, run, metrics), *unfit.values(), *absent])


def _be_finished(folder: Path) -> None:
    """Refuse an interrupted training, one of ours without its `train.ipynb`, and a folder without any result."""
    if is_interrupted(folder):
        raise StudyError("its training was interrupted; run the study again")
    if not (folder / "train.ipynb").exists() and not is_foreign(folder):
        failed = (folder / "train.partial.ipynb").exists()
        raise StudyError("failed or was stopped: see train.log" if failed else "not finished")


def _read_params(file: Path) -> dict[str, Any]:
    """What `params.yaml` says was asked for; nothing where there is no such file."""
    if not file.exists():
        return {}
    with _reading(file):
        return dict(read_yaml(file))


def _be_of(variant: Variant, run: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Refuse a record that does not say which run it is of, or is of another than its folder's."""
    if unsaid := [name for name in IDENTITY if name not in run and name not in params]:
        raise StudyError(
            f"nothing says its {', '.join(unsaid)}; write that into the block `run` of metrics.json or into params.yaml"
        )
    if other := [
        f"{name}: {run[name]}" for name in IDENTITY if run.get(name, getattr(variant, name)) != getattr(variant, name)
    ]:
        raise StudyError(f"metrics.json is of another run ({', '.join(other)}); put it into the folder of that run")


def _tests(folder: Path, variant: Variant) -> dict[Hashable, tuple[str, dict[str, np.ndarray]]]:
    """The predictions on the test set and, where there are any, the other one, with the prefix of their scores."""
    found: dict[Hashable, tuple[str, dict[str, np.ndarray]]] = {
        "test": ("test", read_arrays(folder / "preds_and_labels.npz"))
    }
    other = folder / "ood_preds_and_labels.npz"
    if variant.ood_dataset is not None and other.exists():
        found[variant.ood_dataset, variant.ood_size, variant.data_seed] = "ood", read_arrays(other)
    return found


def read_log(folder: Path) -> pd.DataFrame:
    """A run's `log_history.json` as a table: a row per entry, always with `step` and `epoch`; none without the file."""
    file = folder / "log_history.json"
    with _reading(file):
        entries = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        log = pd.DataFrame(list(map(dict, entries)))
        return log.reindex(columns=list(dict.fromkeys(["step", "epoch", *log.columns])))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn whatever a missing or damaged `file` leads to into one `StudyError` that names it."""
    again = "write it anew" if is_foreign(file.parent) else "delete the run's folder and run the study again"
    try:
        yield
    except FileNotFoundError as error:
        raise StudyError(f"{file.name} is missing; {again}") from error
    except OSError as error:
        raise StudyError(f"{file.name} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes raise whatever they lead to
        told = str(error) if isinstance(error, _Damaged) else " ".join(f"{type(error).__name__}: {error}".split())
        raise StudyError(f"{file.name} is corrupt ({told}); {again}") from error


def read_json(file: Path) -> dict[str, Any]:
    """The blocks of a `metrics.json`."""
    with _reading(file):
        blocks = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(blocks, dict):
            raise _Damaged(f"it is {type(blocks).__name__}, and must be a mapping of blocks")
        return blocks


def _flat(blocks: Mapping[str, Any]) -> dict[str, Any]:
    """The blocks of `metrics.json` as one flat dict of dotted names; the fields of a block that is null are None."""
    evaluation = {} if "evaluation" not in blocks else dict(blocks["evaluation"] or {})
    nested = {name: blocks[name] for name in _BLOCKS if name in blocks}
    nested |= {part: evaluation[part] for part in ("validation", "test", "ood") if part in evaluation}
    flat: dict[str, Any] = {}
    for block, fields in nested.items():
        none = dict.fromkeys(name.partition(".")[2] for name in gaps.FIELDS if name.startswith(f"{block}."))
        flat |= {f"{block}.{key}": value for key, value in dict(none if fields is None else fields).items()}
    shared = ("seconds", "tokens_per_second", "flops_per_step", "peak_memory_bytes")  # said in both blocks, or in one
    costs = {f"training.{key}": flat[f"cost.{key}"] for key in shared if f"cost.{key}" in flat}
    return costs | flat | {"test.seconds": evaluation.get("test_seconds")}


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """`preds`, `labels` and `ids` (n,) and `logits` (n, classes) of a predictions file, in the order of the ids.

    The logits are NaN where the file has none; the classes are then those of the labels, two at least. Pickle is never
    loaded.
    """
    with _reading(file):
        arrays = _arrays(file)
        count = arrays["ids"].size
        arrays.setdefault("logits", np.full((count, max(2, len(np.unique(arrays["labels"])))), np.nan))
        shapes = {name: array.shape for name, array in arrays.items()}
        classes = arrays["logits"].shape[-1]
        fit = {"preds": (count,), "labels": (count,), "logits": (count, classes), "ids": (count,)}
        if shapes != fit or not count or classes < 2:
            raise _Damaged(f"the shapes of its arrays do not fit: {shapes}")
        if not all(np.isin(arrays[name], range(classes)).all() for name in ("preds", "labels")):
            raise _Damaged(f"its classes are not all {'0 or 1' if classes == 2 else f'from 0 to {classes - 1}'}")
        if len(np.unique(arrays["ids"])) < count:
            raise _Damaged("it names a review twice")
        chosen = arrays["logits"][np.arange(count), arrays["preds"].astype(int)]
        other = (chosen < arrays["logits"].max(axis=1)).sum()  # no such review, where one is no number
        if other:
            largest = "larger" if classes == 2 else "largest"
            raise _Damaged(f"its preds are not the {largest} logit of {other:,} of {count:,} reviews")
        order = np.argsort(arrays["ids"])
        return {name: array[order] if name == "logits" else array[order].astype(int) for name, array in arrays.items()}


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a predictions file, as they are. Raises `_Damaged` where it is no archive of plain arrays."""
    file.stat()  # where it is missing, that is what is wrong with it
    if not zipfile.is_zipfile(file):
        raise _Damaged("it is no NumPy archive (.npz), or one that was cut off")
    with np.load(file, allow_pickle=False) as archive:
        if absent := [name for name in _REQUIRED if name not in archive.files]:
            raise _Damaged(f"it lacks {', '.join(absent)}; {', '.join(_REQUIRED)} are needed")
        try:
            return {name: archive[name] for name in (*_REQUIRED, "logits") if name in archive.files}
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _Damaged("its bytes are not those that were written") from error
        except ValueError as error:
            raise _Damaged("it holds Python objects, which are never loaded, or its arrays are cut off") from error
