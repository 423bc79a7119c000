"""The benchmark measures both ways at the same work, and the obvious way is what it is said to be."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import obvious
from benchmarks.__main__ import main
from peft_study import paths
from peft_study.data import reviews as data
from peft_study.report import speed_claims as speed
from peft_study.study.variant import Variant

Make = Callable[..., Variant]


@pytest.fixture
def tiny_options(tiny: dict[str, Path]) -> list[str]:
    sizes = [
        "--batch-size",
        "4",
        "--max-length",
        "32",
        "--steps",
        "2",
        "--reviews",
        "12",
        "--rounds",
        "2",
        "--train-size",
        "100",
    ]
    return ["--model", str(tiny["bert"]), "--dataset", str(tiny["reviews"]), *sizes]


@pytest.mark.slow
def test_both_ways_are_measured_at_training_and_inference_and_compared_round_by_round(
    tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "speed.json"
    assert main([*tiny_options, "--strategies", "full", "lora", "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    found = {(row["task"], row["strategy"], row["way"]): row for row in told["speed"]}
    tasks, strategies, ways = ("training", "inference"), ("full", "lora"), ("obvious", "ours")
    assert set(found) == {(task, name, way) for task in tasks for name in strategies for way in ways}
    for (task, _, _), row in found.items():
        assert row["tokens/s"] > row["reviews/s"] > 0 and row["GFLOP/s"] > 0
        assert (row["peak memory (GiB)"] or 0) > 0.1 or task == "inference"
    padding = {key: float(row["padding"].rstrip("%")) for key, row in found.items()}
    assert all(padding["training", name, "ours"] < padding["training", name, "obvious"] for name in strategies)
    ratios = [row for row in told["ratios"] if row["ratio"].startswith("ours")]
    assert len(ratios) == 4 and all(0 < row["least"] <= row["median"] <= row["most"] for row in told["ratios"])
    assert [row["strategy"] for row in told["ratios"] if "full's" in row["ratio"]] == ["lora", "lora"]
    assert "reviews/s" in capsys.readouterr().out
    assert len(re.findall(r"\d\.\d \[\d+\.\d, \d+\.\d\] times", speed.said(told))) == 4  # and the report can quote it


def test_a_report_quotes_what_was_measured_and_says_nothing_where_nothing_was(tmp_path: Path) -> None:
    assert speed.said(speed.load_speed()) == ""
    paths.speed().parent.mkdir(parents=True)
    for content in ("", "[]", '{"speed": []}'):
        paths.speed().write_text(content)
        assert speed.said(speed.load_speed()) == ""
    row = {"task": "training", "strategy": "lora", "median": 2.04, "least": 1.9, "most": 2.2}
    asked = {"device": "CPU (2 cores)", "model": "tiny", "max_length": 32, "batch_size": 4, "rounds": 5}
    ours = {"task": "training", "strategy": "lora", "way": "ours", "of peak": "61% bf16"}
    ratios = [row | {"task": task, "ratio": speed.RATIO} for task in ("training", "inference")]
    paths.speed().write_text(json.dumps({"machine": asked, "speed": [ours], "ratios": ratios}))
    said = speed.said(speed.load_speed())
    assert "trains 2.0 [1.9, 2.2] times (LoRA (query, value))" in said and "61% bf16 (LoRA" in said


def test_the_obvious_way_pads_to_the_window_and_evaluates_the_whole_test_set_twice_an_epoch(
    variant: Make, tmp_path: Path
) -> None:
    asked = variant(strategy="lora", epochs=2.0)
    corpus = data.load_corpus(asked)
    train, _ = data.budget(corpus, asked)
    rows, tests = (obvious.tokenize(table["text"], table["label"], asked) for table in (train, corpus.test))
    assert {len(row["input_ids"]) for row in [*rows, *tests]} == {asked.max_length}
    made = obvious.trainer(obvious.build(asked), asked, str(tmp_path), rows, tests)
    made.train()
    assert len(made.eval_dataset) == len(corpus.test)
    assert sum("eval_accuracy" in entry for entry in made.state.log_history) == 4
