"""The READMEs: their paths exist, their commands are known, and the files and fields that they list are written."""

import json
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from made_folders import reviews
from made_runs import REAL_RUNS

from peft_study import paths
from peft_study.__main__ import main
from peft_study.data.reviews import load_corpus
from peft_study.engine.check import check
from peft_study.strategies.table import STRATEGIES
from peft_study.study.study import read_study

FILES = [paths.CHECKOUT / name for name in ("README.md", "runs/README.md", "report/README.md")]
README, RUNS, REPORT = (file.read_text(encoding="utf-8") for file in FILES)
STUDIES = sorted(path.parent.name for path in (paths.CHECKOUT / "runs").glob("*/study.yaml"))
OTHER = "other_checkpoint_preds_and_labels.npz"
COMMANDS = re.findall(r"(?:^|`)(\./run_all\.sh[^`#\n]*)", README, re.MULTILINE)


def fenced(language: str) -> list[str]:
    """The blocks of README.md in a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)


def rows(text: str) -> dict[str, str]:
    """The tables of `text`: what their second cells say, by each name in backticks in the first, or by its text."""
    cells = [line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| ")]
    return {name: second for first, second in cells for name in re.findall(r"`([^`]+)`", first) or [first]}


def test_every_path_that_a_readme_names_exists() -> None:
    computed = r"report/(?!readme/)\w+/|runs/scratch\b"
    for file, text in zip(FILES, (README, RUNS, REPORT), strict=True):
        links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:|#", link)]
        named = re.findall(r"`(?:python )?((?:lib|notebooks|runs|report)/[\w./-]+)`", text)
        named = [paths.CHECKOUT / path for path in named if not re.match(computed, path)]
        assert [path for path in [*(file.parent / link for link in links), *named] if not path.exists()] == []


def test_every_command_of_the_readme_is_one_that_the_script_knows_and_every_study_is_shown() -> None:
    usage = subprocess.run([paths.CHECKOUT / "run_all.sh", "--help"], capture_output=True, text=True, check=True).stdout
    own = re.findall(r"^# runs/(\w+)/study\.yaml", "".join(fenced("yaml")))
    known = {"", *STUDIES, *own, *re.findall(r"run_all\.sh (\w+)\b", usage)}
    for name, *options in ((command.split()[1:] or [""]) for command in COMMANDS):
        assert name in known and all(word in usage for word in options if word.startswith("-")), (name, options)
    assert {"", "test", "lab", *STUDIES} - {"quick"} <= {(command.split()[1:] or [""])[0] for command in COMMANDS}


def test_the_study_of_methods_runs_every_strategy_and_the_readme_counts_them() -> None:
    study = yaml.safe_load((paths.CHECKOUT / "runs" / "methods" / "study.yaml").read_text(encoding="utf-8"))
    assert study["matrix"]["strategy"] == list(STRATEGIES)
    assert f"methods        # {len(STRATEGIES)} strategies side by side" in README


def test_the_code_and_the_table_of_the_readme_are_labelled(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,), (table,) = fenced("python"), fenced("csv")
    (run,) = re.findall(r'find_run\("([^"]+)"\)', block)
    assert f"./run_all.sh label {run} texts.csv" in COMMANDS
    (tmp_path / "runs" / run).parent.mkdir(parents=True)
    (tmp_path / "runs" / run).symlink_to(finished / "lora-n00060-s1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PEFT_STUDY_HOME", str(tmp_path))
    space: dict[str, Any] = {}
    exec(block, space)
    assert set(space["table"]["predicted_label"]) <= {"negative", "positive"}
    Path("texts.csv").write_text(textwrap.dedent(table))
    assert main(["label", run, "texts.csv"]) == 0
    labelled = pd.read_csv("texts.labelled.csv")
    assert set(re.findall(r"`(predicted_label|probability_\w+|truncated)`", README)) == set(labelled) - {"id", "text"}


def test_the_study_of_ones_own_texts_is_ten_lines_that_are_accepted(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = fenced("yaml")[0]
    assert len(block.splitlines()) <= 10
    file = tmp_path / block.split()[1]
    study = yaml.safe_load(block)
    study["defaults"]["model"] = str(tiny["bert"])  # the bundled one is not at hand in every test
    table = reviews(1600).assign(desk=["sales", "repairs", "accounts", "press"] * 400)
    for path in (file, table_file := tmp_path / study["defaults"]["dataset"]):
        path.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(study))
    table.rename(columns={"text": "message"}).drop(columns="label").to_csv(table_file, index=False)
    monkeypatch.setenv("PEFT_STUDY_HOME", str(tmp_path))
    variants = [variant.model_copy(update={"max_length": 64}) for variant in read_study("desks").variants.values()]
    check(variants)
    corpus = load_corpus(variants[0])
    assert corpus.labels == ("accounts", "press", "repairs", "sales") and len(corpus.test) == 500


def test_the_files_and_fields_that_the_readmes_list_are_those_that_are_written(finished: Path) -> None:
    """Without `train.log`: Snakemake writes it, which had no part in this study; `OTHER` depends on the checkpoint."""
    folder, report = finished / REAL_RUNS[0], finished.parent.parent / "report" / finished.name
    for text, written in ((RUNS, folder), (REPORT, report)):
        files = {name.split("/")[0] for name in rows(text) if re.search(r"[./]", name)}
        there = {path.name for path in written.iterdir() if not path.name.startswith(".")}
        assert files - {"train.log", OTHER} == there - {OTHER}
    listed, metrics = rows(RUNS), json.loads((folder / "metrics.json").read_text())
    assert set(re.findall(r"`(\w+)`", listed["metrics.json"])) == set(metrics)
    for block, values in metrics.items():
        assert set(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", listed[block]))) == set(values), block
    with np.load(folder / "preds_and_labels.npz") as arrays:
        assert set(re.findall(r"`(\w+)`", listed["preds_and_labels.npz"])) == set(arrays.files)
