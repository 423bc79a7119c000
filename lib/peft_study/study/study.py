"""A study: its `study.yaml`, the matrix of its variants, and the names of its runs."""

import math
import re
from collections.abc import Iterable
from functools import cached_property
from itertools import product
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from peft_study import paths
from peft_study.errors import StudyError, quoted, unknown
from peft_study.files import read_yaml
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import TESTED, Text, Variant, describe
from peft_study.text import several

RUNS = 10_000  # the most that a study may have
_NAME = re.compile(r"\w[\w .+-]*")  # of a study: no character that a shell, a pattern or HTML interprets
_LONGEST = 200  # characters of a run's name: it is a folder's, and file systems allow 255 bytes
_FAULTS = 20  # of a file that its message names


def _known(metric: str) -> str:
    from peft_study.statistics.scores import METRICS  # imports numpy

    if metric not in METRICS:
        raise ValueError(unknown("metric", metric, METRICS))
    return metric


class Study(BaseModel):
    """A question and the matrix of variants that answers it, from `runs/<name>/study.yaml`.

    The values of a variant come from `defaults`, then from its strategy's entry in `strategies`, then from `matrix`,
    which is expanded to all combinations of its axes. Where strategies need different axes (their own learning rates,
    ranks that full fine-tuning lacks), `matrix` is a list of grids. Strategies are compared with `baseline` by
    `metric`; `margin`, in points (hundredths) of it, is the largest difference that does not matter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: Text
    title: Text
    question: Text
    authors: list[Text] = []
    baseline: Text = "full"
    metric: Annotated[Text, AfterValidator(_known)] = "accuracy"
    margin: Annotated[float, Field(gt=0, lt=100)] = 1.0
    defaults: dict[str, Any] = {}
    strategies: dict[str, dict[str, Any]] = {}
    matrix: list[dict[str, list[Any]]] = [{}]

    @field_validator("matrix", mode="before")
    @classmethod
    def _one_grid_is_allowed(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("matrix")
    @classmethod
    def _axes_have_values(cls, value: list[dict[str, list[Any]]]) -> list[dict[str, list[Any]]]:
        for axis, values in (axis for grid in value for axis in grid.items()):
            if not values:
                raise ValueError(f"the axis {axis!r} has no values; set at least one")
        if (count := sum(math.prod(map(len, grid.values())) for grid in value)) > RUNS:
            raise ValueError(f"it has {count:,} runs, at most {RUNS:,} are allowed; leave values out")
        return value

    @property
    def axes(self) -> list[str]:
        """The axes of all grids of the matrix."""
        return list(dict.fromkeys(axis for grid in self.matrix for axis in grid))

    @property
    def noun(self) -> str:
        """The name of the metric in a sentence."""
        from peft_study.statistics.scores import METRICS

        return METRICS[self.metric].noun

    @property
    def sweeps_rates(self) -> bool:
        """Whether the study compares learning rates rather than strategies."""
        return "learning_rate" in self.axes

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """run_id -> variant, in the order of the matrix. Raises `StudyError` listing every fault."""
        variants, faults = self.expand()
        if faults:
            raise _faulty(self.name, faults)
        return variants

    def expand(self) -> tuple[dict[str, Variant], list[str]]:
        """The valid variants of the matrix by run_id, and all faults."""
        faults: dict[str, None] = {}
        variants: dict[str, Variant] = {}
        points = [dict(zip(grid, values, strict=True)) for grid in self.matrix for values in product(*grid.values())]
        for point in points:
            strategy = str(point.get("strategy", self._default_strategy()))
            try:
                variant = Variant(**{**self.defaults, **self.strategies.get(strategy, {}), **point})
                if (run := variant.run_id(point)) in variants:
                    advice = "remove one, or make their values differ in letters or digits"
                    faults[f"matrix: two points have the run name {run}; {advice}"] = None
                variants[run] = variant
                faults |= dict.fromkeys(_idle(variant, point, self.strategies.get(strategy, {})))
            except ValidationError as error:
                place = "at the top level of the file, beside title"
                faults |= dict.fromkeys(describe(error, Variant, Study.model_fields, place))
        return variants, [*faults, *self._faults_of_names(), *_faults_of_test_sets(variants.values())]

    def _default_strategy(self) -> Any:
        """The strategy of variants whose grid has no axis `strategy`."""
        return self.defaults.get("strategy", Variant.model_fields["strategy"].default)

    def _faults_of_names(self) -> list[str]:
        """Faults between parts of the file, rather than within one variant."""
        used = [str(name) for grid in self.matrix for name in grid.get("strategy", [self._default_strategy()])]
        baseline = "baseline" if "baseline" in self.model_fields_set else "baseline (full unless you set it)"
        named = [*(("strategies", name) for name in self.strategies), (baseline, self.baseline)]
        strange = [(where, unknown("strategy", name, dict.fromkeys(used))) for where, name in named if name not in used]
        return [f"{where}: {fault} (those of the matrix)" for where, fault in strange]


def read_study(name: str) -> Study:
    """The validated study `name`. Raises one `StudyError` that lists every fault of its file."""
    file = paths.study_folder(name) / "study.yaml"
    if name not in paths.studies():
        raise StudyError(f"{unknown('study', name, paths.studies())}; a study is a file {file}")
    if not _NAME.fullmatch(name):
        raise StudyError(
            f"the study {name!r} cannot have that name: only letters, digits, spaces and . _ + - are allowed"
        )
    try:
        content = read_yaml(file)
    except (ValueError, OSError) as error:  # ValueError also: not UTF-8, or a date that does not exist
        raise StudyError(f"{file} is not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{file} is {type(content).__name__}; it must be a mapping with title, question and matrix")
    if "name" in content:
        raise StudyError(f"{file}: unknown key 'name'; a study is named by its folder")
    content = {key: value for key, value in content.items() if value is not None}  # an empty section is none
    try:
        study = Study.model_validate(content | {"name": name})
    except ValidationError as error:
        faults = describe(error, Study, Variant.model_fields, "in defaults") + _sound_part(content, error).expand()[1]
        raise _faulty(name, list(dict.fromkeys(faults))) from error
    if long := [run for run in study.variants if len(run) > _LONGEST]:  # reading them checks the whole matrix
        count = f"matrix: {len(long)} runs have names of more than {_LONGEST} characters ({long[0][:60]}...)"
        raise _faulty(name, [f"{count}; keep long values in defaults or strategies"])
    return study


def _faults_of_test_sets(variants: Iterable[Variant]) -> list[str]:
    """A fault for each field of `TESTED` with several values, which would make runs incomparable."""
    faults = []
    for field in TESTED:
        values = list(dict.fromkeys(quoted(getattr(variant, field)) for variant in variants))
        if len(values) > 1:
            advice = "the runs of a study share their test set; make a study of each"
            faults.append(f"{field} has {len(values)} values ({several(values, 3)}); {advice}")
    return faults


def _sound_part(content: dict[str, Any], error: ValidationError) -> Study:
    """The study without the entries named by `error`, to check the rest of the file."""
    faulty = {fault["loc"][0] for fault in error.errors()}
    sound = {key: value for key, value in content.items() if key not in faulty}
    strategies = dict.fromkeys([*sound.get("strategies", {}), sound.get("baseline", "full")])
    filler = {"name": "-", "title": "-", "question": "-", "matrix": {"strategy": list(strategies)}}
    return Study.model_validate(filler | sound)


def _faulty(name: str, faults: list[str]) -> StudyError:
    """One error for all faults of a study's file; the message lists the first of many."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults):,} faults"
    more = ["..."] * (len(faults) > _FAULTS)
    file = paths.study_folder(name) / "study.yaml"
    return StudyError("\n  ".join([f"{file} has {count}:", *faults[:_FAULTS], *more]))


def _idle(variant: Variant, axes: Iterable[str], own: Iterable[str]) -> list[str]:
    """A fault for each axis, and each field set for the variant's strategy, that the strategy ignores."""
    idle = [field for field in (*axes, *own) if not STRATEGIES[variant.strategy].heeds(field)]
    advice = "leave it out, or give it to the others in a grid of their own (matrix may be a list of grids)"
    return [f"the strategy {variant.strategy!r} ignores {field!r}; {advice}" for field in idle]
