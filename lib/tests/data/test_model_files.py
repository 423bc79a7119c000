"""A model whose files are absent, damaged or not downloaded is refused in words that say so, before it is loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_folders import save_model
from safetensors.torch import load_file, save_file

from peft_study.data.datasets import model_folder
from peft_study.errors import StudyError
from peft_study.study.variant import Variant
from peft_study.training.model import build

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


def shard(folder: Path) -> None:
    """Part the weights in two files and an index."""
    weights = load_file(folder / "model.safetensors")
    names = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(weights)}
    for file in set(names.values()):
        save_file({name: value for name, value in weights.items() if names[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (folder / "model.safetensors").unlink()


def lose_a_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def make_adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (write("model.safetensors", POINTER), "pointers of git-lfs in place of model.safetensors: .*`git lfs pull`"),
        (write("tokenizer.json", POINTER), "pointers of git-lfs in place of tokenizer.json"),
        (write("config.json", POINTER), "pointers of git-lfs in place of config.json"),
        (truncate, "the weights in model.safetensors do not load .*damaged or incomplete, fetch it again"),
        (write("model.safetensors", ""), "the weights in model.safetensors do not load"),
        (write("model.safetensors", "<html>Sign in</html>"), "the weights in model.safetensors do not load"),
        (lose_a_shard, "1 of the 2 files of weights; model-00002-of-00002.safetensors is absent"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json; it must hold what save_pretrained"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json or .*; it must hold what save_p"),
        (pickle, r"no \*.safetensors; .*pickled weights .*pytorch_model.bin.*: convert them once"),
        (make_adapter, "has an adapter only; merge it into its base model"),
    ],
)
def test_a_faulty_file_is_named_with_what_mends_it(tmp_path: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(folder := save_model(tmp_path / "model [1]", "bert"))
    with pytest.raises(StudyError, match=rf"^model = '.*': the folder .*{said}") as error:
        model_folder(str(folder))
    assert len(str(error.value)) < 600


def test_weights_in_shards_and_pointers_that_nobody_reads_are_accepted(tmp_path: Path) -> None:
    shard(folder := save_model(tmp_path / "model", "bert"))
    (folder / "pytorch_model.bin").write_text(POINTER)
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_text(POINTER)
    assert model_folder(str(folder)) == folder
    build(folder, Variant(model=str(folder)))
