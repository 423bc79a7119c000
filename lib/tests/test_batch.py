"""One step at a time: a notebook executed, kept where it failed, and the judgement whether a run is done."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml

from peft_study import paths
from peft_study.engine import driver, locks, orphans
from peft_study.engine import steps as batch
from peft_study.engine.options import read
from peft_study.engine.status import status
from peft_study.errors import StudyError
from peft_study.records import layout as folders
from peft_study.study.study import read_study
from peft_study.study.variant import Variant

STUDY = {"title": "Tiny", "question": "Does it run?", "matrix": {"strategy": ["full", "lora"]}}
RUN = "lora-n01000-s42"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one study of two runs."""
    monkeypatch.setenv("PEFT_STUDY_HOME", str(tmp_path))
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def notebook(path: Path, *sources: str, prose: str = "Prose.") -> Path:
    """A notebook whose first code cell declares the parameters."""
    cells = [nbformat.v4.new_markdown_cell(prose), *map(nbformat.v4.new_code_cell, sources)]
    cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def make_done(folder: Path, study: str = "tiny", run: str = "") -> None:
    """What a finished run leaves, as far as the engine looks at it."""
    folder.mkdir(parents=True)
    variant = read_study(study).variants[run or folder.name]
    (folder / "params.yaml").write_text(yaml.safe_dump(variant.model_dump()))
    (folder / "metrics.json").write_text("{}")
    (folder / "train.ipynb").write_text("{}")


def test_a_notebook_is_executed_with_its_parameters_in_its_own_folder(tmp_path: Path) -> None:
    source = notebook(tmp_path / "source.ipynb", "epochs: float = 1.0", "import os", "print(epochs, os.getcwd())")
    batch.execute(source, tmp_path / "out" / "train.ipynb", {"epochs": 2.5})
    assert f"2.5 {tmp_path}" in (tmp_path / "out" / "train.log").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train.ipynb", "train.log"}
    assert batch.code(tmp_path / "out" / "train.ipynb") == batch.code(source)


def test_braces_in_a_path_stand_for_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "of {seed} {0} and }"
    folder.mkdir()
    batch.execute(notebook(folder / "source.ipynb", "seed: int = 1"), folder / "train.ipynb", {"seed": 13})
    assert (folder / "train.ipynb").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere ports are what there is")
def test_kernels_side_by_side_cannot_draw_the_same_ports(tmp_path: Path) -> None:
    code = "from ipykernel.kernelapp import IPKernelApp; app = IPKernelApp.instance(); print(app.transport, app.ip)"
    source, seen = notebook(tmp_path / "source.ipynb", "seed: int = 1", code), []
    for _ in range(2):
        batch.execute(source, tmp_path / "train.ipynb", {"seed": 13})
        log = (tmp_path / "train.log").read_text()
        seen.append(tuple(re.findall(r"^(ipc|tcp) (.+)$", log, re.MULTILINE)[0]))
    assert [transport for transport, _ in seen] == ["ipc", "ipc"] and seen[0] != seen[1]
    assert {path.name for path in tmp_path.iterdir()} == {"source.ipynb", "train.ipynb", "train.log"}


def test_a_failing_notebook_is_kept_as_partial_with_its_error(tmp_path: Path) -> None:
    code = ["seed: int = 1", "print('before')", "raise ValueError('unlucky\\nsecond line')"]
    source = notebook(tmp_path / "source.ipynb", *code)
    with pytest.raises(StudyError, match=r"^ValueError: unlucky$"):
        batch.execute(source, tmp_path / "train.ipynb", {"seed": 13})
    assert not (tmp_path / "train.ipynb").exists()
    assert "unlucky" in (tmp_path / "train.partial.ipynb").read_text()
    log = (tmp_path / "train.log").read_text()
    assert log.index("before") < log.index("ValueError: unlucky")


def test_a_kernel_that_dies_is_one_clear_error(tmp_path: Path) -> None:
    source = notebook(tmp_path / "source.ipynb", "seed: int = 1", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StudyError, match=r"Kernel died.*memory"):
        batch.execute(source, tmp_path / "train.ipynb", {"seed": 13})


def test_prose_outputs_and_injected_parameters_do_not_change_the_fingerprint_of_the_code(tmp_path: Path) -> None:
    code = ["seed: int = 1", "print(seed)"]
    first = batch.code(notebook(tmp_path / "a.ipynb", *code))
    assert batch.code(notebook(tmp_path / "b.ipynb", *code, prose="Other prose.")) == first
    executed = nbformat.read(tmp_path / "a.ipynb", as_version=4)
    executed.cells[2].outputs = [nbformat.v4.new_output("stream", text="1")]
    injected = nbformat.v4.new_code_cell("seed = 2", metadata={"tags": ["injected-parameters"]})
    executed.cells.insert(2, injected)
    nbformat.write(executed, tmp_path / "c.ipynb")
    assert batch.code(tmp_path / "c.ipynb") == first
    assert batch.code(notebook(tmp_path / "d.ipynb", "seed: int = 1", "print(seed + 1)")) != first


def test_a_run_is_done_when_its_folder_is_complete_and_asked_for_the_same_values(home: Path) -> None:
    folder, variant = paths.run_folder("tiny", RUN), read_study("tiny").variants[RUN]
    assert not folders.is_done(folder, variant)
    make_done(folder)
    assert folders.is_done(folder, variant)
    assert not folders.is_done(folder, variant.model_copy(update={"epochs": 7}))
    for name in ("params.yaml", "metrics.json"):
        make_done(folder.with_name(f"{RUN}-{name}"), run=RUN)
        (folder.with_name(f"{RUN}-{name}") / name).write_text("{not whole")
        assert not folders.is_done(folder.with_name(f"{RUN}-{name}"), variant)


def test_an_unknown_run_is_refused_with_the_nearest_name(home: Path) -> None:
    with pytest.raises(StudyError, match="did you mean 'lora-n01000-s42'"):
        batch.train("tiny", "lora-n01000-s43")


def test_a_run_gets_every_value_of_its_variant_and_its_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(batch, "execute", lambda *arguments: calls.append(arguments))
    folder = paths.run_folder("tiny", RUN)
    make_done(folder)
    for kept in ("checkpoints", "model"):
        (folder / kept).mkdir()
    (folder / "preds_and_labels.npz").touch()
    batch.train("tiny", RUN)
    assert {path.name for path in folder.iterdir()} == {"params.yaml", "checkpoints", ".lock"}
    variant = read_study("tiny").variants[RUN]
    values = {**variant.model_dump(), "folder": str(folder)}
    assert calls == [(paths.NOTEBOOKS / batch.TRAIN, folder / "train.ipynb", values)]
    assert yaml.safe_load((folder / "params.yaml").read_text()) == variant.model_dump()
    assert not (folder / "train.ipynb").exists(), "the old result must not outlive the start of a new one"


def test_one_run_is_never_trained_by_two_processes_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "execute", lambda *arguments: pytest.fail("a finished run is trained again"))
    monkeypatch.setattr(batch, "code", lambda notebook: "the same")
    folder = paths.run_folder("tiny", RUN)
    program = f"""
import time
from pathlib import Path
from peft_study import locks
assert locks.lock(Path({str(folder / ".lock")!r})) is not None
print("held", flush=True)
time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    assert locks.lock(folder / ".lock") is None
    folder.rename(folder.with_name("moved"))
    make_done(folder)
    (folder / ".lock").hardlink_to(folder.with_name("moved") / ".lock")

    def release(_: float) -> None:
        other.kill()
        other.wait()

    monkeypatch.setattr(time, "sleep", release)  # the wait for the lock: meanwhile the other process ends
    batch.train("tiny", RUN)


def test_a_kernel_that_outlives_its_killed_step_keeps_the_step_locked(home: Path, tmp_path: Path) -> None:
    sleep = f"import os, time; open({str(tmp_path / 'kernel')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    notebook(tmp_path / "source.ipynb", "study: str = ''", sleep)
    program = f"""
from pathlib import Path
from peft_study import batch, paths
paths.NOTEBOOKS, batch.EXPLORE = Path({str(tmp_path)!r}), "source.ipynb"
batch.explore("tiny")
"""
    step = subprocess.Popen([sys.executable, "-c", program])
    end = time.monotonic() + 60
    while not ((found := tmp_path / "kernel").exists() and found.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    kernel = psutil.Process(int(found.read_text()))
    kernel.suspend()  # no sooner does it notice that its parent is gone than it ends
    step.kill()
    step.wait()
    assert orphans.at_work(read_study("tiny")) == ["explore"]
    kernel.kill()
    psutil.wait_procs([kernel], timeout=10)
    assert orphans.at_work(read_study("tiny")) == []


def test_a_file_system_without_locks_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.raises(StudyError, match=r"cannot be locked \(No locks available\).*PEFT_STUDY_HOME"):
        locks.lock(tmp_path / "lock")


def test_a_kernel_that_cannot_start_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    source = notebook(tmp_path / "source.ipynb", "seed: int = 1")
    for argv in (["/a/python/that/has/moved", "{connection_file}"], [sys.executable, "-c", "raise SystemExit(1)"]):
        spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
        with pytest.raises(StudyError, match=r"the Jupyter kernel python3 does not start .* install ipykernel"):
            batch.execute(source, tmp_path / "train.ipynb", {"seed": 13})


def test_each_run_sees_one_gpu_of_those_that_are_free(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setenv("TMPDIR", str(home))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("PEFT_STUDY_GPUS", "0,3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    monkeypatch.setattr(batch, "execute", lambda *arguments: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    batch.train("tiny", RUN)
    held = locks.lock(home / f"peft-study-{os.getuid()}-gpu-0.lock")
    assert held is not None
    batch.train("tiny", RUN)
    os.close(held)
    assert seen == ["0", "3"]


def test_a_run_of_two_processes_holds_two_gpus_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("PEFT_STUDY_GPUS", "0,1,4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    held = locks.lock(tmp_path / f"peft-study-{os.getuid()}-gpu-1.lock")
    assert held is not None
    with locks.gpus(2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,4"
    with pytest.raises(StudyError, match="processes = 4"), locks.gpus(4):
        pass
    os.close(held)
    with locks.gpus(3):  # what was held before is free again
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,4"


def test_the_closing_list_says_what_became_of_every_run(home: Path) -> None:
    assert "0 of 2 runs are done" in status("tiny")
    make_done(paths.run_folder("tiny", RUN))
    failed = paths.run_folder("tiny", "full-n01000-s42")
    failed.mkdir()
    (failed / "train.log").write_text("loading\nerror: ValueError: unlucky\n")
    (failed / "train.partial.ipynb").write_text("{}")
    words = status("tiny")
    assert "1 of 2 runs are done" in words
    assert "full-n01000-s42: failed: ValueError: unlucky" in words
    assert str(failed / "train.partial.ipynb") in words
    assert "allow_missing=1" in words
    (failed / "train.log").write_text("loading\n")
    assert "full-n01000-s42: stopped" in status("tiny")


def test_the_closing_list_names_the_values_that_changed_since(home: Path) -> None:
    make_done(paths.run_folder("tiny", RUN))
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "defaults": {"epochs": 5}}))
    assert f"{RUN}: outdated: epochs changed since" in status("tiny")


def test_what_another_program_left_with_other_values_is_not_promised_to_be_made(home: Path) -> None:
    make_done(paths.run_folder("tiny", RUN))
    (paths.run_folder("tiny", RUN) / "train.ipynb").unlink()
    assert "1 of 2 runs are done" in status("tiny")
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "defaults": {"epochs": 5}}))
    assert f"{RUN}: outdated: epochs differ from those of the study; another program left it" in status("tiny")


def test_a_link_in_a_run_is_removed_and_what_it_leads_to_is_not(home: Path, tmp_path: Path) -> None:
    make_done(folder := paths.run_folder("tiny", RUN))
    (elsewhere := tmp_path / "large disk").mkdir()
    (elsewhere / "model.safetensors").write_bytes(b"weights")
    (folder / "model").symlink_to(elsewhere)
    folders.remove_record(folder)
    assert not list(folder.iterdir()) and (elsewhere / "model.safetensors").exists()


def test_where_targets_are_named_no_other_run_is_made_again(home: Path) -> None:
    for run in (RUN, "full-n01000-s42"):
        make_done(paths.run_folder("tiny", run))
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "defaults": {"epochs": 5}}))
    study, target = read_study("tiny"), f"{RUN}/train.ipynb"
    assert driver.arguments(study, read([target, "-n"]))[-2:] == ["--forcerun", target]
    assert driver.steps_left(study, read([target, "-n"])).splitlines()[1:] == [f"  train {RUN} again: epochs changed"]


def test_texts_of_ones_own_have_a_fingerprint_and_those_of_others_none(home: Path) -> None:
    def texts(**fields: str) -> str:
        batch._contents.cache_clear()
        return batch.texts(Variant(ood_dataset=None, **fields))  # type: ignore[arg-type]

    assert texts() == texts(dataset="stanfordnlp/imdb") == texts(dataset="./nowhere.csv") == ""
    (home / "own").mkdir()
    (home / "own" / "train.csv").write_text("text,label\na,0\n")
    before = texts(dataset="own"), texts(dataset="own/train.csv")
    assert all(before)
    (home / "own" / "train.csv").write_text("text,label\na,1\n")
    assert texts(dataset="own") != before[0] and texts(dataset="own/train.csv") != before[1]


def test_a_read_only_file_system_is_one_clear_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(StudyError, match=r"runs/tiny cannot be written \(Read-only file system\)"):
        driver.check("tiny")


@pytest.mark.parametrize("options", [["--config", "allow_missing=1"], ["--config=allow_missing=1"]])
def test_what_is_only_compared_trains_nothing_and_needs_neither_model_nor_data(
    home: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    make_done(paths.run_folder("tiny", RUN))
    make_done(paths.run_folder("tiny", "full-n01000-s42"))
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "strategies": {"full": {"epochs": 5}}}))
    study = read_study("tiny")
    assert "train full-n01000-s42 again: epochs changed" in driver.steps_left(study, read(["-n"]))
    assert "train" not in driver.steps_left(study, read(["-n", *options]))
    monkeypatch.setattr("peft_study.data.check", lambda _: pytest.fail("asked for model and data"))
    assert driver.check("tiny", compare_only=True) == study


def test_the_folder_of_a_study_may_be_a_link_to_one_of_another_name(home: Path) -> None:
    (home / "runs" / "tiny").rename(home / "elsewhere")
    (home / "runs" / "tiny").symlink_to(home / "elsewhere")
    assert "Study tiny: 6 steps are left" in driver.steps_left(read_study("tiny"), read(["-n"]))


def test_a_full_disk_is_refused_before_anything_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100 * 2**20))
    with pytest.raises(StudyError, match=r"no space left in .*: 100 MiB free, 500 needed"):
        driver.check("tiny")


def test_the_options_of_the_user_come_last_and_runs_with_other_values_are_forced(home: Path) -> None:
    study = read_study("tiny")
    assert driver.arguments(study, read(["--cores", "1"]))[-2:] == ["--cores", "1"]
    make_done(paths.run_folder("tiny", RUN))
    (home / "runs" / "tiny" / "study.yaml").write_text(yaml.safe_dump({**STUDY, "defaults": {"epochs": 5}}))
    study = read_study("tiny")
    for option in ("--forcerun", "-R"):
        given = driver.arguments(study, read(["-n", option, "compare"]))
        assert given[-6:] == ["-n", option, "compare", "--forcerun", "compare", f"{RUN}/train.ipynb"]
    assert driver.arguments(study, read(["--profile", "mine"])).count("--profile") == 1, "theirs, not ours"
