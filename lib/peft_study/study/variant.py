"""One run: its fields, their defaults and checks, and its name.

Validation on construction reports typos, wrong types and impossible values in one message before anything starts.
"""

import re
from collections.abc import Iterable, MutableMapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from peft_study.errors import StudyError, quoted, unknown
from peft_study.strategies.table import STRATEGIES

Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]

# Fields that determine the test set: a study has one value of each.
TESTED = (
    "dataset", "dataset_config", "train_split", "test_split", "encoding", "delimiter", "text_column", "label_column",
    "label_names", "test_size", "data_seed", "ood_dataset", "ood_dataset_config", "ood_split", "ood_size",
)  # fmt: skip
_PLAIN = (str, int, float, bool, list, dict, type(None))  # what papermill can inject
_CHECKED = "_parameters_are_checked"  # in the namespace of a notebook


def _known(strategy: str) -> str:
    if strategy not in STRATEGIES:
        raise ValueError(unknown("strategy", strategy, STRATEGIES))
    return strategy


def _codec(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ValueError(
            "it is not an encoding that Python knows; use utf-8, utf-16, cp1252, latin-1, ... or leave it out"
        ) from error
    return encoding


def _columns(names: Any) -> str | list[str]:
    pair = isinstance(names, list) and len(names) == 2 and names[0] != names[1]
    if not all(name and isinstance(name, str) for name in (names if pair else [names])):
        raise ValueError("name a column, or two different columns of a pair as a list: [premise, hypothesis]")
    return names


def _separates(delimiter: str) -> str:
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError("a delimiter is one character, such as ',' or ';' or \"\\t\" (in double quotes)")
    return delimiter


class Variant(BaseModel):
    """A run: every choice that its result depends on.

    `model`, `dataset` and `ood_dataset` are `bundled:NAME`, a folder, or a hub name with an optional `@revision`; a
    dataset may also be a file. `dataset_config` is the configuration of a dataset that has several. Budgets are drawn
    from `train_split`, test texts from `test_split` (None: `test`); where there is no such split, or both are the
    same, `test_size` texts are held out of the training split. `encoding` and `delimiter` describe text files; None
    detects them. `text_column` is one column, or the two of a pair of texts. `label_names` name the classes in order;
    None takes the dataset's names. `keep_head` starts from the model's own classification head, which must have these
    classes; otherwise the head is new.
    Training takes `max_steps` optimizer steps, or where that is None as many as `epochs` passes over the texts give.
    With `class_weights` balanced, the training loss weights each text by n / (classes · n of its class), n counted in
    the training part; the validation loss is unweighted. Such a model's log-odds are shifted towards rare classes: its
    probabilities are not frequencies, and a temperature does not undo that.
    `precision` auto is bf16 where the hardware multiplies it, else fp32; fp16, with scaled losses, is for GPUs without
    bf16. The last checkpoint is tested, unless `checkpoint` asks for the one with the lowest validation loss.
    With `deterministic` two runs on one GPU give the same bits, more slowly; on a CPU they do in any case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    model: Text = "bundled:all-MiniLM-L6-v2"
    dataset: Text = "bundled:imdb"
    dataset_config: Text | None = None
    train_split: Text = "train"
    test_split: Text | None = None
    encoding: Annotated[Text, AfterValidator(_codec)] | None = None
    delimiter: Annotated[str, AfterValidator(_separates)] | None = None
    ood_dataset: Text | None = "bundled:rotten-tomatoes"
    ood_dataset_config: Text | None = None
    ood_split: Text | None = None
    text_column: Annotated[str | list[str], PlainValidator(_columns)] = "text"
    label_column: Text = "label"
    label_names: Annotated[list[Text], Field(min_length=2)] | None = None
    keep_head: bool = False
    strategy: Annotated[Text, AfterValidator(_known)] = "lora"
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
    learning_rate: Rate | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    class_weights: Literal["balanced"] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    evaluations: Annotated[int, Field(ge=0)] = 4
    checkpoint: Literal["best", "last"] = "last"
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
        """No out-of-domain texts for another dataset than the default one, unless they are named."""
        fields = cls.model_fields
        if isinstance(values, dict) and values.get("dataset", fields["dataset"].default) != fields["dataset"].default:
            return {"ood_dataset": None} | values
        return values

    @model_validator(mode="after")
    def _fields_agree(self) -> "Variant":
        """Refuse incompatible values."""
        strategy = STRATEGIES[self.strategy]
        if self.label_names and len(set(self.label_names)) < len(self.label_names):
            raise ValueError(f"label_names = {self.label_names}: a class is named twice; names must be distinct")
        for name in ("peft", "target_modules"):
            if getattr(self, name) and not strategy.heeds(name):
                raise ValueError(f"{name}: the strategy {self.strategy!r} has no adapter that reads it; leave it out")
        for name in ("ood_dataset_config", "ood_split"):
            if getattr(self, name) and self.ood_dataset is None:
                raise ValueError(f"{name} = {getattr(self, name)!r}: there is no ood_dataset; leave it out")
        if self.checkpoint == "best" and not (self.validation_fraction and self.evaluations):
            raise ValueError("checkpoint = 'best' needs validation_fraction and evaluations above 0; or take 'last'")
        if self.resume and strategy.unsaved:
            raise ValueError(f"resume: checkpoints of {self.strategy!r} lack {strategy.unsaved}; set resume to false")
        if self.precision == "fp16" and self.strategy == "adalora":  # it ranks by gradients, of which fp16 drops some
            raise ValueError("precision = 'fp16' does not work with 'adalora'; take auto, bf16 or fp32")
        if self.max_steps is not None and self.epochs != type(self).model_fields["epochs"].default:
            both = f"max_steps = {self.max_steps} and epochs = {self.epochs:g}"
            raise ValueError(f"{both} both set the length of training; leave one out")
        return self

    @classmethod
    def from_parameters(cls, namespace: MutableMapping[str, Any]) -> "Variant":
        """The variant that the parameters of 02 describe: call it with `globals()`, right after their cell.

        Beside the fields of a variant, `folder` is a parameter. Raises one `StudyError` that lists every fault.
        """
        require_parameters(namespace, *cls.model_fields, "folder")
        try:
            return cls(**{name: namespace[name] for name in cls.model_fields if name in namespace})
        except ValidationError as error:
            raise StudyError("\n  ".join(["the parameters have faults:", *describe(error, cls)])) from error

    @property
    def text_columns(self) -> list[str]:
        """The column of the texts, or the two columns of pairs."""
        return [self.text_column] if isinstance(self.text_column, str) else self.text_column

    @property
    def rate(self) -> float:
        """The peak learning rate: the variant's, or else the strategy's default."""
        return self.learning_rate if self.learning_rate is not None else STRATEGIES[self.strategy].learning_rate

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Field -> (this variant's value, the default), for the fields that differ from the default."""
        changed = self.model_dump(exclude_defaults=True)
        return {name: (value, type(self).model_fields[name].default) for name, value in changed.items()}

    def run_id(self, axes: Iterable[str] = ()) -> str:
        """The name of the run: strategy, size and seed, then the study's other `axes` in the order of the fields."""
        extra = [name for name in type(self).model_fields if name in set(axes) - {"strategy", "train_size", "seed"}]
        parts = [self.strategy, f"n{self.train_size:05d}", f"s{self.seed}"]
        return "-".join(parts + [name + _slug(getattr(self, name)) for name in extra])


def require_parameters(namespace: MutableMapping[str, Any], *names: str) -> None:
    """Refuse parameters of the running notebook that are not among `names`; papermill only warns of them.

    Call it with `globals()` in the first cell after the parameters, when every public value is a parameter. After it
    has passed, it refuses nothing, since later cells define values of their own. Raises a `StudyError` that lists every
    unknown name, and deletes these names, so that the corrected cell can run again.
    """
    if namespace.setdefault(_CHECKED, False):
        return
    public = [name for name, value in namespace.items() if not name.startswith("_") and type(value) in _PLAIN]
    if strange := [name for name in public if name not in {*names, "In", "Out"}]:
        for name in strange:
            del namespace[name]
        raise StudyError("\n  ".join(unknown("parameter", name, names) for name in strange))
    namespace[_CHECKED] = True


def describe(
    error: ValidationError, model: type[BaseModel], elsewhere: Iterable[str] = (), place: str = ""
) -> list[str]:
    """One line for each fault of a pydantic `error`: the field, the value, what is allowed.

    The keys `elsewhere` belong in another `place`.
    """
    advice = {"string_type": "; put it in quotes", "literal_error": ", or leave it out"}
    lines = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if field in elsewhere:
            lines.append(f"{field} belongs {place}")
        elif fault["type"] == "extra_forbidden":
            lines.append(unknown("key", field, model.model_fields))
        elif fault["type"] == "missing":
            lines.append(f"{field} is missing")
        elif not field:
            lines.append(message)
        else:
            remedy = advice.get(fault["type"], "")
            lines.append(f"{field} = {quoted(fault['input'])}: {message[0].lower()}{message[1:]}{remedy}")
    return lines


def _slug(value: Any) -> str:
    """A value as a part of a folder's name."""
    if isinstance(value, dict):
        return "_".join(name + _slug(setting) for name, setting in value.items())
    text = format(value, "g") if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.+]+", "_", text)
