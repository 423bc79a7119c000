"""Every strategy on an encoder, the way a run goes; and what a check reports of one that is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from peft_study import paths
from peft_study.__main__ import main
from peft_study.analysis.strategy_checks import check_all, faults
from peft_study.engine import steps
from peft_study.report.strategy_tables import strategy_checks
from peft_study.strategies.encoders import Parts
from peft_study.strategies.table import STRATEGIES, Strategy

APPENDIX = paths.NOTEBOOKS / "A_every_strategy.ipynb"
FAMILIES = {  # each strategy on a family in turn, the appendix on DistilBERT
    "bert": list(STRATEGIES)[::2],
    "roberta": list(STRATEGIES)[1::2],
    "distilbert": [name for name, entry in STRATEGIES.items() if "distilbert" in entry.impossible],
}
PAIRS = [(family, name) for family, names in FAMILIES.items() for name in names]
FAR = {  # vectors of words, random spectra and vectors, a weight without its smallest singular values
    "prompt", "p-tuning", "prefix", "cartridge", "fourierft", "c3a", "vblora", "unilora", "kasa",
}  # fmt: skip
Rows = dict[str, dict[str, dict[str, Any]]]
Register = Callable[..., str]
SOUND = {
    "strategy": "lora", "loss_before": 0.7, "loss_after": 0.5, "reloaded": 0.0, "merged": 1e-7, "unmerged": "",
    "unchanged": 0, "head": 66, "trainable_head": 66, "trainable": 2114,
}  # fmt: skip


@pytest.fixture(scope="session")
def checked(families: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The checks of `FAMILIES` on tiny models, with full fine-tuning in each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_STUDY_CACHE", str(tmp_path_factory.mktemp("checked") / "cache"))
        return {
            family: {row["strategy"]: row for row in check_all(families[family], names)}
            for family, names in FAMILIES.items()
        }


@pytest.mark.slow
@pytest.mark.parametrize(("family", "strategy"), PAIRS)
def test_a_strategy_works_or_gives_the_reason_and_what_would_work(checked: Rows, family: str, strategy: str) -> None:
    row, full = checked[family][strategy], checked[family]["full"]
    if (reason := STRATEGIES[strategy].impossible.get(family)) is not None:
        assert "start" not in row and row["fault"].startswith(f"strategy = {strategy!r} does not work on ")
        assert row["fault"].endswith(reason)
        return
    assert row["fault"] == "" and row["loss_after"] < row["loss_before"] < 1
    assert row["reloaded"] == 0, "a saved model is loaded bit for bit"
    assert (row["merged"] is not None) == STRATEGIES[strategy].merges and (row["merged"] or 0) <= 1e-5
    assert row["trainable_head"] == row["head"] == full["head"] > 0
    assert (row["start"] > 1e-5) == (strategy in FAR), "training starts from the pretrained network"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Adds an entry to STRATEGIES for the time of a test; returns its name."""

    def add(**changes: Any) -> str:
        fields = {"trains": lambda name, blocks: "layer.0." in name} | changes
        monkeypatch.setitem(STRATEGIES, "mine", Strategy("Mine", "what I like", 1e-3, **fields))
        return "mine"

    return add


def fails(name: str, parts: Parts) -> bool:
    raise ZeroDivisionError("no <such> rank")


@pytest.mark.parametrize(
    ("changes", "fault", "cells"),
    [
        ({}, "", ["yes", "0", "no adapter"]),
        ({"trains": fails}, "ZeroDivisionError: no <such> rank", ["no", "–", "–"]),
        ({"trains": lambda name, parts: "wrod" in name}, "has no parameter that it would train", ["no", "–", "–"]),
    ],
)
def test_a_strategy_of_ones_own_is_checked_like_the_others_and_does_not_hide_them(
    tiny: dict[str, Path], register: Register, changes: dict[str, Any], fault: str, cells: list[str]
) -> None:
    rows = list(check_all(str(tiny["bert"]), [register(**changes), "head"]))
    assert [row["strategy"] for row in rows] == ["full", "mine", "head"]
    assert rows[0]["fault"] == rows[2]["fault"] == "" and (fault in rows[1]["fault"] if fault else not rows[1]["fault"])
    table = strategy_checks(rows)
    assert table.loc["Mine", ["works", "start", "merges"]].tolist() == cells
    assert table.loc[STRATEGIES["full"].label, "step"] == "1.00"


@pytest.mark.parametrize("changes", [{}, {"trains": None, "adapter": STRATEGIES["prompt"].adapter}])
def test_a_strategy_that_cannot_merge_as_it_claims_is_detected(
    tiny: dict[str, Path], register: Register, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(Strategy, "merges", True)
    row = list(check_all(str(tiny["bert"]), [register(**changes)]))[-1]
    assert row["fault"].startswith("it should merge, but ") and "Error: " in row["fault"]
    assert strategy_checks([row]).loc["Mine", "merges"] == "fails"


def test_an_encoder_published_in_half_precision_is_loaded_as_it_was_trained(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModel

    folder = Path(shutil.copytree(tiny["bert"], tmp_path / "half"))
    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert [row["fault"] for row in check_all(str(folder), ["lora"])] == ["", ""]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"loss_after": float("nan")}, "the loss does not fall: 0.7000 before training, nan after"),
        ({"unchanged": 3}, "3 of the tensors that should train did not change"),
        ({"trainable_head": 0}, "the head does not train"),
        ({"reloaded": 1e-5}, "loaded again, its logits differ by 1e-05"),
        ({"merged": float("nan")}, "merged, its logits differ by nan"),
    ],
)
def test_each_check_can_fail(change: dict[str, Any], fault: str) -> None:
    assert faults(SOUND) == [] and faults(SOUND | change) == [fault]


@pytest.mark.slow
def test_the_appendix_checks_strategies_on_a_model_of_ones_own(tiny: dict[str, Path], tmp_path: Path) -> None:
    asked = ["full", "last2", "lora", "ia3", "lily", "beft", "prompt", "prefix"]
    parameters = {"model": str(tiny["distilbert"]), "strategies": asked, "model_types": ["fnet"]}
    steps.execute(APPENDIX, tmp_path / "every.ipynb", parameters)
    cells = nbformat.read(tmp_path / "every.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    text = "\n".join(
        output.get("text", "")
        + "".join(output.get("data", {}).get(kind, "") for kind in ("text/html", "text/markdown"))
        for output in outputs
    )
    for name in asked:
        entry = STRATEGIES[name]
        assert f"<th>{entry.label}</th>" in text and f"`{name}`" in text and entry.citation in text
    assert "- lora on fnet: " in text and "full on fnet" not in text
    assert "**7 of 8 strategies work" in text and "distilbert" in STRATEGIES["prefix"].impossible


def test_the_command_prints_a_line_per_strategy_and_refuses_unknown_ones_first(
    tiny: dict[str, Path], register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register(trains=fails)
    assert main(["strategies", "head", "mine", "--model", str(tiny["bert"])]) == 0
    title, *lines, hint = capsys.readouterr().out.splitlines()
    rows = [line.split(maxsplit=4) for line in lines]
    assert title.split() == ["strategy", "works", "trainable", "seconds"]
    assert [row[:2] for row in rows] == [["full", "yes"], ["head", "yes"], ["mine", "no"]]
    assert rows[1][2] == "66" and rows[2][2] == "–" and rows[2][4] == "ZeroDivisionError: no <such> rank"
    assert "copy runs/rates" in hint
    with pytest.raises(SystemExit):
        main(["strategies", "--help"])
    assert "\n  mine" in (listed := capsys.readouterr().out) and "LoRA (query, value)" in listed
    assert main(["strategies", "loraa"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: strategies: unknown strategy 'loraa'; did you mean 'lora'?")
