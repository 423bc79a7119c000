"""02, the template of every run: its parameters, its prose, and that its cells give what `fit` gives."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from made_trainings import make_run
from transformers import TrainerCallback

from peft_study import paths
from peft_study.engine import steps
from peft_study.errors import StudyError
from peft_study.records.layout import read_metrics, remove_record
from peft_study.study.study import read_study
from peft_study.study.variant import Variant
from peft_study.training.prediction import predict

TRAIN = paths.NOTEBOOKS / steps.TRAIN
Make = Callable[..., Variant]


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Executes the cells of 02 in this process for a variant, as far as one defines `until`; returns the globals."""

    def run(variant: Variant, until: str = "") -> dict[str, Any]:
        remove_record(tmp_path / "run")  # as the engine does: a finished run is not trained over
        space: dict[str, Any] = {}
        parameters, *cells = code(read(TRAIN))
        exec(parameters.source, space)
        space |= variant.model_dump() | {"folder": str(tmp_path / "run")}
        for cell in cells:
            exec(compile(cell.source, cell.id, "exec"), space)
            if until in space:
                break
        return space

    return run


# --- what its cells compute


@pytest.mark.parametrize("strategy", ["full", "bitfit", "lora-plus", "adalora", "p-tuning"])
def test_its_cells_give_the_predictions_of_fit_bit_for_bit(
    execute: Any, variant: Make, tmp_path: Path, strategy: str
) -> None:
    asked = variant(strategy=strategy, dropout=0.1, epochs=1.0, learning_rate=None)
    space, run = execute(asked), make_run(asked)
    training = run.train(tmp_path / "fit")
    assert np.array_equal(space["test"].logits, run.predict().logits)
    left, right = (
        {name: value for name, value in result.arguments.items() if name != "output_dir"}
        for result in (space["training"], training)
    )
    assert left == right


def test_a_lora_layer_by_hand_is_what_peft_returns(execute: Any, variant: Make) -> None:
    for strategy in ("lora-all", "rslora", "pissa"):
        assert execute(variant(strategy=strategy, lora_r=4, lora_alpha=6), until="apart")["apart"] < 1e-5


def test_it_runs_without_validation_without_other_texts_and_without_saving(
    execute: Any, variant: Make, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"validation_fraction": 0.0, "ood_dataset": None, "epochs": 0.2}
    asked = variant(strategy="full", save_model=False, auto_batch=True, deterministic=True, **fields)
    try:
        space = execute(asked)
    finally:
        torch.use_deterministic_algorithms(False)
    assert list(space["predictions"]) == ["test"] and len(space["scaled"]) == 1
    exec(code(read(TRAIN))[1].source, space)  # no cell has taken the name of a parameter
    assert space["variant"] == asked
    with pytest.raises(StudyError, match="is already trained; run the notebook again"):
        space["trainer"].train()
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert "preds_and_labels.npz" in files and not files & {
        "model", "checkpoints", "ood_preds_and_labels.npz", "validation_preds_and_labels.npz"
    }  # fmt: skip


def test_it_stores_the_other_checkpoints_predictions_and_keeps_the_selected_model(
    execute: Any, variant: Make, tmp_path: Path
) -> None:
    overshoots = variant(strategy="full", learning_rate=0.1, evaluations=8)
    space, best = execute(overshoots), make_run(overshoots.model_copy(update={"checkpoint": "best"}))
    training = best.train(tmp_path / "fit")
    assert training.figures["selected_step"] == space["other"] < space["selected"] == space["measured"]["steps"]
    with np.load(tmp_path / "run" / "other_checkpoint_preds_and_labels.npz") as stored:
        np.testing.assert_allclose(stored["logits"], best.predict().logits, atol=1e-5)
    again = predict(space["network"], space["examples"]["test"], space["test"].ids, space["pad"])
    assert np.array_equal(again.logits, space["test"].logits)


def test_a_training_that_diverges_leaves_a_record(execute: Any, variant: Make, tmp_path: Path) -> None:
    space = execute(variant(strategy="full", learning_rate=1.0, weight_decay=0.0, epochs=1, max_steps=40, warmup=0.0))
    assert read_metrics(tmp_path / "run")["training"]["steps"] == 40
    space["test"].logits[:] = np.nan
    cell = next(cell for cell in code(read(TRAIN)) if "ece(" in cell.source)
    exec(cell.source, space)
    assert space["scaled"] == {}


def test_a_training_that_was_cut_resumes_in_the_same_folder(execute: Any, variant: Make, tmp_path: Path) -> None:
    class Cut(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 8:
                raise KeyboardInterrupt

    asked = variant(strategy="lora", resume=True, epochs=1.0)
    with pytest.raises(KeyboardInterrupt):
        make_run(asked).train(tmp_path / "run", Cut())
    assert len(execute(asked)["measured"]["resumed"]) == 1
    assert not (tmp_path / "run" / "checkpoints").exists(), "the record is written"


def test_fp16_without_a_gpu_is_refused_before_anything_is_loaded(execute: Any, variant: Make) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(StudyError, match="precision = 'fp16' needs a GPU, and torch sees none here; take auto, bf16"):
        execute(variant(precision="fp16", dataset="/nowhere"))


# --- its parameters and its prose


def test_the_parameters_of_02_are_the_fields_and_defaults_of_a_variant() -> None:
    source = code(read(TRAIN))[0].source
    space: dict[str, Any] = {}
    exec(source, space)
    values = {name: space[name] for name in space["__annotations__"]}
    assert values.pop("folder") is None
    assert values == Variant().model_dump()


def test_the_real_run_that_02_names_is_one_of_the_study_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFT_STUDY_HOME", str(paths.CHECKOUT))
    notebook = read(TRAIN)
    told = next(cell.source for cell in notebook.cells if "```python" in cell.source)
    values: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", told, re.DOTALL)[0], {}, values)
    (study,) = re.findall(r"`runs/(\w+)/study.yaml`", told)
    assert Variant(**Variant().model_dump() | values) == read_study(study).variants["lora-n05000-s42"]


def test_mistaken_parameters_stop_02_before_anything_is_loaded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    values = {"epochs": "abc", "strategy": "lorra", "folder": str(tmp_path / "run")}
    with pytest.raises(StudyError, match=r"^the parameters have faults:"):
        steps.execute(TRAIN, tmp_path / "train.ipynb", values)
    partial = read(tmp_path / "train.partial.ipynb")
    failed = [cell for cell in code(partial) if any(output.output_type == "error" for output in cell.outputs)]
    assert len(failed) == 1 and "from_parameters(" in failed[0].source
    assert not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()
    log = capfd.readouterr().out
    assert "epochs = 'abc': " in log and "unknown strategy 'lorra'; did you mean 'lora'?" in log
    assert "Traceback" not in log
