"""What a run is (`Variant`) and what a study asks (`Study`): fields, defaults, checks, names.

A variant is one row of the experiment; a study is a matrix of them. Both are validated when they are built, so that a
typo, a wrong type or an impossible value is one readable message before anything starts.
"""

import itertools
import math
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from peft_study import paths
from peft_study.errors import StudyError, unknown
from peft_study.plain_yaml import read_yaml
from peft_study.strategies import STRATEGIES

Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]

RUNS = 10_000  # the most that a study may have
_NAME = re.compile(r"\w[\w .+-]*")  # of a study: a name that no shell, pattern or page reads as anything else
_LONGEST = 200  # characters of a run's name: it is a folder's, and file systems allow 255 bytes
_SHOWN = 200  # characters of a value that an error shows
_FAULTS = 20  # of a file that its message names


class Variant(BaseModel):
    """One run: every choice that its result depends on. The defaults are those of the quick study.

    `model`, `dataset` and `ood_dataset` are `bundled:NAME`, a folder, or a hub name with an optional `@revision`; a
    dataset may also be a file. `label_names` are those of the classes in their order, None the dataset's own.
    Training takes `max_steps` optimizer steps, or where that is None as many as `epochs` passes over the reviews give.
    `precision` auto is bf16 where the hardware multiplies it, else fp32; fp16, with scaled losses, is for GPUs without
    bf16. With `deterministic` two runs on one GPU give the same bits, more slowly; on a CPU they do in any case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    model: Text = "bundled:all-MiniLM-L6-v2"
    dataset: Text = "bundled:imdb"
    ood_dataset: Text | None = "bundled:rotten-tomatoes"
    text_column: Text = "text"
    label_column: Text = "label"
    label_names: Annotated[list[Text], Field(min_length=2)] | None = None
    strategy: Text = "lora"
    train_size: Count = 1000
    test_size: Count | None = 1000
    ood_size: Count | None = 1000
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    data_seed: Annotated[int, Field(ge=0)] = 0
    max_length: Annotated[int, Field(ge=8)] = 128
    truncation: Literal["head", "tail", "head+tail"] = "head+tail"
    epochs: Annotated[float, Field(gt=0)] = 1
    max_steps: Count | None = None
    batch_size: Count = 8
    gradient_accumulation: Count = 1
    auto_batch: bool = False
    resume: bool = False
    processes: Count = 1
    learning_rate: Rate | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    evaluations: Annotated[int, Field(ge=0)] = 4
    checkpoint: Literal["best", "last"] = "best"
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    deterministic: bool = False
    lora_r: Count = 8
    lora_alpha: Count = 16
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: list[Text] | None = None
    peft: dict[str, Any] = {}
    save_model: bool = True

    @model_validator(mode="before")
    @classmethod
    def _other_texts_are_of_the_default(cls, values: Any) -> Any:
        """Texts of another kind than those of the default dataset are of no use to another one."""
        fields = cls.model_fields
        if isinstance(values, dict) and values.get("dataset", fields["dataset"].default) != fields["dataset"].default:
            return {"ood_dataset": None} | values
        return values

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, value: str) -> str:
        if value not in STRATEGIES:
            raise ValueError(unknown("strategy", value, STRATEGIES))
        return value

    @field_validator("label_names")
    @classmethod
    def _names_differ(cls, value: list[str] | None) -> list[str] | None:
        if value and len(set(value)) < len(value):
            raise ValueError("a class is named twice; give each a name of its own")
        return value

    @model_validator(mode="after")
    def _is_read_by_the_strategy(self) -> "Variant":
        reads = STRATEGIES[self.strategy].reads
        for name in ("peft", "target_modules"):
            if getattr(self, name) and name not in reads:
                raise ValueError(
                    f"{name}: the strategy {self.strategy!r} has no adapter that reads it; set it elsewhere"
                )
        return self

    @model_validator(mode="after")
    def _best_needs_validation(self) -> "Variant":
        if self.checkpoint == "best" and not (self.validation_fraction and self.evaluations):
            raise ValueError(
                "checkpoint 'best' is chosen on validation: set validation_fraction and evaluations above "
                "0, or checkpoint to 'last'"
            )
        return self

    @model_validator(mode="after")
    def _can_resume(self) -> "Variant":
        if self.resume and (unsaved := STRATEGIES[self.strategy].unsaved):
            raise ValueError(
                f"resume: a checkpoint of the strategy {self.strategy!r} lacks {unsaved}; set resume to false for it"
            )
        return self

    @model_validator(mode="after")
    def _can_be_pruned(self) -> "Variant":
        if self.precision == "fp16" and self.strategy == "adalora":  # it ranks by gradients, of which fp16 drops some
            raise ValueError(
                "precision = 'fp16' does not work with the strategy 'adalora'; set it to auto, bf16 or fp32"
            )
        return self

    @model_validator(mode="after")
    def _can_be_shared_out(self) -> "Variant":
        if self.processes > 1 and (self.resume or self.auto_batch):
            raise ValueError(f"processes = {self.processes}: resume and auto_batch work with one process alone")
        if self.batch_size % self.processes:
            raise ValueError(
                f"batch_size = {self.batch_size} cannot be shared out to processes = {self.processes}; take a multiple"
            )
        return self

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> "Variant":
        default = type(self).model_fields["epochs"].default
        if self.max_steps is not None and self.epochs != default:
            raise ValueError(
                f"max_steps = {self.max_steps} and epochs = {self.epochs:g} both say how long to train: leave out "
                f"epochs (at its default, {default:g}) where steps are fixed, or max_steps where epochs are"
            )
        return self

    @property
    def rate(self) -> float:
        """The learning rate in force: the one asked for, or else the strategy's own."""
        return self.learning_rate if self.learning_rate is not None else STRATEGIES[self.strategy].learning_rate

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Field -> (this variant's value, the default), for the fields that differ from the default."""
        return {
            name: (value, field.default)
            for name, field in type(self).model_fields.items()
            if (value := getattr(self, name)) != field.default
        }

    def run_id(self, axes: Iterable[str] = ()) -> str:
        """The name of the run: strategy, size and seed, then the study's other `axes` in the order of the fields."""
        extra = [name for name in type(self).model_fields if name in set(axes) - {"strategy", "train_size", "seed"}]
        parts = [self.strategy, f"n{self.train_size:05d}", f"s{self.seed}"]
        return "-".join(parts + [name + _slug(getattr(self, name)) for name in extra])


class Study(BaseModel):
    """A question and the matrix of variants that answers it, as `runs/<name>/study.yaml` states it.

    A variant takes its values from `defaults`, then from its strategy's entry in `strategies`, then from `matrix`:
    every combination of the values of its axes. Where strategies need different axes (their own learning rates, ranks
    that full fine-tuning does not have), `matrix` is a list of such grids.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: Text
    title: Text
    question: Text
    baseline: Text = "full"
    margin: Annotated[float, Field(gt=0, lt=100)] = 1.0
    defaults: dict[str, Any] = {}
    strategies: dict[str, dict[str, Any]] = {}
    matrix: list[dict[str, list[Any]]]

    @field_validator("defaults", "strategies", mode="before")
    @classmethod
    def _empty_is_allowed(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("matrix", mode="before")
    @classmethod
    def _one_grid_is_allowed(cls, value: Any) -> Any:
        return [value or {}] if value is None or isinstance(value, dict) else value

    @field_validator("matrix")
    @classmethod
    def _axes_have_values(cls, value: list[dict[str, list[Any]]]) -> list[dict[str, list[Any]]]:
        for axis, values in (axis for grid in value for axis in grid.items()):
            if not values:
                raise ValueError(f"the axis {axis!r} has no values; give at least one")
            if len({repr(v) for v in values}) < len(values):
                raise ValueError(f"the axis {axis!r} names a value twice: {_shown(values)}")
        if (count := sum(math.prod(map(len, grid.values())) for grid in value)) > RUNS:
            raise ValueError(f"it has {count:,} runs, at most {RUNS:,} are allowed; leave values out")
        return value

    @property
    def axes(self) -> list[str]:
        """The axes of all grids of the matrix."""
        return list(dict.fromkeys(axis for grid in self.matrix for axis in grid))

    @property
    def sweeps_rates(self) -> bool:
        """Whether the study asks which learning rate is best, rather than which strategy."""
        return "learning_rate" in self.axes

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """run_id -> variant, in the order of the matrix. Raises `StudyError` listing every fault."""
        variants, faults = self.expand()
        if faults:
            raise _faulty(self.name, faults)
        return variants

    def expand(self) -> tuple[dict[str, Variant], list[str]]:
        """The sound variants of the matrix by run_id, and the faults of the others and of the names between them."""
        faults: dict[str, None] = {}
        variants: dict[str, Variant] = {}
        points = [(grid, values) for grid in self.matrix for values in itertools.product(*grid.values())]
        for grid, values in points:
            point = dict(zip(grid, values, strict=True))
            strategy = str(point.get("strategy", self._default_strategy()))
            try:
                variant = Variant(**{**self.defaults, **self.strategies.get(strategy, {}), **point})
                if (run := variant.run_id(grid)) in variants and variants[run] == variant:
                    faults[f"matrix: {run} stands in it twice; remove one of the two"] = None
                variants[run] = variant
                faults |= dict.fromkeys(_idle(variant, grid, self.strategies.get(strategy, {})))
            except ValidationError as error:
                faults |= dict.fromkeys(describe(error, Variant))
        faults |= dict.fromkeys(self._faults_of_names())
        if not faults and len(variants) < len(points):
            faults["matrix: two points share one run name; make the values differ in letters or digits"] = None
        return variants, list(faults)

    def _default_strategy(self) -> Any:
        """The strategy of every variant where it is no axis of the matrix."""
        return self.defaults.get("strategy", Variant.model_fields["strategy"].default)

    def _faults_of_names(self) -> list[str]:
        """What is wrong between the parts of the file, rather than within one variant."""
        used = [str(name) for grid in self.matrix for name in grid.get("strategy", [self._default_strategy()])]
        used = list(dict.fromkeys(used))
        faults = [
            f"strategies: {unknown('strategy', name, used)} (those of the matrix)"
            for name in self.strategies
            if name not in used
        ]
        if self.baseline not in used:
            unset = (
                ""
                if "baseline" in self.model_fields_set
                else f"; 'full' is the default, so write `baseline: {used[0]}`"
            )
            faults.append(f"baseline: {unknown('strategy', self.baseline, used)} (those of the matrix){unset}")
        return faults


def read_study(name: str) -> Study:
    """The study `name`, fully checked. Raises `StudyError` with one message that lists every fault of its file."""
    file = paths.study_folder(name) / "study.yaml"
    if name not in paths.studies():
        raise StudyError(f"{unknown('study', name, paths.studies())}; a study is a file {file}")
    if not _NAME.fullmatch(name):
        raise StudyError(
            f"the study {name!r} cannot have that name: letters, digits, spaces and . _ + - are allowed, "
            f"a letter, digit or _ first; rename {file.parent}"
        )
    try:
        content = read_yaml(file)
    except (ValueError, OSError) as error:  # ValueError also: not UTF-8, or a date that does not exist
        raise StudyError(f"{file} is not readable as YAML: {' '.join(str(error).split())}") from error
    if isinstance(content, dict) and "name" in content:
        raise StudyError(f"{file}: unknown key 'name'; a study is named by its folder")
    if not isinstance(content, dict):
        raise StudyError(f"{file} is {type(content).__name__}; it must be a mapping with title, question and matrix")
    try:
        study = Study.model_validate(content | {"name": name})
    except ValidationError as error:
        faults = describe(error, Study) + _sound_part(content, error).expand()[1]
        raise _faulty(name, list(dict.fromkeys(faults))) from error
    if long := [run for run in study.variants if len(run) > _LONGEST]:  # reading them checks the whole matrix
        told = f"matrix: {len(long)} runs have names of more than {_LONGEST} characters ({long[0][:60]}...)"
        raise _faulty(name, [f"{told}; keep long values in defaults or strategies"])
    return study


def _sound_part(content: dict[str, Any], error: ValidationError) -> Study:
    """The study without the entries that `error` complains of, so that the rest of the file is checked all the same."""
    faulty = {fault["loc"][0] for fault in error.errors()}
    sound = {key: value for key, value in content.items() if key not in faulty}
    strategies = dict.fromkeys([*(sound.get("strategies") or {}), sound.get("baseline", "full")])
    filler = {"name": "-", "title": "-", "question": "-", "matrix": {"strategy": list(strategies)}}
    return Study.model_validate(filler | sound)


def _faulty(name: str, faults: list[str]) -> StudyError:
    """One message for all faults of a study's file, which names the first of very many."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    more = ["..."] * (len(faults) > _FAULTS)
    return StudyError(
        "\n  ".join([f"{paths.study_folder(name) / 'study.yaml'} has {count}:", *faults[:_FAULTS], *more])
    )


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Each fault of a pydantic `error` on a line: the field, the value, what is allowed."""
    lines = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            lines.append(unknown("key", field, model.model_fields))
        elif fault["type"] == "missing":
            lines.append(f"{field} is missing")
        elif not field:
            lines.append(message)
        else:
            lines.append(f"{field} = {_shown(fault['input'])}: {message[0].lower()}{message[1:]}")
    return lines


def _shown(value: Any) -> str:
    """A value as an error shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _idle(variant: Variant, axes: Iterable[str], own: Iterable[str]) -> list[str]:
    """A fault for each of the `axes`, and of the fields set for the variant's strategy alone, that it ignores."""
    name, heeds = variant.strategy, STRATEGIES[variant.strategy].heeds
    return [
        f"matrix: the strategy {name!r} ignores {axis!r}; give it a grid of its own without that axis "
        "(matrix may be a list of grids)"
        for axis in axes
        if not heeds(axis)
    ] + [f"strategies: the strategy {name!r} ignores {field!r}; leave it out" for field in own if not heeds(field)]


def _slug(value: Any) -> str:
    """A value as part of a folder's name."""
    if isinstance(value, dict):
        return "_".join(name + _slug(setting) for name, setting in value.items())
    text = format(value, "g") if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.+]+", "_", text)
