"""The hub, from a machine that has it: what is fetched, found again, recorded, and said when something goes wrong.

A server on this machine stands in for it (made_hub.py). Its client reads the settings once, so that every test has a
process of its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import yaml
from made_folders import reviews, save_model, save_reviews
from made_hub import Fault, commit, hub
from transformers import AutoModelForMaskedLM

from peft_study import paths

CARD = """---
dataset_info:
  config_name: plain_text
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': neg, '1': pos}}}
configs:
- config_name: plain_text
  default: true
  data_files:
  - {split: train, path: plain_text/train-*}
  - {split: test, path: plain_text/test-*}
  - {split: unsupervised, path: plain_text/unsupervised-*}
---
Reviews.
"""

LOAD = """
import sys
from peft_study.data import datasets
from peft_study.errors import StudyError
for name in sys.argv[1:]:
    kind, _, name = name.partition("=")
    try:
        if kind == "model":
            print(folder := datasets.model_folder(name))
            print(datasets.commit_of(name, folder))
        else:
            splits = datasets.load_dataset(name).splits
            print({name: len(split.columns["text"]) for name, split in splits.items()})
            print(datasets.revision(name))
    except StudyError as error:
        print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model and reviews as the hub has them: with files that nobody asks for, and a card that names splits."""
    root = tmp_path_factory.mktemp("repositories")
    model = save_model(root / "model", "distilbert")
    AutoModelForMaskedLM.from_pretrained(model).save_pretrained(model)  # what was pretrained has another head
    (model / "pytorch_model.bin").write_bytes(b"never asked for")
    (model / "README.md").write_text("A model.")
    unlabelled = pd.DataFrame({"text": ["nobody judged it"] * 5, "label": [-1] * 5})
    data = save_reviews(root / "data", train=reviews(120), test=reviews(40, seed=1), unsupervised=unlabelled)
    (data / "README.md").write_text(CARD)
    return {"tiny/model": model, "tiny/reviews": data}


USE = """
import sys
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer, pipeline
folder = sys.argv[1]
model = AutoPeftModelForSequenceClassification.from_pretrained(folder, id2label={0: "negative", 1: "positive"})
model = model.merge_and_unload()
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
print(classify("A film.")[0]["label"])
"""


def load(folder: Path, *names: str, address: str = "", **settings: str) -> list[str]:
    """What a new process prints of models and datasets, `folder` being the hub's cache."""
    return new_process(folder, LOAD, *names, **({"HF_ENDPOINT": address} if address else {}), **settings)


def new_process(folder: Path, program: str, *arguments: str, **settings: str) -> list[str]:
    """What a program prints that finds the hub's cache in `folder`."""
    env = os.environ | {"HF_HUB_OFFLINE": "0", "HF_HOME": str(folder), "HF_TOKEN": ""}
    env |= {"HF_HUB_DOWNLOAD_TIMEOUT": "2"} | settings
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_a_model_and_a_dataset_are_loaded_by_name_and_found_again_offline(
    repositories: dict[str, Path], tmp_path: Path
) -> None:
    names = ("model=tiny/model", "dataset=tiny/reviews")
    with hub(repositories) as (address, asked):
        first = load(tmp_path, *names, address=address)
    model, model_commit, dataset, dataset_commit = first
    weights = (repositories["tiny/model"] / "model.safetensors").read_bytes()
    assert (Path(model) / "model.safetensors").read_bytes() == weights
    assert dataset == "{'train': 120, 'test': 40, 'unsupervised': 5}"
    assert [model_commit, dataset_commit] == [commit(folder) for folder in repositories.values()]
    assert not any("pytorch_model.bin" in path for path in asked)
    assert load(tmp_path, *names, HF_HUB_OFFLINE="1") == first
    assert load(tmp_path, *names, address="http://127.0.0.1:9") == first, "nor does it take a hub that answers"


def test_a_revision_is_a_branch_a_tag_or_a_commit(
    repositories: dict[str, Path], tiny: dict[str, Path], tmp_path: Path
) -> None:
    old, new = repositories["tiny/model"], tiny["distilbert"]
    with hub({"tiny/model": old}) as (address, _):
        assert load(tmp_path, "model=tiny/model", address=address)[1] == commit(old)
    with hub({"tiny/model": {"main": new, "v1": old}}) as (address, _):
        names = [f"model=tiny/model{at}" for at in ("", "@v1", f"@{commit(old)}")]
        lines = load(tmp_path, *names, address=address)
    assert lines[1::2] == [commit(new), commit(old), commit(old)], "what is new on the hub is fetched"


MENDED = {
    "an overloaded hub": [Fault("^/api/models", 503, 2), Fault("/tree/", 429, 1), Fault("^/stored", 503, 1)],
    "downloads that break off": [Fault("^/stored", "truncated", 3), Fault("/resolve/.*/config.json", "truncated", 1)],
    "a download that stalls": [Fault("^/stored", "stalled", 1)],
}


@pytest.mark.parametrize("faults", MENDED.values(), ids=MENDED)
def test_what_passes_is_tried_again_until_it_does(
    repositories: dict[str, Path], tmp_path: Path, faults: Sequence[Fault]
) -> None:
    with hub(repositories, faults) as (address, asked):
        folder, fetched = load(tmp_path, "model=tiny/model", address=address)
    assert fetched == commit(repositories["tiny/model"])
    for name in ("config.json", "model.safetensors"):
        assert (Path(folder) / name).read_bytes() == (repositories["tiny/model"] / name).read_bytes()
    assert all(fault.times == 0 for fault in faults), "the fault was met"
    assert sum(path.startswith("/stored") for path in asked) <= 4, "a download goes on where it stopped"


REFUSED = {
    "model=tiny/modle": "model = 'tiny/modle' is not on the hub, or it is private: check the spelling .* `hf auth",
    "dataset=own/private": "dataset = 'own/private' is not on the hub, or it is private",
    "model=own/gated": "model = 'own/gated' is gated: ask for access on its page of the hub and log in with `hf auth",
    "dataset=own/data": "dataset = 'own/data' is gated",
    "model=tiny/mo del": "model = 'tiny/mo del' could not be fetched .*: check the name",
    "model=tiny/model@v2": "model = 'tiny/model@v2' has no such revision on the hub: name one of its branches, tags",
    "model=old/model": r"the folder .* has no \*.safetensors",
}


def test_what_only_the_user_can_mend_is_one_clear_line_and_no_pickle_is_asked_for(
    repositories: dict[str, Path], tmp_path: Path
) -> None:
    model, data = repositories.values()
    pickled = shutil.copytree(model, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    served = {"own/private": data, "own/gated": model, "own/data": data, "old/model": pickled, "tiny/model": model}
    with hub(served, gated=["own/gated", "own/data"], private={"own/private": "secret"}) as (address, asked):
        lines = load(tmp_path, *REFUSED, address=address)
    for line, pattern in zip(lines, REFUSED.values(), strict=True):
        assert re.search(f"^StudyError: .*{pattern}", line), line
    assert not any("pytorch_model" in path for path in asked)


def test_a_private_model_is_loaded_with_its_token_alone(repositories: dict[str, Path], tmp_path: Path) -> None:
    with hub({"own/private": repositories["tiny/model"]}, private={"own/private": "hf_secret"}) as (address, _):
        wrong = load(tmp_path, "model=own/private", address=address, HF_TOKEN="hf_other")
        right = load(tmp_path, "model=own/private", address=address, HF_TOKEN="hf_secret")
    assert "is not on the hub, or it is private" in wrong[0]
    assert right[1] == commit(repositories["tiny/model"])


def test_a_hub_that_stays_overloaded_is_named_and_what_it_sent_is_neither_lost_nor_taken_for_whole(
    repositories: dict[str, Path], tmp_path: Path
) -> None:
    with hub(repositories, [Fault("^/stored", 503)]) as (address, _):
        (line,) = load(tmp_path, "model=tiny/model", address=address)
    assert "503" in line and "run the same command again later; what is fetched is kept" in line
    (line,) = load(tmp_path, "model=tiny/model", HF_HUB_OFFLINE="1")
    assert line.startswith("StudyError: model = 'tiny/model' is not among what was fetched from the hub before")
    with hub(repositories) as (address, _):
        folder = load(tmp_path, "model=tiny/model", address=address)
    with hub(repositories, [Fault("^/api", 503)]) as (address, _):
        assert load(tmp_path, "model=tiny/model", address=address) == folder


@pytest.mark.parametrize(
    ("environment", "remedy"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "unset HF_HUB_OFFLINE to fetch it"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "check the name, the network"),
    ],
)
def test_a_hub_name_without_a_network_is_one_clear_error_soon(
    tmp_path: Path, environment: dict[str, str], remedy: str
) -> None:
    start = time.monotonic()
    lines = load(tmp_path, "model=tiny/bert", "dataset=imdb", **environment)
    assert time.monotonic() - start < 20
    for line, name in zip(lines, ("model = 'tiny/bert'", "dataset = 'imdb'"), strict=True):
        assert line.startswith(f"StudyError: {name} ") and remedy in line
        assert line.endswith("or give a folder with its files, or bundled:NAME")


# --- the study of the hub, through the one command


@pytest.fixture
def small_imdb(tmp_path: Path) -> Path:
    """The folder of the shipped study `imdb`, of two tiny runs, with what others reported; its names are unchanged."""
    folder = tmp_path / "home" / "runs" / "imdb"
    folder.mkdir(parents=True)
    study = yaml.safe_load((paths.CHECKOUT / "runs" / "imdb" / "study.yaml").read_text(encoding="utf-8"))
    study["defaults"] |= {"max_length": 32, "epochs": 1, "batch_size": 8, "ood_dataset": None}
    study["matrix"] |= {"train_size": [60]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    reported = (paths.CHECKOUT / "runs" / "imdb" / "reference.csv").read_text(encoding="utf-8")
    (folder / "reference.csv").write_text(reported.replace(",5000,", ",60,"), encoding="utf-8")
    return folder


def run_all(tmp_path: Path, *options: str, **settings: str) -> str:
    """What `./run_all.sh imdb` says, having succeeded, in the home of the test."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(paths.LIB)}
    env |= {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0", "CUDA_VISIBLE_DEVICES": ""} | settings
    command = ["./run_all.sh", "imdb", *options]
    said = subprocess.run(command, cwd=paths.CHECKOUT, env=env, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_a_study_of_the_hub_runs_from_fetching_to_the_report_and_again_without_a_network(
    repositories: dict[str, Path], small_imdb: Path, tmp_path: Path
) -> None:
    model, data = repositories.values()
    served = {"distilbert/distilbert-base-uncased": model, "stanfordnlp/imdb": data}
    with hub(served) as (address, asked):
        assert "2 of 2 runs are done" in run_all(tmp_path, HF_ENDPOINT=address)
    assert asked
    first = {run: (small_imdb / run / "metrics.json").read_text() for run in ("full-n00060-s42", "lora-n00060-s42")}
    metrics = json.loads(first["lora-n00060-s42"])
    assert metrics["data"]["revision"] == commit(data) and metrics["data"]["test"] == 40
    assert metrics["environment"]["model_revision"] == commit(model)
    adapter = json.loads((small_imdb / "lora-n00060-s42" / "model" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "distilbert/distilbert-base-uncased"
    assert adapter["revision"] == commit(model)
    card = (small_imdb / "lora-n00060-s42" / "model" / "README.md").read_text(encoding="utf-8")
    assert f"commit `{commit(model)}`" in card and f"commit `{commit(data)}`" in card
    report = (tmp_path / "home" / "report" / "imdb" / "report.html").read_text(encoding="utf-8")
    for text in ("of 2 published values lie within the 95% interval", "yjh-jy"):
        assert text in report

    loaded = new_process(tmp_path / "hub", USE, str(small_imdb / "lora-n00060-s42" / "model"), HF_HUB_OFFLINE="1")
    assert loaded[-1] in ("negative", "positive"), "an adapter finds its base model in the hub's cache"

    shutil.rmtree(small_imdb / "lora-n00060-s42")
    assert "2 of 2 runs are done" in run_all(tmp_path, "--until", "train", HF_HUB_OFFLINE="1")
    again = json.loads((small_imdb / "lora-n00060-s42" / "metrics.json").read_text())
    assert again["evaluation"]["test"] == metrics["evaluation"]["test"]
    assert again["environment"]["model_revision"] == commit(model)
    assert (small_imdb / "full-n00060-s42" / "metrics.json").read_text() == first["full-n00060-s42"]
