"""What only models and data can tell of a study is refused before anything trains, all of it in one error."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_folders import reviews, save_model, save_reviews

from peft_study.engine.check import check
from peft_study.errors import StudyError
from peft_study.study.variant import Variant

Make = Callable[..., Variant]


def test_every_fault_that_only_models_and_data_can_tell_is_named_once_in_one_error(variant: Make) -> None:
    asked: dict[str, dict[str, Any]] = {
        "there is no folder /no/model": {"model": "/no/model"},
        "max_length = 65: .* reads at most 64 tokens": {"max_length": 65},
        "train_size = 5000: the pool has 200 labelled reviews": {"train_size": 5000},
        "train_size = 4 .*leaves no review for validation": {"train_size": 4},
        "test_size = 61: there are only 60 reviews": {"test_size": 61},
        "text_column = 'txt'": {"text_column": "txt"},
        "there is no folder /no/reviews": {"dataset": "/no/reviews"},
        "unknown bundled dataset 'imbd'; did you mean 'imdb'": {"ood_dataset": "bundled:imbd"},
    }
    with pytest.raises(StudyError) as error:
        check([variant(), *(variant(**fields, seed=seed) for fields in asked.values() for seed in (1, 2))])
    head, *faults = str(error.value).splitlines()
    assert head == f"there are {len(asked)} faults:"
    for pattern, fault in zip(asked, faults, strict=True):
        assert re.search(pattern, fault)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"model_type": "t5"}', "model type 't5' is not supported; supported: distilbert, bert, roberta"),
        ('{"model_type": "bert"', r"config\.json is not readable as JSON"),
        ('{"model_type": "roberta", "max_position_embeddings": 514}', "at most 512 tokens"),  # less the padding's two
    ],
)
def test_the_configuration_of_a_model_is_heeded(variant: Make, tmp_path: Path, config: str, said: str) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "config.json").write_text(config)
    with pytest.raises(StudyError, match=said):
        check([variant(model=str(folder), max_length=513)])


def test_a_budget_that_leaves_out_a_class_is_refused_before_anything_trains(variant: Make, tmp_path: Path) -> None:
    rare = ["a", "b"] * 98 + ["c"] * 4
    folder = save_reviews(tmp_path / "rare", train=reviews(200).assign(label=rare))
    fields: dict[str, Any] = {"dataset": str(folder), "test_size": 20, "ood_dataset": None}
    check([variant(train_size=100, **fields)])
    with pytest.raises(StudyError, match="train_size = 20 leaves no review of 'c' to train on; raise it"):
        check([variant(train_size=20, **fields)])
