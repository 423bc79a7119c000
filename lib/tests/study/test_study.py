"""Variants and studies: what is refused, in one message, and how runs are named."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from peft_study import paths
from peft_study.errors import StudyError
from peft_study.study.study import Study, read_study
from peft_study.study.variant import Variant, describe, require_parameters

MATRIX: dict[str, list[Any]] = {"strategy": ["full", "lora"], "train_size": [100]}


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """Writes a study and returns the message with which it is refused; checks that it names the file."""

    def refuse(text: str | None = None, **content: Any) -> str:
        file = tmp_path / "home" / "runs" / "tiny" / "study.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = {"title": "Tiny", "question": "Does it run?", "matrix": MATRIX} | content
        file.write_text(text if text is not None else yaml.safe_dump(whole), encoding="utf-8")
        with pytest.raises(StudyError) as error:
            read_study("tiny")
        assert str(file) in str(error.value)
        return str(error.value)

    return refuse


def study(**content: Any) -> Study:
    """A study that names one strategy unless told otherwise."""
    return Study(**{"name": "s", "title": "t", "question": "q", "matrix": MATRIX} | content)


def faults(**fields: Any) -> str:
    """What is said of a variant with faulty fields."""
    with pytest.raises(ValidationError) as error:
        Variant(**fields)
    return "\n".join(describe(error.value, Variant))


# --- one variant


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"train_size": 0}, "train_size = 0: input should be greater than or equal to 1"),
        ({"train_size": 100.0}, "train_size = 100.0: input should be a valid integer"),
        ({"train_size": True}, "train_size = True: input should be a valid integer"),
        ({"epochs": "abc"}, "epochs = 'abc': input should be a valid number"),
        ({"epochs": float("inf")}, "epochs = inf: input should be a finite number"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: input should be greater than 0"),
        (
            {"max_steps": 9, "epochs": 2},
            "max_steps = 9 and epochs = 2 both set the length of training; leave one out",
        ),
        ({"dropout": 1.0}, "dropout = 1.0: input should be less than 1"),
        ({"truncation": "middle"}, "truncation = 'middle': input should be 'head', 'tail' or 'head+tail'"),
        ({"model": ""}, "model = ''"),
        ({"target_modules": ["query", 3]}, "target_modules.1 = 3: input should be a valid string"),
        ({"stratgy": "full"}, "unknown key 'stratgy'; did you mean 'strategy'?"),
        ({"strategy": "lroa"}, "strategy = 'lroa': unknown strategy 'lroa'; did you mean 'lora'?"),
        ({"checkpoint": "best", "evaluations": 0}, "checkpoint = 'best' needs validation_fraction"),
        ({"label_names": ["a", "a"]}, "label_names = ['a', 'a']: a class is named twice"),
        ({"strategy": "adalora", "resume": True}, "resume: checkpoints of 'adalora' lack"),
    ],
)
def test_an_impossible_value_is_refused_with_field_value_and_what_is_allowed(fields: dict[str, Any], said: str) -> None:
    assert said in faults(**fields)


def test_texts_of_another_kind_are_those_of_the_default_dataset_unless_they_are_named() -> None:
    assert Variant(dataset="bundled:imdb").ood_dataset == "bundled:rotten-tomatoes"
    assert Variant(dataset="data/desks.csv").ood_dataset is None
    assert Variant(dataset="data/desks.csv", ood_dataset="data/other.csv").ood_dataset == "data/other.csv"


def test_differences_are_the_fields_that_differ_from_the_default_and_the_rate_is_the_one_in_force() -> None:
    assert Variant().differences() == {}
    assert Variant(strategy="full").rate != Variant(strategy="lora").rate
    assert Variant(strategy="full", learning_rate=3e-5).rate == 3e-5
    assert Variant(seed=7, dropout=None, batch_size=8).differences() == {"seed": (7, 42), "dropout": (None, 0.0)}


@pytest.mark.parametrize(
    ("axes", "name"),
    [
        ([], "lora-n05000-s42"),
        (["learning_rate"], "lora-n05000-s42-learning_rate1e_05"),
        (["lora_r", "max_length"], "lora-n05000-s42-max_length128-lora_r16"),
        (["model"], "lora-n05000-s42-modelbundled_all_MiniLM_L6_v2"),
    ],
)
def test_a_run_is_named_after_strategy_size_seed_and_further_axes(axes: list[str], name: str) -> None:
    variant = Variant(strategy="lora", train_size=5000, lora_r=16, learning_rate=1e-5)
    assert variant.run_id(axes) == name


# --- the matrix


def test_a_matrix_may_be_several_grids_with_axes_of_their_own() -> None:
    grids = [
        {"strategy": ["full"], "learning_rate": [1e-5, 1e-4]},
        {"strategy": ["lora"], "learning_rate": [1e-3], "lora_r": [2, 8]},
    ]
    made = study(matrix=grids)
    assert made.axes == ["strategy", "learning_rate", "lora_r"] and made.sweeps_rates
    assert list(made.variants) == [
        "full-n01000-s42-learning_rate1e_05",
        "full-n01000-s42-learning_rate0.0001",
        "lora-n01000-s42-learning_rate0.001-lora_r2",
        "lora-n01000-s42-learning_rate0.001-lora_r8",
    ]
    assert not study().sweeps_rates


def test_defaults_yield_to_strategies_and_strategies_to_the_matrix() -> None:
    variants = study(
        defaults={"batch_size": 4, "epochs": 5, "seed": 1},
        strategies={"lora": {"epochs": 7, "seed": 2}},
        matrix=MATRIX | {"seed": [3]},
    ).variants
    full, lora = variants["full-n00100-s3"], variants["lora-n00100-s3"]
    assert (full.batch_size, full.epochs, full.seed) == (4, 5, 3)
    assert (lora.batch_size, lora.epochs, lora.seed) == (4, 7, 3)


# --- the file


def test_every_fault_of_a_file_is_in_one_message(refusal: Callable[..., str]) -> None:
    said = refusal(
        titel="Tiny",
        authors="Ada",
        margin="wide",
        baseline="ful",
        defaults={"epochs": "abc", "max_lenght": 64, "seed": True},
        strategies={"head": {"lora_r": 8}, "lora": {"lora_alpha": 0}},
        matrix={"strategy": ["full", "lora", "lroa"], "train_size": [0, -1, 100]},
    )
    for fault in (
        "unknown key 'titel'; did you mean 'title'?",
        "authors = 'Ada': input should be a valid list",
        "margin = 'wide': input should be a valid number",
        "unknown key 'max_lenght'; did you mean 'max_length'?",
        "epochs = 'abc': input should be a valid number",
        "seed = True: input should be a valid integer",
        "lora_alpha = 0: input should be greater than or equal to 1",
        "unknown strategy 'lroa'; did you mean 'lora'?",
        "train_size = 0: input",
        "train_size = -1: input",
        "strategies: unknown strategy 'head'",
        "baseline: unknown strategy 'ful'; did you mean 'full'?",
    ):
        assert said.count(fault) == 1, fault
    assert "has 12 faults" in said


@pytest.mark.parametrize("broken", [{"matrix": {"seed": []}}, {"strategies": {"lora": 5}}, {"defaults": 3}])
def test_a_broken_section_hides_no_fault_of_the_others(refusal: Callable[..., str], broken: dict[str, Any]) -> None:
    said = refusal(**{"defaults": {"epochs": "abc"}, "strategies": {"lora": {"lora_r": 0}}, "margin": 0} | broken)
    assert "margin = 0" in said
    assert ("epochs = 'abc'" in said) == ("defaults" not in broken)
    assert ("lora_r = 0" in said) == ("strategies" not in broken)
    assert "baseline" not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"matrix": {"strategy": []}}, "the axis 'strategy' has no values"),
        ({"matrix": MATRIX | {"seed": [1, 2, 1]}}, "matrix: two points have the run name full-n00100-s1; remove one"),
        ({"name": "mine"}, "unknown key 'name'; a study is named by its folder"),
        (
            {"matrix": MATRIX | {"model": ["a/b", "a_b"]}},
            "remove one, or make their values differ in letters or digits",
        ),
        ({"matrix": [1]}, "matrix.0 = 1: input should be a valid dictionary"),
        (
            {"matrix": {"strategy": ["lora"], "train_size": [100]}},
            "baseline (full unless you set it): unknown strategy 'full'",
        ),
        ({"defaults": {"metric": "auc"}}, "metric belongs at the top level of the file, beside title"),
        ({"class_weights": "balanced"}, "class_weights belongs in defaults"),
        ({"defaults": {"class_weights": True}}, "class_weights = True: input should be 'balanced', or leave it out"),
        ({"baseline": "head"}, "baseline: unknown strategy 'head'; allowed: full, lora (those of the matrix)"),
        (
            {"matrix": MATRIX | {"lora_r": [2, 8]}},
            "the strategy 'full' ignores 'lora_r'; leave it out, or give it to the others in a grid",
        ),
        (
            {"matrix": [MATRIX, MATRIX | {"strategy": ["lora"]}]},
            "matrix: two points have the run name lora-n00100-s42; remove one",
        ),
        ({"strategies": {"full": {"lora_r": 2}}}, "the strategy 'full' ignores 'lora_r'; leave it out"),
        ({"strategies": {"full": {"peft": {"r": 2}}}}, "peft: the strategy 'full' has no adapter that reads it"),
        (
            {"matrix": [MATRIX | {"strategy": ["full", "adalora"]}], "defaults": {"precision": "fp16"}},
            "precision = 'fp16' does not work with 'adalora'; take auto, bf16 or fp32",
        ),
        (
            {"matrix": [MATRIX | {"data_seed": [1, 2]}]},
            "data_seed has 2 values (1, 2); the runs of a study share their test set; make a study of each",
        ),
        ({"strategies": {"full": {"test_size": 7}}}, "test_size has 2 values (7, 1000)"),
        ({"defaults": {"encoding": "base64"}}, "encoding = 'base64': it is not an encoding that Python knows"),
        ({"defaults": {"delimiter": "::"}}, "delimiter = '::': a delimiter is one character"),
        ({"defaults": {"ood_dataset": None, "ood_split": "x"}}, "ood_split = 'x': there is no ood_dataset"),
        (
            {"defaults": {"label_names": [False, "b"]}},
            "label_names.0 = False: input should be a valid string; put it in",
        ),
    ],
)
def test_a_fault_of_a_study_is_named(refusal: Callable[..., str], content: dict[str, Any], said: str) -> None:
    assert said in refusal(**content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: [", "is not readable as YAML"),
        ("title: a\ntitle: b\n", "the key 'title' is given twice"),
        ("title: a\n1: b\n", "the key 1 is not a text; put it in quotes"),
        ("title: 2026-13-45\n", "is not readable as YAML: month must be in 1..12"),
        ("- title\n- question\n", "is list; it must be a mapping"),
        ("", "is NoneType; it must be a mapping"),
        ("question: q\nmatrix: {strategy: [full]}\n", "title is missing"),
    ],
)
def test_a_file_that_is_no_study_is_refused(refusal: Callable[..., str], text: str, said: str) -> None:
    assert said in refusal(text)


def test_a_rate_may_lack_its_dot_and_anchors_merge(make_study: Callable[..., Path]) -> None:
    (make_study() / "study.yaml").write_text(
        "title: t\nquestion: q\nmatrix: {strategy: [full, lora]}\ndefaults: {learning_rate: 5E-5}\n"
        "strategies:\n  full: &shared {epochs: 5, seed: 1}\n  lora:\n    <<: *shared\n    epochs: 6\n"
    )
    full, lora = read_study("tiny").variants.values()
    assert (full.epochs, full.seed, lora.epochs, lora.seed) == (5, 1, 6, 1)
    assert full.rate == lora.rate == 5e-5


def test_empty_sections_are_allowed(make_study: Callable[..., Path]) -> None:
    (make_study() / "study.yaml").write_text("title: t\nquestion: q\nbaseline: lora\ndefaults:\nstrategies:\nmatrix:\n")
    assert list(read_study("tiny").variants.values()) == [Variant()]


def test_an_unknown_study_is_refused_with_those_that_exist(make_study: Callable[..., Path]) -> None:
    make_study("first")
    make_study("second")
    with pytest.raises(StudyError, match=r"unknown study 'frist'; did you mean 'first'\? allowed: first, second"):
        read_study("frist")
    with pytest.raises(StudyError, match=r"unknown study '\.\./first'"):
        read_study("../first")


# --- the studies that ship


SHIPPED = sorted(file.parent.name for file in (paths.CHECKOUT / "runs").glob("*/study.yaml"))


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The home is the checkout."""
    monkeypatch.setenv("PEFT_STUDY_HOME", str(paths.CHECKOUT))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_study_is_sound(shipped: None, name: str) -> None:
    assert len(read_study(name).variants) > 1 and {"quick", "imdb"} <= set(SHIPPED)


def test_imdb_is_the_matrix_of_the_seed_study(shipped: None) -> None:
    variants = read_study("imdb").variants
    assert list(variants) == [f"{name}-n{size:05d}-s42" for name in ("full", "lora") for size in (5000, 10000, 25000)]
    for variant in variants.values():
        assert variant.model == "distilbert/distilbert-base-uncased"
        assert variant.dataset == "stanfordnlp/imdb"
        assert variant.rate == {"full": 5e-5, "lora": 1e-4}[variant.strategy]
        assert (variant.lora_r, variant.lora_alpha, variant.lora_dropout) == (8, 16, 0.2)
        assert (variant.max_length, variant.batch_size, variant.epochs, variant.seed) == (256, 32, 3, 42)
        assert (variant.truncation, variant.target_modules, variant.dropout) == ("head", None, None)


# --- the notebook's parameters


def namespace(**parameters: Any) -> dict[str, Any]:
    """The globals of a notebook after the cell of its parameters and the imports of the next one."""
    space: dict[str, Any] = {"__name__": "__main__", "_dh": [], "In": ["", "x"], "Out": {}, "exit": object()}
    exec(
        "from pathlib import Path\nfrom typing import Optional\nimport os\nstrategy: str = 'lora'\nseed: int = 42",
        space,
    )
    return space | parameters


def test_a_misspelt_parameter_is_refused_with_the_nearest_name_and_the_mended_cell_runs() -> None:
    space = namespace(stratgy="full", epoch=3)
    with pytest.raises(StudyError, match=r"(?s)'stratgy'; did you mean 'strategy'.*'epoch'; did you mean 'epochs'"):
        Variant.from_parameters(space)
    assert Variant.from_parameters(space) == Variant()
    with pytest.raises(StudyError, match=r"unknown parameter 'study_name'; did you mean 'study'\? allowed: study$"):
        require_parameters({"study": "quick", "study_name": "x"}, "study")


def test_values_that_later_cells_defined_are_no_parameters_when_the_first_cell_runs_again() -> None:
    space = namespace()
    Variant.from_parameters(space)
    space |= {"names": ["a"], "seed": 7}
    assert Variant.from_parameters(space) == Variant(seed=7)


# --- instant


def test_reading_a_study_loads_no_large_library() -> None:
    large = "{'torch', 'transformers', 'peft', 'datasets', 'pandas', 'sklearn', 'matplotlib'}"
    program = f"import sys, peft_study.study.study; assert not {large} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
