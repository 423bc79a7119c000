"""All records of a study as one table, and why the other runs cannot be compared.

Nothing but the layout that runs/README.md documents is read, so that another program may have written it. A field
that is absent is unknown and named in `Runs.unrecorded`; a null states that there is nothing of the kind; a damaged
file excludes its run, with the reason.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ConfigDict, ValidationError, create_model

from peft_study import paths
from peft_study.data.labels import unnamed
from peft_study.errors import StudyError, one_line
from peft_study.records import layout
from peft_study.statistics.calibration import log_odds, temperature
from peft_study.statistics.intervals import Interval, interval, unstable
from peft_study.statistics.scores import METRICS, Scored, chance, score, scored
from peft_study.study.study import Study, read_study
from peft_study.study.variant import TESTED, Variant
from peft_study.text import UNKNOWN

IDENTITY = ("strategy", "train_size", "seed")
COSTS = ("seconds", "tokens_per_second", "flops_per_step", "peak_memory_bytes")  # of a training, stated in `cost` too
CLASSES = 10_000  # the most that a record without logits may have
UNFINISHED = "not finished"  # the reason of a run that no one has trained
REASONS = 5  # of runs that cannot be compared, that an error lists

Arrays = dict[str, np.ndarray]
Number = int | float
FIELDS: dict[str, Any] = {  # of metrics.json, that the comparison expects; those of `evaluation` by its parts
    "data.fingerprint": str,
    "data.held_out": bool,
    **{f"data.{key}": Number for key in ("unique", "duplicates")},
    **{f"parameters.{key}": Number for key in ("total", "trainable", "backbone", "head")},
    **{f"parameters.trainable_{key}": Number for key in ("backbone", "adapter", "head")},
    **{f"training.{key}": Number for key in (*COSTS, "steps", "epochs", "trainer_flops")},
    **{f"validation.{key}": Number for key in ("loss", "accuracy")},
    **{f"cost.{key}": Number for key in ("model_bytes", "inference_seconds", "inference_merged_seconds")},
    **{f"environment.{key}": str for key in ("date", "device", "precision", "system", "python", "commit", "model")},
    "environment.packages": dict[str, Any],
}
_KINDS = {"string_type": "text", "bool_type": "true or false", "dict_type": "a mapping"}  # anything else: a number
_OPTIONAL: dict[str, Any] = {name: (kind | None, None) for name, kind in FIELDS.items()}
Record = create_model("Record", __config__=ConfigDict(extra="allow", strict=True, allow_inf_nan=False), **_OPTIONAL)
"""The content of `metrics.json` by dotted names, all optional; a field that is not of `FIELDS` may hold anything."""


def _flat(blocks: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `metrics.json` by dotted names; of a block that is null, all fields are None."""
    parts = {name: blocks[name] for name in ("data", "parameters", "training", "cost", "environment") if name in blocks}
    evaluation = blocks.get("evaluation") or {}
    parts |= {part: evaluation[part] for part in ("validation", "test", "ood") if part in evaluation}
    flat: dict[str, Any] = {}
    for block, fields in parts.items():
        if not isinstance(fields, dict | None):
            raise ValueError(f"its block {block!r} is {type(fields).__name__}, and must be a mapping")
        none = {name: None for name in FIELDS if name.startswith(f"{block}.")}
        flat |= none if fields is None else {f"{block}.{key}": value for key, value in fields.items()}
    costs = {f"training.{key}": flat[f"cost.{key}"] for key in COSTS if f"cost.{key}" in flat}
    return costs | flat


def _of_another_kind(flat: Mapping[str, Any]) -> dict[str, str]:
    """The fields whose value is of another kind than `Record` asks, and that kind."""
    try:
        Record.model_validate(flat)
    except ValidationError as error:
        return {str(fault["loc"][0]): _KINDS.get(fault["type"], "a number") for fault in error.errors()}
    return {}


def _unrecorded(stated: Iterable[str]) -> list[str]:
    """The fields of `FIELDS` that are not stated; where none of a block is, the block."""
    blocks = {name.partition(".")[0] for name in FIELDS if name in stated}
    absent = [(name, name.partition(".")[0]) for name in FIELDS if name not in stated]
    return list(dict.fromkeys(f"metrics.json: {name if block in blocks else block}" for name, block in absent))


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn whatever a missing or damaged `file` leads to into one `StudyError` that names it."""
    try:
        yield
    except Exception as error:  # damaged bytes raise whatever they lead to
        reason = getattr(error, "strerror", None) or one_line(error) or type(error).__name__
        raise StudyError(f"{file.name} cannot be read ({reason}); {_remedy(file.parent)}") from error


def _remedy(folder: Path) -> str:
    """What mends the record in `folder`: only the program that wrote it can."""
    return "rewrite it" if layout.is_foreign(folder) else "delete the run's folder and run the study again"


def read_log(folder: Path) -> pd.DataFrame:
    """A run's `log_history.json`: a row per entry, always with `step` and `epoch`; no row without the file."""
    file = folder / "log_history.json"
    with reading(file):
        entries = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        log = pd.DataFrame(list(map(dict, entries)))
        return log.reindex(columns=list(dict.fromkeys(["step", "epoch", *log.columns])))


def fitted_temperature(folder: Path) -> float:
    """The temperature fitted on a run's validation texts; 1 where there are none or they determine none."""
    file = folder / "validation_preds_and_labels.npz"
    if not file.exists():
        return 1.0
    arrays = read_arrays(file)
    fitted = temperature(arrays["logits"], arrays["labels"])
    return fitted if np.isfinite(fitted) else 1.0


def read_arrays(file: Path) -> Arrays:
    """`preds`, `labels` and `ids` (n,) and `logits` (n, classes) of a predictions file, in the order of the ids.

    The logits are NaN where the file has none; the classes are then those up to the largest, two at least. The arrays
    are read-only. Pickle is never loaded.
    """
    with reading(file), np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in ("preds", "labels", "ids")}
        if "logits" in archive:
            arrays["logits"] = archive["logits"]
        preds, labels, ids = arrays["preds"], arrays["labels"], arrays["ids"]
        largest = int(max(preds.max(initial=1), labels.max(initial=1)))
        if largest >= CLASSES:
            raise ValueError(f"it has a class {largest:,}; classes are numbered 0, 1, ...")
        logits = arrays.setdefault("logits", np.full((ids.size, largest + 1), np.nan))
        count, classes = ids.size, logits.shape[-1]
        shapes = {name: array.shape for name, array in arrays.items()}
        fit = {"preds": (count,), "labels": (count,), "logits": (count, classes), "ids": (count,)}
        if shapes != fit or not count or classes < 2:
            raise ValueError(f"the shapes of its arrays do not fit: {shapes}")
        if not np.isin([preds, labels], range(classes)).all():
            raise ValueError(f"its classes are not all {'0 or 1' if classes == 2 else f'from 0 to {classes - 1}'}")
        if len(np.unique(ids)) < count:
            raise ValueError("it names a text twice")
        predicted = logits[np.arange(count), preds.astype(int)]
        if contrary := (predicted < logits.max(axis=1)).sum():  # never where a logit is NaN
            raise ValueError(f"its preds are not the largest logit of {contrary:,} of {count:,} texts")
        if ids.dtype.kind not in "iuf" or (ids % 1 != 0).any():
            raise ValueError("its ids are not all whole numbers")
        order = np.argsort(ids)
        for name, array in arrays.items():
            arrays[name] = array[order] if name == "logits" else array[order].astype(int)
            arrays[name].flags.writeable = False
        return arrays


def _on_same_texts(arrays: Arrays, others: Arrays | None) -> bool:
    """Whether two runs, of which the second may be absent, were tested on texts of the same ids and labels."""
    return others is not None and all(np.array_equal(arrays[name], others[name]) for name in ("ids", "labels"))


def _read_run(
    folder: Path, variant: Variant, axes: Iterable[str], metric: str
) -> tuple[dict[str, Any], dict[str, Arrays], list[str]]:
    """A run's row of `Runs.table`, its predictions by `part` ("" and, where there are any, "ood_"), what is unrecorded.

    Of a record of another program, only what it states is known of the variant, beside the study's `axes`, which its
    folder's name states, and the names of the classes. Raises `StudyError` with the reason where it cannot be compared,
    as where its predictions have no such `metric`. All that the comparison reads of the folder is read here once, so
    that damage is known beforehand.
    """
    if layout.is_interrupted(folder):
        raise StudyError("its training was interrupted; run the study again")
    if not (folder / "train.ipynb").exists() and not layout.is_imported(folder):
        failed = (folder / "train.partial.ipynb").exists()
        raise StudyError("failed or was stopped: see train.log" if failed else UNFINISHED)
    params: dict[str, Any] = {}
    if (file := folder / "params.yaml").exists():
        with reading(file):
            params = layout.read_params(folder)
    if other := ", ".join(layout.contradicted(params, variant)):
        mend = "correct that file or move the folder away"
        raise StudyError(f"its params.yaml differs from study.yaml ({other}); {mend}")

    with reading(folder / "metrics.json"):
        blocks = layout.read_metrics(folder)
        fields = _flat(blocks)
        run = dict(blocks.get("run") or {})
    if unstated := ", ".join(name for name in IDENTITY if name not in run and name not in params):
        raise StudyError(f"its {unstated} is not recorded; add it to `run` in metrics.json, or to params.yaml")
    if other := ", ".join(f"{name}: {run[name]}" for name in layout.contradicted(run, variant) if name in IDENTITY):
        raise StudyError(f"metrics.json belongs to another run ({other}); move it to the folder of that run")

    read_log(folder)
    predictions = {"": read_arrays(folder / "preds_and_labels.npz")}
    if variant.ood_dataset is not None and (file := folder / "ood_preds_and_labels.npz").exists():
        predictions["ood_"] = read_arrays(file)
    kinds = _of_another_kind(fields)
    asked, stated = variant.model_dump(), {**params, **run}.keys() | {*axes, "label_names"}
    if layout.is_foreign(folder):
        asked |= dict.fromkeys(asked.keys() - stated)
    row = asked | dict.fromkeys(FIELDS) | fields | dict.fromkeys([*kinds, "ood.accuracy"])
    for part, arrays in predictions.items():
        name = "ood" if part else "test"
        odds = log_odds(arrays["logits"][:, :2])[:, 0]
        row |= {f"{name}.{known}": score(known, arrays["labels"], arrays["preds"], odds) for known in METRICS}
    if np.isnan(row[f"test.{metric}"]):
        raise StudyError(
            f"metric: {metric} requires test texts of exactly two classes and finite logits; set another in study.yaml"
        )

    unrecorded = [f"params.yaml: {name}" for name in variant.model_dump() if name not in {**params, **run}]
    unrecorded = [*(unrecorded if params else ["params.yaml"]), *_unrecorded(fields)]
    unrecorded += [f"metrics.json: {name} (is not {kind})" for name, kind in kinds.items()]
    if not (folder / "log_history.json").exists():
        unrecorded.append("log_history.json")
    tested_elsewhere = (blocks.get("evaluation") or {}).get("ood", ...) is not None  # null: on no other texts
    if variant.ood_dataset is not None and tested_elsewhere and "ood_" not in predictions:
        unrecorded.append("ood_preds_and_labels.npz")
    for part, arrays in predictions.items():
        if count := int((~np.isfinite(arrays["logits"]).all(axis=1)).sum()):
            unrecorded.append(f"{part}preds_and_labels.npz: logits of {count:,} texts")
    return row, predictions, unrecorded


@dataclass(frozen=True, eq=False)
class Runs:
    """All runs of a study that can be compared, and why the others cannot.

    `table` has a row per finished run, indexed by `run_id`: the variant's fields, then the blocks of `metrics.json`
    with dotted names (`test.accuracy`, `training.seconds`, `parameters.trainable`, ...), None or NaN where a record
    does not say. `missing` maps the other run ids to the reason. All runs of `table` were tested on the same texts.
    `unrecorded` maps the run ids of `table` whose records are incomplete to what they leave out: a file, or
    `params.yaml: dropout`, `metrics.json: training.seconds`.
    """

    study: Study
    table: pd.DataFrame
    missing: dict[str, str]
    unrecorded: dict[str, list[str]] = field(default_factory=dict)
    _predictions: dict[tuple[str, str], Arrays] = field(default_factory=dict, repr=False)

    def arrays(self, run_id: str, part: str = "") -> Arrays:
        """`preds`, `labels`, `logits` (NaN where not on record) and `ids` of a run on the test set, read once.

        With `part="ood_"` they are those on the other test set, with `part="validation_"` those on its validation set.
        """
        if (run_id, part) not in self._predictions:
            file = paths.run_folder(self.study.name, run_id) / f"{part}preds_and_labels.npz"
            self._predictions[run_id, part] = read_arrays(file)
        return self._predictions[run_id, part]

    @cached_property
    def labels(self) -> np.ndarray:
        """The true labels of the test texts, shape (n,), in the order of the rows of `preds`."""
        return self.arrays(self.table.index[0])["labels"]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes 0, 1, ...: those on record, else those that the study gives, else any."""
        count = self.arrays(self.table.index[0])["logits"].shape[1]
        columns = [self.table[name] for name in ("data.labels", "label_names") if name in self.table]
        stated = [tuple(map(str, names)) for column in columns for names in column if isinstance(names, list)]
        return next((names for names in stated if len(names) == count), unnamed(count))

    @cached_property
    def preds(self) -> pd.DataFrame:
        """The predicted classes: a row per test text (indexed by its id), a column per run."""
        columns = {run_id: self.arrays(run_id) for run_id in self.table.index}
        return pd.DataFrame({run_id: pd.Series(arrays["preds"], arrays["ids"]) for run_id, arrays in columns.items()})

    def right(self, run_ids: str | list[str]) -> np.ndarray:
        """Which test texts runs classify correctly: (runs, n), or (n,) of a single run."""
        return np.asarray(self.labels == self.preds[run_ids].to_numpy().T)

    def scored(
        self, run_ids: str | list[str], part: str = "", texts: Any = slice(None), metric: str | None = None
    ) -> Scored:
        """Runs, or a single run as a fixed classifier, by the study's metric or another; `part` as in `arrays`.

        `texts` are those that count, all by default: a mask (n,). Whether runs are unstable is judged on the test set.
        """
        arrays = [self.arrays(run_id, part) for run_id in ([run_ids] if isinstance(run_ids, str) else run_ids)]
        preds = np.stack([each["preds"][texts] for each in arrays])
        odds = np.stack([log_odds(each["logits"][texts, :2])[:, 0] for each in arrays])
        labels, metric = arrays[0]["labels"][texts], metric or self.study.metric
        if isinstance(run_ids, str):
            return scored(metric, labels, preds[0], odds[0])
        return replace(scored(metric, labels, preds, odds), unstable=self.unstable(run_ids))

    def unstable(self, run_ids: list[str]) -> bool:
        """Whether runs that differ by their seed alone are of two kinds: `intervals.unstable`."""
        return unstable((self.intervals[run_id] for run_id in run_ids), self.chance)

    @cached_property
    def chance(self) -> float:
        """The test score of the majority-class baseline."""
        return chance(self.study.metric, self.labels)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The test score of every run with its 95 % interval over texts."""
        return {run_id: interval(self.scored(run_id)) for run_id in map(str, self.table.index)}

    @cached_property
    def at_chance(self) -> set[str]:
        """The runs whose interval reaches down to the score of the majority-class baseline."""
        return {run_id for run_id, found in self.intervals.items() if found.low <= self.chance}

    def stated(self, *fields: str) -> pd.DataFrame:
        """The rows of `table` whose records state all these fields of the variant; elsewhere `study.yaml` does."""
        names = {"params.yaml", *(f"params.yaml: {name}" for name in fields)}
        return self.table[[names.isdisjoint(self.unrecorded.get(run_id, ())) for run_id in self.table.index]]

    @property
    def foreign(self) -> list[str]:
        """The runs whose records another program wrote."""
        study = self.study.name
        return [run_id for run_id in map(str, self.table.index) if layout.is_foreign(paths.run_folder(study, run_id))]

    def of_part(self, part: str) -> "Runs":
        """These runs with their predictions of another part in place of those of the test set, by accuracy.

        Columns of `table` remain those of the test set.
        """
        predictions = {(run_id, ""): self.arrays(run_id, part) for run_id in map(str, self.table.index)}
        return replace(self, study=self.study.model_copy(update={"metric": "accuracy"}), _predictions=predictions)

    def under_other_rule(self) -> "Runs | None":
        """These runs with the test predictions of the checkpoints that the other rule selects, where these are others.

        None where no run has any on record. Raises `StudyError` where they are of other texts.
        """
        others = {}
        for run_id in map(str, self.table.index):
            file = paths.run_folder(self.study.name, run_id) / "other_checkpoint_preds_and_labels.npz"
            if file.exists():
                others[run_id, ""] = arrays = read_arrays(file)
                if not _on_same_texts(arrays, self.arrays(run_id)):
                    raise StudyError(f"{file.name} of {run_id} holds other texts than its preds_and_labels.npz")
        return replace(self, _predictions=self._predictions | others) if others else None

    def log(self, run_id: str) -> pd.DataFrame:
        """The Trainer's log of a run: a row per entry, with `step`, `epoch`, `loss`, `eval_loss`, `eval_accuracy`."""
        return read_log(paths.run_folder(self.study.name, run_id))


def load_runs(study_name: str) -> Runs:
    """Every run of a study. One that is missing, damaged or has other values is named, and the others are compared."""
    study = read_study(study_name)
    rows: dict[str, dict[str, Any]] = {}
    predictions: dict[tuple[str, str], Arrays] = {}
    unrecorded: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    tests: dict[Any, dict[str, Any]] = {}  # what the runs tested on the same texts share
    for run_id, variant in study.variants.items():
        try:
            folder = paths.run_folder(study_name, run_id)
            rows[run_id], parts, unrecorded[run_id] = _read_run(folder, variant, study.axes, study.metric)
        except StudyError as error:
            missing[run_id] = str(error)
            continue
        for part, arrays in parts.items():
            predictions[run_id, part] = arrays
            ood_set = variant.ood_dataset, variant.ood_size, variant.data_seed
            key = f"ids or labels in {part}preds_and_labels.npz", ood_set if part else "test"
            tests.setdefault(key, {})[run_id] = arrays["ids"].tobytes(), arrays["labels"].tobytes()
        if (fingerprint := rows[run_id]["data.fingerprint"]) is not None:
            tests.setdefault(("data.fingerprint in metrics.json", "test"), {})[run_id] = fingerprint
    for (what, _), values in tests.items():
        values = {run_id: value for run_id, value in values.items() if run_id in rows}
        for common, _ in Counter(values.values()).most_common(1):  # of equally many, the first
            typical = next(run_id for run_id in values if values[run_id] == common)
            for run_id in [run_id for run_id in values if values[run_id] != common]:
                remedy = _remedy(paths.run_folder(study_name, run_id))
                missing[run_id] = f"it was tested on other texts: its {what} differ from those of {typical}; {remedy}"
                del rows[run_id]
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "run_id"
    return Runs(
        study,
        table,
        {run_id: missing[run_id] for run_id in study.variants if run_id in missing},
        {run_id: unrecorded[run_id] for run_id in rows if unrecorded[run_id]},
        {key: arrays for key, arrays in predictions.items() if key[0] in rows},
    )


def with_scratch(runs: Runs) -> tuple[Runs, dict[str, str]]:
    """`runs` and the finished ones of `runs/scratch/`, and which of these are left out, with the reason.

    Only those join that were tested on the same texts. Their ids, and their values in a further column `run`, are
    `scratch/<folder>`.
    """
    rows = runs.table.assign(run=UNKNOWN).to_dict("index")
    first, predictions, left_out = next(iter(rows)), dict(runs._predictions), dict[str, str]()
    for folder in sorted(file.parent for file in paths.study_folder(paths.SCRATCH).glob("*/metrics.json")):
        name = f"{paths.SCRATCH}/{folder.name}"
        if not layout.is_finished(folder):
            continue
        try:
            variant = layout.read_variant(folder)
            row, parts, _ = _read_run(folder, variant, (), runs.study.metric)
        except (StudyError, OSError, ValueError) as error:
            left_out[name] = one_line(error)
            continue
        same = {part for part in parts if _on_same_texts(parts[part], predictions.get((first, part)))}
        if "" not in same or len({row["data.fingerprint"], rows[first]["data.fingerprint"]} - {None}) > 1:
            asked = runs.study.variants[str(first)]
            fields = [field for field in TESTED if getattr(variant, field) != getattr(asked, field)]
            left_out[name] = f"tested on other texts: it differs in {', '.join(fields) or 'ids or labels'}"
            continue
        rows[name] = row | {"run": name} | ({} if "ood_" in same else {f"ood.{metric}": None for metric in METRICS})
        predictions |= {(name, part): parts[part] for part in same}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("run_id")
    return (replace(runs, table=table, _predictions=predictions) if len(rows) > len(runs.table) else runs), left_out


def require_runs(runs: Runs) -> None:
    """Raise `StudyError` where no run can be compared, with at most `REASONS` of the reasons that can be mended."""
    if runs.table.empty:
        reasons = [f"{run_id}: {reason}" for run_id, reason in runs.missing.items() if reason != UNFINISHED]
        more = [f"and {len(reasons) - REASONS} more"] if len(reasons) > REASONS else []
        command = f"./run_all.sh {runs.study.name} trains them"
        first = f"no run of the study {runs.study.name!r} can be compared yet; {command}"
        raise StudyError("\n  ".join([first, *reasons[:REASONS], *more]))
