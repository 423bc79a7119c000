"""What only models and data can tell of a study is refused before anything trains, all of it in one error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_folders import reviews, save_model, save_reviews

from peft_study.engine.check import check
from peft_study.errors import StudyError
from peft_study.study.variant import Variant

Make = Callable[..., Variant]


def test_every_fault_of_models_and_data_is_named_in_one_error(variant: Make, tmp_path: Path) -> None:
    absent, other = str(tmp_path / "no model"), str(tmp_path / "no reviews")
    asked = [variant(model=absent, seed=seed) for seed in (1, 2)]
    asked += [variant(dataset=other), variant(train_size=5000), variant(max_length=4096), variant()]
    with pytest.raises(StudyError) as error:
        check(asked)
    head, *faults = str(error.value).splitlines()
    assert head == "there are 4 faults:" and len(faults) == 4
    for part, fault in zip((absent, other, "5000", "max_length = 4096"), faults, strict=True):
        assert part in fault


def test_sound_variants_pass_the_check(variant: Make) -> None:
    check([variant(seed=seed, train_size=size) for seed in (1, 2) for size in (60, 200)])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_length": 65}, "max_length = 65: .* reads at most 64 tokens"),
        ({"train_size": 201}, "train_size = 201: the pool has 200 labelled reviews"),
        ({"test_size": 61}, "test_size = 61: there are only 60 reviews"),
        ({"ood_size": 41}, "ood_size = 41: there are only 40 reviews"),
        ({"train_size": 4}, "leaves no review for validation"),
        ({"text_column": "txt"}, "text_column = 'txt'"),
        ({"model": "./nowhere"}, "there is no folder .*nowhere"),
        ({"dataset": "/nowhere/at/all"}, "there is no folder /nowhere/at/all"),
        ({"ood_dataset": "bundled:imbd"}, "unknown bundled dataset 'imbd'; did you mean 'imdb'"),
    ],
)
def test_the_check_refuses_what_only_model_and_data_can_tell(variant: Make, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        check([variant(), variant(**fields)])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"model_type": "t5"}', "model type 't5' is not supported; supported: distilbert, bert, roberta"),
        ("{}", "model type '' is not supported"),
        ('{"model_type": "bert"', r"config\.json is not readable as JSON"),
    ],
)
def test_the_check_refuses_a_model_of_another_kind(variant: Make, tmp_path: Path, config: str, said: str) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "config.json").write_text(config)
    with pytest.raises(StudyError, match=said):
        check([variant(model=str(folder))])


def test_roberta_counts_its_positions_from_behind_the_padding(variant: Make, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "config.json").write_text(
        '{"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1, "vocab_size": 9}'
    )
    check([variant(model=str(folder), max_length=512)])
    with pytest.raises(StudyError, match="reads at most 512 tokens"):
        check([variant(model=str(folder), max_length=513)])


def test_a_budget_that_leaves_out_a_class_is_refused_before_anything_trains(variant: Make, tmp_path: Path) -> None:
    rare = ["a", "b"] * 98 + ["c"] * 4
    folder = save_reviews(tmp_path / "rare", train=reviews(200).assign(label=rare))
    fields: dict[str, Any] = {"dataset": str(folder), "test_size": 20, "ood_dataset": None}
    check([variant(train_size=100, **fields)])
    with pytest.raises(StudyError, match="train_size = 20 leaves no review of 'c' to train on; raise it"):
        check([variant(train_size=20, **fields)])
