"""One step at a time: a notebook executed, kept where it failed, and told apart from one of other code."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from made_studies import RUN, make_done

from peft_study import paths
from peft_study.engine import steps
from peft_study.errors import StudyError
from peft_study.study.study import read_study

Write = Callable[..., Path]


def test_a_notebook_is_executed_with_its_parameters_in_its_own_folder(
    tmp_path: Path, notebook: Write, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "5")
    values = "os.getcwd(), os.environ['MALLOC_MMAP_MAX_'], os.environ['MALLOC_TRIM_THRESHOLD_']"
    source = notebook("epochs: float = 1.0", "import os", f"print(epochs, {values})")
    steps.execute(source, tmp_path / "out" / "train.ipynb", {"epochs": 2.5})
    assert f"2.5 {tmp_path} 0 5" in capfd.readouterr().out, "what the user sets wins"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train.ipynb"}
    assert steps.code(tmp_path / "out" / "train.ipynb") == steps.code(source)


def test_braces_in_a_path_stand_for_themselves(tmp_path: Path, notebook: Write) -> None:
    (folder := tmp_path / "of {seed} {0} and }").mkdir()
    source = notebook("seed: int = 1").rename(folder / "source.ipynb")
    steps.execute(source, folder / "train.ipynb", {"seed": 13})
    assert (folder / "train.ipynb").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ports are what there is")
def test_kernels_side_by_side_cannot_draw_the_same_ports(
    tmp_path: Path, notebook: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "from ipykernel.kernelapp import IPKernelApp; app = IPKernelApp.instance(); print(app.transport, app.ip)"
    source, seen = notebook("seed: int = 1", code), []
    for _ in range(2):
        steps.execute(source, tmp_path / "train.ipynb", {"seed": 13})
        seen.append(re.findall(r"^(ipc|tcp) (.+)$", capfd.readouterr().out, re.MULTILINE)[0])
    assert [transport for transport, _ in seen] == ["ipc", "ipc"] and seen[0] != seen[1]
    assert {path.name for path in tmp_path.iterdir()} == {"source.ipynb", "train.ipynb"}


def test_a_failing_notebook_is_kept_as_partial_with_its_error(
    tmp_path: Path, notebook: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    source = notebook("seed: int = 1", "print('before')", "raise ValueError('unlucky\\nsecond line')")
    with pytest.raises(StudyError, match=r"^ValueError: unlucky$"):
        steps.execute(source, tmp_path / "train.ipynb", {"seed": 13})
    assert not (tmp_path / "train.ipynb").exists()
    assert "unlucky" in (tmp_path / "train.partial.ipynb").read_text()
    printed = capfd.readouterr().out
    assert printed.index("before") < printed.index("ValueError: unlucky")


def test_a_kernel_that_dies_is_one_clear_error(tmp_path: Path, notebook: Write) -> None:
    source = notebook("seed: int = 1", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StudyError, match=r"Kernel died.*memory"):
        steps.execute(source, tmp_path / "train.ipynb", {"seed": 13})


@pytest.mark.parametrize("argv", [["/a/python/that/has/moved", "{connection_file}"], ["false"]])
def test_a_kernel_that_cannot_start_is_one_clear_error(
    tmp_path: Path, notebook: Write, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    with pytest.raises(StudyError, match=r"the Jupyter kernel python3 does not start .* install ipykernel"):
        steps.execute(notebook("seed: int = 1"), tmp_path / "train.ipynb", {"seed": 13})


def test_prose_outputs_and_injected_parameters_do_not_change_the_fingerprint_of_the_code(
    tmp_path: Path, notebook: Write
) -> None:
    code = ["seed: int = 1", "print(seed)"]
    first = steps.code(notebook(*code, name="a"))
    assert steps.code(notebook(*code, prose="Other prose.", name="b")) == first
    executed = nbformat.read(tmp_path / "a.ipynb", as_version=4)
    executed.cells[2].outputs = [nbformat.v4.new_output("stream", text="1")]
    injected = nbformat.v4.new_code_cell("seed = 2", metadata={"tags": ["injected-parameters"]})
    executed.cells.insert(2, injected)
    nbformat.write(executed, tmp_path / "c.ipynb")
    assert steps.code(tmp_path / "c.ipynb") == first
    assert steps.code(notebook("seed: int = 1", "print(seed + 1)", name="d")) != first


def test_an_unknown_run_is_refused_with_the_nearest_name(home: Path) -> None:
    with pytest.raises(StudyError, match="did you mean 'lora-n01000-s42'"):
        steps.train("tiny", "lora-n01000-s43")


def test_a_run_gets_every_value_of_its_variant_and_its_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(steps, "execute", lambda *arguments: calls.append(arguments))
    folder = paths.run_folder("tiny", RUN)
    make_done(folder)
    for kept in ("checkpoints", "model"):
        (folder / kept).mkdir()
    (folder / "preds_and_labels.npz").touch()
    (folder / "metrics.json").unlink()
    steps.train("tiny", RUN)
    assert {path.name for path in folder.iterdir()} == {"params.yaml", "checkpoints", ".lock"}
    variant = read_study("tiny").variants[RUN]
    values = {**variant.model_dump(), "folder": str(folder)}
    assert calls == [(paths.NOTEBOOKS / steps.TRAIN, folder / "train.ipynb", values)]
    assert yaml.safe_load((folder / "params.yaml").read_text()) == variant.model_dump()


def test_the_fingerprint_of_texts_of_ones_own_follows_their_content(home: Path) -> None:
    def texts(*names: str | None) -> str:
        steps.texts.cache_clear()
        return steps.texts(*names)

    assert texts() == texts("stanfordnlp/imdb", None) == texts("bundled:imdb") == texts("./nowhere.csv")
    (home / "own").mkdir()
    (home / "own" / "train.csv").write_text("text,label\na,0\n")
    before = texts("own"), texts("own/train.csv", None)
    (home / "own" / "train.csv").write_text("text,label\na,1\n")
    after = texts("own"), texts("own/train.csv", None)
    assert len({texts(), before[0], after[0]}) == len({texts(), before[1], after[1]}) == 3
