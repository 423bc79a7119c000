"""The steps of a study: execute a notebook, render the report. The Snakefile runs each in its own process.

A notebook is executed as `NAME.partial.ipynb`, saved while it runs, and renamed to `NAME.ipynb` on success. A failed or
stopped one remains readable under its partial name.
"""

import hashlib
import json
import os
import re
import sys
from contextlib import suppress
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from peft_study import paths
from peft_study.data import datasets
from peft_study.engine.locks import gpu, hold, kernels, lock_of
from peft_study.errors import StudyError, message, one_line, unknown, writing
from peft_study.files import fingerprint, remove, replacing
from peft_study.records.layout import is_done, is_imported, remove_record, write_params
from peft_study.study.study import Study, read_study
from peft_study.text import markdown_escape

EXPLORE, TRAIN = "01_explore_data.ipynb", "02_train_variant.ipynb"
COMPARE, RATES = "03_compare_variants.ipynb", "04_learning_rates.ipynb"
FAILURE = "error: "  # opens the last line of the log of a step that failed
LEFT_OUT = "Left out: "  # opens the sentence that replaces a figure or table, and its line in the log
_OF_KERNELS = {  # set before a kernel starts, where the user has not
    # What glibc's malloc frees stays with the kernel, up to a gigabyte, for the next step's tensors of the same size.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait give their core to other programs (NOTES.md)
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of ~/.local
}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def explore(study: str) -> None:
    """Execute 01 on the texts of `study`.

    For records made elsewhere, which need no texts, a notebook with the reason replaces a failed 01.
    """
    from nbformat import v4, write

    variants = read_study(study).variants
    try:
        _execute_alone(paths.NOTEBOOKS / EXPLORE, study, "explore.ipynb")
    except StudyError as error:
        if not any(is_imported(paths.run_folder(study, run)) for run in variants):
            raise
        print(sentence := f"{LEFT_OUT}the exploration of the texts ({one_line(error)}).")
        title = "# What is in the texts, and what could bias the comparison?"
        cells = [v4.new_markdown_cell(title), v4.new_markdown_cell(markdown_escape(sentence))]
        with replacing(paths.study_folder(study) / "explore.ipynb") as partial:
            write(v4.new_notebook(cells=cells), partial)


def compare(study: str) -> None:
    """Execute 03, or 04 for a sweep of learning rates, on the finished runs of `study`."""
    _execute_alone(comparison_notebook(read_study(study)), study, "compare.ipynb")


def _execute_alone(notebook: Path, study: str, name: str) -> None:
    """Execute a notebook on a study under the lock of its output."""
    with hold(lock_of(output := paths.study_folder(study) / name)):
        execute(notebook, output, {"study": study})


def comparison_notebook(study: Study) -> Path:
    """The notebook that compares the runs of a study."""
    return paths.NOTEBOOKS / (RATES if study.sweeps_rates else COMPARE)


def train(study: str, run_id: str) -> None:
    """Execute 02 with the values of a run, in its folder. A second process on the same run waits."""
    variants = read_study(study).variants
    if run_id not in variants:
        raise StudyError(unknown("run", run_id, variants))
    folder, variant = paths.run_folder(study, run_id), variants[run_id]
    if is_imported(folder):
        raise StudyError(f"the record in {folder} was made elsewhere; move that folder away to train the run here")
    output = folder / "train.ipynb"
    with hold(lock_of(output)), gpu():
        if is_done(folder, variant) and code(output) == code(paths.NOTEBOOKS / TRAIN):
            return  # a step that outlived its driver has just finished it: Snakemake removes what is to be redone
        remove_record(folder)  # of other values
        write_params(folder, variant)
        try:
            execute(paths.NOTEBOOKS / TRAIN, output, {**variant.model_dump(), "folder": str(folder)})
        finally:
            remove(folder / paths.PROGRESS)


def report(study: str) -> None:
    """Render the executed comparison as `report.html` and `report.pdf`."""
    from nbpaper import PaperHTMLExporter, PaperPDFExporter

    source, folder = paths.study_folder(study) / "compare.ipynb", paths.report_folder(study)
    _render(source, folder / "report.html", PaperHTMLExporter)
    _render(source, folder / "report.pdf", PaperPDFExporter)


def pages(study: str) -> None:
    """Render the pages that the report links to: `explore.html`, and `runs/<run_id>.html` for every executed run.

    One process renders all: a page takes half a second, and starting a process five times as long. A notebook that
    cannot be rendered gets a page with the reason, since Snakemake would remove all pages after a failure.
    """
    import nbformat

    from nbpaper import PaperError, PaperHTMLExporter

    folder, target = paths.study_folder(study), paths.report_folder(study)
    sources = {target / "explore.html": folder / "explore.ipynb"}
    sources |= {target / "runs" / f"{run}.html": folder / run / "train.ipynb" for run in read_study(study).variants}
    for page, source in sources.items():
        page.unlink(missing_ok=True)
        try:
            if source.exists():
                _render(source, page, PaperHTMLExporter)
        except (PaperError, ValueError, nbformat.ValidationError) as error:
            fault = f"{source} cannot be shown: {one_line(error)}"
            print(f"{FAILURE}{fault}", file=sys.stderr)
            page.write_text(f"<!DOCTYPE html><title>No page</title><pre>{escape(fault)}</pre>", encoding="utf-8")


def _render(notebook: Path, page: Path, exporter: Any) -> None:
    """Write an executed notebook as a paper."""
    from traitlets.config import Config

    config = Config(PaperExporter={"resource_path": str(paths.NOTEBOOKS)})  # where the bibliography is
    body, _ = exporter(config=config).from_filename(str(notebook))
    with replacing(page) as partial:
        partial.write_bytes(body.encode() if isinstance(body, str) else body)


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Execute `notebook` with `parameters` in its own folder, into `output`; its output streams are printed.

    Raises `StudyError` with the cause on one line; the partial notebook shows the place.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    partial = output.with_suffix(".partial.ipynb")
    os.environ.pop("JPY_SESSION_NAME", None)  # set in a terminal of JupyterLab; the notebook would think itself live
    for name, value in _OF_KERNELS.items():
        os.environ.setdefault(name, value)
    try:
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            papermill.execute_notebook(
                _unformatted(notebook),
                _unformatted(partial),
                parameters,
                engine_name=_engine(),
                kernel_name="python3",
                language="python",
                cwd=str(notebook.parent),
                start_timeout=300,
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stdout,
                # a notebook of long training: one output per stream rather than thousands, and no dead widgets
                coalesce_streams=True,
                store_widget_state=False,
                kernel_manager_class=kernels(),
            )
            os.replace(partial, output)
    except papermill.PapermillExecutionError as error:
        print(_ANSI.sub("", "\n".join(error.traceback)))
        raise StudyError(message(error.ename, error.evalue)) from error
    except DeadKernelError as error:
        raise StudyError(
            f"{error}; a frequent cause is insufficient memory: try ./run_all.sh with --cores 1"
        ) from error


def _engine() -> str:
    """Register a papermill engine that continues after cells which may fail; returns its name.

    papermill itself ends at the first error, whatever the tags of the cell (`nbpaper.cells.MAY_FAIL`).
    """
    from papermill.engines import NBClientEngine, papermill_engines

    class Tolerant(NBClientEngine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, *words: Any, **options: Any) -> None:
            super().execute_managed_notebook(nb_man, *words, **options)
            cells = nb_man.nb.cells
            for number, cell in enumerate(cells, start=1):
                if cell.cell_type == "code":
                    cell.outputs = [_without_error(cells, number, output) for output in cell.outputs]

    papermill_engines.register("tolerant", Tolerant)
    return "tolerant"


def _without_error(cells: list[Any], number: int, output: Any) -> Any:
    """An output of cell `number`; the error of one that may fail becomes the sentence on what is left out, printed."""
    from nbformat.v4 import new_output

    from nbpaper.cells import MAY_FAIL, caption_of, left_out, tags_of

    cell = cells[number - 1]
    if output.output_type == "error" and MAY_FAIL in tags_of(cell):
        print(_ANSI.sub("", "\n".join(output.traceback)))
        sentence = left_out(cell, number, caption_of(cells, number), output)
        print(sentence)
        return new_output("display_data", {"text/plain": sentence, "text/markdown": markdown_escape(sentence)})
    if (sentence := output.get("data", {}).get("text/markdown", "")).startswith(LEFT_OUT):
        print(sentence)
    return output


def _unformatted(path: Path) -> str:
    """A path with escaped braces, since papermill formats paths with the parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def code(notebook: Path) -> str:
    """A hash of a notebook's code cells, without prose, outputs and parameters."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code" and "parameters" not in str(cell["metadata"])]
    sources = ["".join(cell["source"]) for cell in cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


@cache
def texts(*names: str | None) -> str:
    """A hash of the datasets that are local files or folders, whose content may change."""
    files: list[Path] = []
    for name in filter(None, names):
        with suppress(StudyError):  # it is gone; what is not done is refused before anything starts
            if place := datasets.local(name):
                files += place.rglob("*") if place.is_dir() else [place]
    return fingerprint(*files)
