"""What a long study will take, said in a line before it starts: from real steps on random weights."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from peft_study import paths
from peft_study.engine import forecast
from peft_study.study.study import Study, read_study
from peft_study.study.variant import Variant
from peft_study.text import duration

COST = {"training": 1 / 32, "prediction": 0.01, "memory": 2e9, "trained": 1e6, "weights": 3e6}


@pytest.fixture
def imdb(monkeypatch: pytest.MonkeyPatch) -> Study:
    """The shipped study of the hub, whose model is not fetched, where every step of 32 reviews takes a second."""
    monkeypatch.delenv("PEFT_STUDY_HOME")
    monkeypatch.setattr(forecast, "measure", lambda variant: COST)
    return read_study("imdb")


def test_a_few_real_steps_of_a_long_study_are_measured_and_a_short_one_is_not_kept_waiting(
    make_study: Callable[..., Path], settings: dict[str, Any]
) -> None:
    make_study()
    study = read_study("tiny")
    assert forecast.forecast(study, list(study.variants), None, []) is None
    make_study(defaults=settings | {"epochs": 9000, "max_length": 48}, matrix={"strategy": ["full"], "seed": [1]})
    study = read_study("tiny")
    line = forecast.forecast(study, list(study.variants), None, [])
    assert line is not None and line.startswith("Study tiny, ") and "\n" not in line
    assert " hours, " in line or " minutes, " in line
    assert " of memory and 30" in line and " MB of disk, estimated from a few measured steps." in line


def test_a_budget_that_cannot_learn_is_said_beforehand_and_no_other(make_study: Callable[..., Path]) -> None:
    def note(**values: Any) -> str | None:
        matrix = {"strategy": ["full"], "seed": [1], "train_size": [400, 1000]}
        make_study(defaults={"batch_size": 8} | values, matrix=matrix)
        return forecast.too_few_steps(study := read_study("tiny"), list(study.variants))

    said = note()
    assert said and said.startswith(
        "note: 1 of 2 runs take 45 optimizer steps, and most strategies stay at chance below"
    )
    assert "take 12 to 29 optimizer steps" in str(note(gradient_accumulation=4))
    assert "2 of 2 runs take 40 optimizer steps" in str(note(max_steps=40))
    assert note(epochs=2) is None and note(max_steps=40, keep_head=True) is None


@pytest.mark.parametrize("name", ["quick", "rates", "methods", "imdb", "imdb-best"])
def test_the_shipped_studies_take_steps_enough(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("PEFT_STUDY_HOME")
    study = read_study(name)
    assert forecast.too_few_steps(study, list(study.variants)) is None


def test_the_time_follows_from_the_steps_and_the_reviews(imdb: Study, variant: Callable[..., Variant]) -> None:
    runs = ["full-n25000-s42"]
    trained = 25_000 * 0.9 * 3 / 32
    predicted = (imdb.variants[runs[0]].ood_size or forecast.WHOLE) + 25_000 + 3 * 2_500
    time = trained + 0.01 * predicted
    assert f"takes about {duration(time)}, 2 GB of memory" in forecast.describe(imdb, runs, 1)
    assert f"takes about {duration(time)}, 4 GB of memory" in forecast.describe(imdb, runs * 2, 2)
    assert f"takes about {duration(2 * time)}, 2 GB of memory" in forecast.describe(imdb, runs * 2, 1)
    assert forecast.reviews(variant(max_steps=50, epochs=1.0, batch_size=4, gradient_accumulation=2)) == 400


def test_each_kind_of_step_is_measured_once_and_over_a_day_on_a_cpu_suggests_another_way(
    imdb: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Mock(return_value=COST)
    monkeypatch.setattr(forecast, "measure", measure)
    assert "over a day" not in forecast.describe(imdb, list(imdb.variants), 1)
    measured = sorted(call.args[0].strategy for call in measure.call_args_list)
    assert measured == sorted({variant.strategy for variant in imdb.variants.values()})
    measure.return_value = COST | {"training": 2}
    said = forecast.describe(imdb, list(imdb.variants), 1)
    assert "over a day on a CPU: take a machine with a GPU, or ./run_all.sh quick" in said
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "over a day" not in forecast.describe(imdb, list(imdb.variants), 1)


@pytest.mark.parametrize(
    ("cores", "gpus", "together"), [(None, [], 4), (1, [], 1), (2, [], 2), (9, [], 6), (None, ["3", "5"], 2)]
)
def test_as_many_runs_go_side_by_side_as_snakemake_would_start_and_each_has_one_gpu(
    imdb: Study, monkeypatch: pytest.MonkeyPatch, cores: int | None, gpus: list[str], together: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    run = Mock(return_value=subprocess.CompletedProcess([], 0, "the line\n", ""))
    monkeypatch.setattr(forecast.subprocess, "run", run)
    runs = list(imdb.variants)[:6]
    assert len(runs) == 6 and forecast.forecast(imdb, runs, cores, gpus) == "the line"
    assert run.call_args.args[0] == [sys.executable, "-m", forecast.__name__, "imdb", str(together), *runs]
    assert run.call_args.kwargs["env"]["CUDA_VISIBLE_DEVICES"] == "".join(gpus[:1])
    fault = "Traceback\nOSError: owner/unknown is not there\nLook for it.\n"
    run.return_value = subprocess.CompletedProcess([], 1, "", fault)
    line = forecast.forecast(imdb, runs, cores, gpus)
    assert line == "The cost of study imdb could not be measured: OSError: owner/unknown is not there"


def test_the_forecast_is_no_reason_to_load_torch() -> None:
    code = "import sys; from peft_study.engine import driver; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.LIB).returncode == 0
