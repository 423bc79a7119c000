"""Refuse absent, damaged or undownloaded files of a pretrained model before a library reads them.

`training.model` checks the configuration, and that the weights match it, `engine.check` that all of them are numbers.
"""

import json
from pathlib import Path

from peft_study.data.hub import PATTERNS
from peft_study.errors import StudyError, one_line
from peft_study.files import is_lfs_pointer

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_SAVED = "it must hold what save_pretrained writes: config.json, the tokenizer's files and model.safetensors"
_PICKLED = (
    "; pickled weights (pytorch_model.bin) are not loaded: convert them once with "
    "AutoModel.from_pretrained(folder).save_pretrained(folder)"
)


def require_whole(name: str, folder: Path) -> None:
    """Raise `StudyError` where the `folder` of the model `name` lacks a file, or holds a damaged one."""
    where = f"model = {name!r}: the folder {folder}"
    if (folder / "adapter_config.json").exists() and not any((folder / file).exists() for file in (WEIGHTS, INDEX)):
        raise StudyError(f"{where} has an adapter only; merge it into its base model (save_merged) and name the result")
    for needed in (("config.json",), ("*.safetensors",), ("tokenizer.json", "vocab.*", "*.model", "*.spm")):
        if not any(file for pattern in needed for file in folder.glob(pattern)):
            pickled = _PICKLED * (needed == ("*.safetensors",))
            raise StudyError(f"{where} has no {' or '.join(needed)}; {_SAVED}{pickled}")
    patterns = PATTERNS["model"] or []
    if pointers := sorted(f.name for pattern in patterns for f in folder.glob(pattern) if is_lfs_pointer(f)):
        raise StudyError(
            f"{where} has pointers of git-lfs in place of {', '.join(pointers)}: install git-lfs and run "
            "`git lfs pull` there"
        )
    for file in weight_files(folder, where):
        _require_header(file, where)


def weight_files(folder: Path, where: str) -> list[Path]:
    """The weight files: one, or those that an index lists."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        raise StudyError(f"{where} has neither {WEIGHTS} nor {INDEX}; {_SAVED}")
    try:
        names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError) as error:
        raise StudyError(f"{where}: {INDEX} names no files of weights (weight_map)") from error
    if absent := [name for name in names if not (folder / name).is_file()]:
        there = len(names) - len(absent)
        raise StudyError(f"{where} has {there} of the {len(names)} files of weights; {absent[0]} is absent, fetch it")
    return [folder / name for name in names]


def _require_header(file: Path, where: str) -> None:
    """Refuse a truncated or invalid weight file: the header states its length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np"):
            pass
    except (OSError, SafetensorError) as error:
        fault = f"{where}: the weights in {file.name} do not load ({one_line(error, 200)})"
        raise StudyError(f"{fault}; the file is damaged or incomplete, fetch it again") from error
