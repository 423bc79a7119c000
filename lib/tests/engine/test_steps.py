"""One step at a time: a notebook executed, kept where it failed, and told apart from one of other code."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pytest
import yaml
from made_studies import RUN, make_done

from peft_study import paths
from peft_study.engine import steps
from peft_study.errors import StudyError
from peft_study.study.study import read_study
from peft_study.text import markdown_escape

Write = Callable[..., Path]


def test_a_notebook_is_executed_with_its_parameters_in_its_own_folder_whatever_its_name(
    tmp_path: Path, notebook: Write, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "5")
    values = "os.getcwd(), os.environ['MALLOC_MMAP_MAX_'], os.environ['MALLOC_TRIM_THRESHOLD_']"
    (folder := tmp_path / "of {epochs} {0} and }").mkdir()
    source = notebook("epochs: float = 1.0", "import os", f"print(epochs, {values})").rename(folder / "source.ipynb")
    steps.execute(source, folder / "out" / "train.ipynb", {"epochs": 2.5})
    assert f"2.5 {folder} 0 5" in capfd.readouterr().out, "what the user sets wins"
    assert {path.name for path in (folder / "out").iterdir()} == {"train.ipynb"}
    assert steps.code(folder / "out" / "train.ipynb") == steps.code(source), "injected parameters do not count"


def test_a_cell_that_may_fail_ends_nothing_and_is_named_in_the_notebook_and_the_log(
    tmp_path: Path, notebook: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    source = notebook("seed: int = 1", "raise ValueError('no words_')", "print('went on')")
    content = nbformat.read(source, as_version=4)
    content.cells[2] |= {"id": "fig-a", "metadata": {"tags": ["raises-exception"]}}
    caption = nbformat.v4.new_markdown_cell("Words *by* class. More.", metadata={"tags": ["caption"]})
    content.cells.insert(3, caption)
    nbformat.write(content, source)
    steps.execute(source, tmp_path / "out.ipynb", {"seed": 2})
    log, said = capfd.readouterr().out, "Left out: the figure “Words *by* class” (ValueError: no words_)."
    assert "went on" in log and said in log.splitlines() and "Traceback" in log
    (output,) = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-3].outputs
    assert output.data["text/plain"] == said and output.data["text/markdown"] == markdown_escape(said)
    content.cells[4].source = "1 / 0"
    nbformat.write(content, source)
    with pytest.raises(StudyError, match="ZeroDivisionError"):
        steps.execute(source, tmp_path / "again.ipynb", {"seed": 2})


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


def test_a_kernel_that_dies_is_one_clear_error(tmp_path: Path, notebook: Write) -> None:
    source = notebook("seed: int = 1", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StudyError, match=r"Kernel died.*memory"):
        steps.execute(source, tmp_path / "train.ipynb", {"seed": 13})


def test_a_run_gets_every_value_of_its_variant_and_its_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = Mock()
    monkeypatch.setattr(steps, "execute", execute)
    make_done(folder := paths.run_folder("tiny", RUN))
    for kept in ("checkpoints", "model"):
        (folder / kept).mkdir()
    (folder / "preds_and_labels.npz").touch()
    (folder / "metrics.json").unlink()
    steps.train("tiny", RUN)
    assert {path.name for path in folder.iterdir()} == {"params.yaml", "checkpoints", ".lock"}
    variant = read_study("tiny").variants[RUN]
    values = {**variant.model_dump(), "folder": str(folder)}
    execute.assert_called_once_with(paths.NOTEBOOKS / steps.TRAIN, folder / "train.ipynb", values)
    assert yaml.safe_load((folder / "params.yaml").read_text()) == variant.model_dump()
    with pytest.raises(StudyError, match="did you mean 'lora-n01000-s42'"):
        steps.train("tiny", "lora-n01000-s43")
