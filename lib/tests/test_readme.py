"""The README: that its paths exist, its commands are known, and its list of a run's files is what a run writes."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_folders import reviews
from made_runs import REAL_RUNS

from peft_study import paths
from peft_study.data import reviews as data
from peft_study.study.study import read_study

README = paths.CHECKOUT / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""
STUDIES = sorted(path.parent.name for path in (paths.CHECKOUT / "runs").glob("*/study.yaml"))


def fenced() -> list[str]:
    """The lines of the fenced blocks."""
    return [
        line
        for block in re.findall(r"^```\w*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def section(word: str) -> str:
    """The section whose heading contains `word`."""
    found = re.search(rf"^## [^\n]*{word}.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    assert found, f"README.md has no section on {word!r}"
    return found[0]


def rows() -> list[tuple[list[str], str]]:
    """The table of a run's files: the names in the first cell, and the second cell."""
    table = [
        line.strip().strip("|").split("|") for line in section("leaves behind").splitlines() if line.startswith("| `")
    ]
    return [(re.findall(r"`([^`]+)`", first), rest) for first, rest in table]


def test_every_path_that_the_readme_links_to_exists() -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", TEXT) if not re.match(r"\w+:|#", link)]
    assert len(links) >= 5
    assert [link for link in links if not (paths.CHECKOUT / link).exists()] == []


def test_every_path_that_the_readme_mentions_exists() -> None:
    mentioned = {
        match for match in re.findall(r"`((?:lib|notebooks|runs|report)/[\w./-]+)`", TEXT) if "report." not in match
    }
    assert mentioned
    assert [path for path in mentioned if not (paths.CHECKOUT / path).exists()] == []


@pytest.mark.parametrize("line", [line for line in fenced() if line.startswith("./run_all.sh")])
def test_every_command_of_the_readme_is_one_that_the_script_knows(line: str) -> None:
    words = line.split("#")[0].split()[1:]
    usage = subprocess.run([paths.CHECKOUT / "run_all.sh", "--help"], capture_output=True, text=True, check=True).stdout
    assert not words or words[0] in STUDIES or re.search(rf"run_all\.sh {words[0]}\b", usage), line
    assert all(word in usage for word in words[1:] if word.startswith("-")), line


def test_the_lines_of_the_cluster_that_the_readme_says_to_edit_are_those_of_its_profile() -> None:
    edited = [line for line in fenced() if "# edit:" in line]
    profile = (paths.LIB / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8").splitlines()
    assert edited == [line for line in profile if "# edit:" in line] and len(edited) == 3


def test_the_readme_shows_the_commands_that_matter() -> None:
    commands = [line.split("#")[0].strip() for line in fenced()]
    assert {"./run_all.sh", "./run_all.sh test", "./run_all.sh lab"} <= set(commands)


def test_the_code_of_the_readme_runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (run,) = set(re.findall(r'"(runs/[^"]+)/model"', block))
    (tmp_path / run).parent.mkdir(parents=True)
    (tmp_path / run).symlink_to(finished / "lora-n00060-s1")
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(block, space)
    assert space["model"].config.id2label[1] == "positive"
    assert space["pipeline"]("text-classification", model="merged")("fine")[0]["label"] in ("negative", "positive")


def test_the_study_of_ones_own_texts_is_ten_lines_that_are_accepted(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", section("your own texts"), re.MULTILINE | re.DOTALL)
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
    data.check(variants)
    found = data.load_corpus(variants[0])
    assert found.labels == ("accounts", "press", "repairs", "sales") and len(found.test) == 500 and len(variants) == 4


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_is_named(study: str) -> None:
    assert re.search(rf"(run_all\.sh |runs/|`){study}\b" if study != "quick" else r"\bquick\b", TEXT)


def test_the_files_that_the_readme_lists_are_those_that_a_run_leaves(finished: Path) -> None:
    listed = {name.rstrip("/") for names, _ in rows() for name in names}
    assert listed == {path.name for path in (finished / REAL_RUNS[0]).iterdir() if not path.name.startswith(".")}


def test_the_fields_that_the_readme_lists_are_those_that_a_run_writes(finished: Path) -> None:
    told = {name: set(re.findall(r"`(\w+)`", rest)) for names, rest in rows() for name in names}
    folder = finished / REAL_RUNS[0]
    assert told["metrics.json"] == set(json.loads((folder / "metrics.json").read_text()))
    with np.load(folder / "preds_and_labels.npz") as arrays:
        assert told["preds_and_labels.npz"] == set(arrays.files)


def test_the_readme_quotes_the_answer_that_the_committed_figure_belongs_to() -> None:
    answer = (paths.CHECKOUT / "report" / "readme" / "answer.md").read_text(encoding="utf-8").split()
    quoted = [line.removeprefix("> ") for line in TEXT.splitlines() if line.startswith("> ")]
    assert " ".join(quoted).split() == answer
