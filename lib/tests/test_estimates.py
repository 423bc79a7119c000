"""What a long study will take, told before it starts: from real steps on random weights, measured once."""

import json
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from made_folders import save_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from peft_study import paths
from peft_study.engine import driver, forecast, timings
from peft_study.engine.timings import Machine, Timing
from peft_study.errors import StudyError
from peft_study.study.study import Study, read_study
from peft_study.study.variant import Variant
from peft_study.text import duration, size

HOUR = 3600
TIMING = Timing(
    step_seconds=1.0, review_seconds=0.01, memory=2e9, trained=1_000_000, saved=1_000_000, weights=3_000_000
)
CPU = Machine(threads=1, together=2, gpus=[])


@pytest.fixture
def imdb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Study:
    """The shipped study of the hub, whose model is not fetched, where every step takes a second."""
    monkeypatch.delenv("PEFT_STUDY_HOME")
    monkeypatch.setattr(timings, "known", lambda kind: TIMING)
    return read_study("imdb")


def told(study: Study, machine: Machine = CPU) -> forecast.Forecast:
    """The forecast of a whole study."""
    found = forecast.forecast(study, list(study.variants), machine)
    assert found is not None
    return found


def test_a_few_real_steps_are_measured_once_for_each_kind(
    make_study: Callable[..., Path], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = settings | {"epochs": 4000, "max_length": 48}
    make_study(defaults=long, matrix={"strategy": ["full", "lora"], "train_size": [60, 100], "seed": [1, 2]})
    command = [sys.executable, "-m", "peft_study", "run", "tiny", "-n"]
    said = subprocess.run(command, cwd=paths.LIB, capture_output=True, text=True, check=True).stderr
    assert said.count("measuring a few steps of") == 2, "of each strategy, not of each run"
    lines = [line.split() for line in said.splitlines() if line.startswith("  full-") or line.startswith("  lora-")]
    assert [line[0] for line in lines] == list(read_study("tiny").variants)
    assert len(list((paths.cache() / "timings").glob("*.json"))) == 2

    weights = (Path(settings["model"]) / "model.safetensors").stat().st_size
    monkeypatch.setattr(timings, "measure", lambda *_: pytest.fail("measured again"))
    study = read_study("tiny")
    found = told(study)
    for run, (seconds, memory, kept) in found.runs.items():
        assert 10 < seconds < 100 * HOUR and 50e6 < memory < 4e9
        assert (kept > weights / 2) == run.startswith("full")


def test_the_time_follows_from_the_steps_and_the_reviews(imdb: Study) -> None:
    found = told(imdb)
    variant = imdb.variants["full-n25000-s42"]
    steps = 25_000 * 0.9 * 3 / 32
    other = (variant.ood_size or forecast.WHOLE) + 25_000 + 3 * 2_500
    assert found.runs["full-n25000-s42"][0] == pytest.approx(steps + other * 0.01)
    times = [seconds for seconds, *_ in found.runs.values()]
    assert found.seconds == pytest.approx(max(max(times), sum(times) / 2))
    assert told(imdb, replace(CPU, together=1)).seconds == pytest.approx(sum(times))
    assert told(imdb, replace(CPU, together=6)).seconds == pytest.approx(max(times))


def test_fixed_steps_take_as_long_as_they_are_many(variant: Callable[..., Variant]) -> None:
    fixed = variant(max_steps=50, epochs=1.0, batch_size=4, gradient_accumulation=2)
    assert forecast.reviews(fixed) == 400
    assert forecast.reviews(variant(epochs=2.0, validation_fraction=0.1)) == pytest.approx(180)


def test_a_kind_of_step_is_what_its_time_depends_on(variant: Callable[..., Variant]) -> None:
    config = timings.SHAPES["distilbert/distilbert-base-uncased"]

    def kind(threads: int = 1, gpus: tuple[str, ...] = (), shape: dict[str, Any] = config, **changes: Any) -> str:
        return timings.kind(variant(**changes), shape, Machine(threads, 1, list(gpus)))

    same = [kind(), kind(seed=7), kind(train_size=60), kind(learning_rate=1e-4), kind(shape=config | {"new": 1})]
    assert len(set(same)) == 1
    changes: list[dict[str, Any]] = [{"strategy": "full"}, {"max_length": 16}, {"batch_size": 4}, {"precision": "bf16"}]
    changes += [{"lora_r": 4}, {"gradient_accumulation": 2}, {"threads": 2}, {"gpus": ("0",)}]
    changes += [{"shape": config | {"n_layers": 12}}]
    assert len({same[0], *(kind(**change) for change in changes)}) == 1 + len(changes)
    assert kind(strategy="full", lora_r=4) == kind(strategy="full"), "full fine-tuning has no rank"


def test_the_shape_of_a_model_is_known_before_it_is_fetched(tmp_path: Path) -> None:
    for name, count in {
        "distilbert/distilbert-base-uncased@main": 66_955_010,
        "bundled:all-MiniLM-L6-v2": 22_713_986,
    }.items():
        config = timings.shape(name)
        assert config is not None
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**config))
        assert sum(parameter.numel() for parameter in model.parameters()) == count
    own = save_model(tmp_path / "own", "bert")
    assert timings.shape(str(own)) == json.loads((own / "config.json").read_text())
    (own / "config.json").write_text("{")
    assert timings.shape(str(own)) is None and timings.shape("owner/unknown") is None


def test_a_short_study_is_not_kept_waiting(make_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    make_study()
    monkeypatch.setattr(timings, "measure", lambda *_: pytest.fail("measured"))
    study = read_study("tiny")
    assert forecast.forecast(study, list(study.variants), CPU) is None


def test_a_long_study_of_an_unknown_model_says_so(
    make_study: Callable[..., Path], settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    make_study(defaults=settings | {"model": "owner/unknown", "epochs": 10_000})
    study = read_study("tiny")
    assert forecast.forecast(study, list(study.variants), CPU) is None
    assert "how long 'owner/unknown' takes can be told once it is fetched" in capsys.readouterr().err


def test_what_cannot_be_measured_is_one_clear_error(variant: Callable[..., Variant]) -> None:
    with pytest.raises(StudyError, match=r"a few steps of 'lora' could not be measured: .*gpt9"):
        timings.measure("kind", variant(), {"model_type": "gpt9"}, CPU)


def test_a_study_whose_steps_cannot_be_measured_is_not_refused(
    make_study: Callable[..., Path],
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_study(defaults=settings | {"epochs": 10_000})
    monkeypatch.setattr(timings, "shape", lambda _: {"model_type": "gpt9"})
    study = read_study("tiny")
    assert forecast.forecast(study, list(study.variants), CPU) is None
    assert "could not be measured" in capsys.readouterr().err


def test_steps_are_measured_on_one_gpu_as_a_run_has_it(
    variant: Callable[..., Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def run(*_: Any, env: Any = None, **__: Any) -> Any:
        seen.append(env["CUDA_VISIBLE_DEVICES"])
        return subprocess.CompletedProcess([], 0, json.dumps(vars(TIMING)), "")

    monkeypatch.setattr(timings.subprocess, "run", run)
    assert timings.measure("kind", variant(), {}, Machine(1, 2, ["3", "5"])) == TIMING
    assert seen == ["3"]


def test_over_a_day_on_a_cpu_suggests_the_quick_study_or_a_gpu(imdb: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(TIMING, step_seconds=60)
    monkeypatch.setattr(timings, "known", lambda kind: slow)
    said = forecast.told(told(imdb))
    assert "days" in said and "over a day on a CPU. ./run_all.sh quick asks the same question in minutes" in said
    on_gpu = forecast.told(told(imdb, Machine(1, 1, ["0"])))
    assert "over a day" not in on_gpu and "(1 GPU; one run at a time)" in on_gpu
    monkeypatch.setattr(timings, "known", lambda kind: TIMING)
    assert "over a day" not in forecast.told(told(imdb))


def test_too_little_memory_suggests_fewer_runs_at_once_and_smaller_batches(
    imdb: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("memory", "total")(3 * 10**9))
    assert "This machine has 3 GB of memory. --cores 1 takes less; so does a smaller batch_size" in forecast.told(
        told(imdb)
    )
    assert "of memory." not in forecast.told(told(imdb, replace(CPU, together=1)))


def test_the_disk_that_is_needed_is_told_and_required(imdb: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(imdb)
    assert found.disk == pytest.approx(6 * 1e6 + 2 * 2e6 + 3e6 + 300e6), "kept, checkpoints, fetched, the rest"
    assert f"{size(found.disk)} of disk" in forecast.told(found)
    resumes = Study(**imdb.model_dump() | {"defaults": imdb.defaults | {"resume": True}})
    assert told(resumes).disk - found.disk == pytest.approx(2 * (3 * 3 - 2) * 1e6), "three of them, with two moments"
    forecast.require_space(replace(found, temporary=0))
    with pytest.raises(StudyError, match=r"no space left in .*imdb: .* free, about 1e\+06 GB needed; free some"):
        forecast.require_space(replace(found, temporary=1e15))


@pytest.mark.parametrize(
    ("cores", "gpus", "together"), [(None, [], 4), (1, [], 1), (2, [], 2), (9, [], 6), (None, ["0", "1"], 2)]
)
def test_as_many_runs_go_side_by_side_as_snakemake_would_start(
    cores: int | None, gpus: list[str], together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 4, 5}, raising=False)
    assert forecast.machine(cores, gpus, 6) == Machine(1, together, gpus)


@pytest.mark.parametrize("options", [["--profile", "slurm"], ["--executor=slurm"], ["--config", "allow_missing=1"]])
def test_nothing_is_foretold_of_runs_that_go_elsewhere_or_are_left_out(
    make_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    make_study()
    monkeypatch.setattr(driver, "_foretell", lambda *_: pytest.fail("foretold"))
    monkeypatch.setattr(driver, "steps_left", lambda *_: "")
    driver.run("tiny", ["-n", *options])


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.5 seconds"), (300, "5 minutes"), (9000, "2.5 hours"), (400_000, "4.63 days")]
)
def test_a_time_is_told_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
