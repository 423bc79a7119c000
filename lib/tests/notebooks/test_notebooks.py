"""The notebooks: how they are written, and that they run from top to bottom on tiny reviews."""

import ast
import copy
import html
import json
import re
import statistics
from pathlib import Path
from typing import Any

import nbformat
import pypandoc
import pypdf
import pytest
from made_runs import PLANTED, REAL_RUNS
from nbstripout import strip_output

from nbpaper.cells import FLOAT_LABEL, caption_of
from peft_study import paths
from peft_study.data.datasets import about
from peft_study.engine import steps as batch
from peft_study.strategies.table import STRATEGIES

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
EXECUTED = ["explore.ipynb", *(f"{run_id}/train.ipynb" for run_id in REAL_RUNS), "compare.ipynb"]
ABOUT = ("bundled:imdb", "bundled:rotten-tomatoes")
# Of pandoc and Quarto, and an object's own name; `[@nobody]` is planted in a review.
RAW_MARKUP = r"\[@(?!nobody)|(?<!\w)@(fig|tbl|eq)-|#\||\{[#.]\w|PosixPath\("
EXTRA = ["metadata.language_info", "metadata.papermill", "cell.metadata.papermill", "cell.metadata.execution"]


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def lines(cell: Any) -> list[str]:
    """The lines of a cell that are code: neither blank, nor comments, nor imports."""
    left_out = ("#", "import ", "from ")
    return [line for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith(left_out)]


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return read(request.param)


@pytest.fixture(params=EXECUTED)
def executed(request: pytest.FixtureRequest, finished: Path) -> Path:
    return finished / request.param


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = read(path)
    kept = strip_output(copy.deepcopy(notebook), keep_output=False, keep_count=False, keep_id=True, extra_keys=EXTRA)
    assert notebook == kept, "the notebook as git keeps it"
    assert all(cell.execution_count is None and not cell.outputs for cell in code(notebook))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel, "paper": notebook.metadata.get("paper")}
    nbformat.validate(notebook)
    ids = [cell["id"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]  # nbformat mends them unasked
    assert len(set(ids)) == len(ids), "JupyterLab would give one of them another id on saving"


def test_a_notebook_opens_with_its_title_and_says_what_it_is_for(notebook: Any) -> None:
    opening = notebook.cells[0].source
    assert re.match(r"# \S.*\n\n", opening) and "?" in opening and len(opening.split()) > 30


def test_there_is_one_cell_of_parameters_and_nothing_is_derived_in_it(notebook: Any) -> None:
    first, *rest = code(notebook)
    assert ["parameters" in cell.metadata.get("tags", []) for cell in (first, *rest)] == [True] + [False] * len(rest)
    for node in ast.parse(first.source).body:
        if isinstance(node, ast.ImportFrom) and node.module == "typing":
            continue  # papermill reads Optional[int], not int | None
        assert isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        ast.literal_eval(node.value)
    explained = False  # a comment above a group of parameters, or one behind each
    for line in filter(None, first.source.splitlines()):
        explained = explained or line.startswith("#")
        assert explained or "  # " in line or line.startswith("from typing import"), line


def test_cells_are_short_and_prose_comes_between_them(notebook: Any) -> None:
    sizes = [len(lines(cell)) for cell in code(notebook)[1:]]
    assert max(sizes) <= 15 and statistics.median(sizes) <= 6
    shown = [cell for cell in notebook.cells if "remove-cell" not in cell.metadata.get("tags", [])]
    assert "ccc" not in "".join("p" if is_prose(cell) else "c" for cell in shown)
    prose = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    assert prose >= 4 * sum(len(lines(cell)) for cell in code(notebook)), "prose far outweighs code"
    for node in ast.walk(ast.parse("\n".join(cell.source for cell in code(notebook)))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            assert (node.end_lineno or 0) - node.lineno < 5, "what is longer is in the library"


def is_prose(cell: Any) -> bool:
    """Whether a cell is there to be read: written prose, or a call that shows a generated sentence."""
    return cell.cell_type != "code" or cell.source.startswith(("display.sentence(", "paper.sentence("))


def test_every_figure_and_table_has_a_caption_and_every_figure_a_description(notebook: Any) -> None:
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        if FLOAT_LABEL.fullmatch(cell.id) and cell.cell_type == "code":
            kind = {"fig": "**Figure.** ", "tbl": "**Table.** "}[cell.id[:3]]
            assert after.metadata.get("tags") == ["caption"] and after.source.startswith(kind), cell.id
            assert cell.id.startswith("tbl-") or cell.metadata.paper["alt"], cell.id


def test_a_figure_or_table_may_fail_and_nothing_else_needs_what_its_cell_defines(notebook: Any) -> None:
    cells = code(notebook)
    for place, cell in enumerate(cells):
        may_fail = "raises-exception" in cell.metadata.get("tags", [])
        assert may_fail or not FLOAT_LABEL.fullmatch(cell.id), cell.source
        for later in cells[place + 1 :] if may_fail else ():
            assert not names(cell, ast.Store) & (names(later, ast.Load) - names(later, ast.Store)), later.source


def names(cell: Any, context: type) -> set[str]:
    """The names that a cell defines or imports (`ast.Store`), or uses (`ast.Load`)."""
    nodes = list(ast.walk(ast.parse(cell.source)))
    found = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) and context is ast.Store]
    return found | {alias.asname or alias.name for node in imports for alias in node.names}


def test_a_notebook_shows_no_markup_that_jupyterlab_leaves_raw(notebook: Any) -> None:
    for cell in notebook.cells:
        assert cell.cell_type != "raw" and not cell.source.startswith("---"), cell.source
        assert not re.search(RAW_MARKUP, cell.source), cell.source


def links(markdown: str) -> list[tuple[str, str]]:
    """The words and the address of every link."""
    page = pypandoc.convert_text(markdown, "html", "commonmark", ["--wrap=none", "--syntax-highlighting=none"])
    return [
        (html.unescape(text), html.unescape(to)) for to, text in re.findall(r'<a href="([^"]*)"[^>]*>(.*?)</a>', page)
    ]


def test_links_lead_to_cells_files_and_sources_of_the_bibliography(notebook: Any, sources: dict[str, str]) -> None:
    ids = {cell.id for cell in code(notebook)}
    found = [link for cell in notebook.cells if cell.cell_type == "markdown" for link in links(cell.source)]
    nodes = [node for cell in code(notebook) for node in ast.walk(ast.parse(cell.source))]
    written = [str(node.value) for node in nodes if isinstance(node, ast.Constant)]
    found += [link for text in written for link in re.findall(r"\[([^]]+)\]\((https:[^()]+)\)", text)]
    for text, to in found:
        if to.startswith("#"):
            assert to.removeprefix("#cell-id=") in ids, to
        elif to.startswith("https:"):
            assert sources[to] == text, "the words of a citation are those of its entry"
        else:
            assert (paths.NOTEBOOKS / to).exists(), to


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """How pandoc cites each entry of the bibliography, by the address of the entry."""
    file = str(paths.NOTEBOOKS / "references.bib")
    entries = json.loads(pypandoc.convert_file(file, "csljson", "bibtex"))
    addresses = [entry.get("URL") or f"https://doi.org/{entry['DOI']}" for entry in entries]
    asked = "\n\n".join(f"[@{entry['id']}]" for entry in entries)
    options = ["--citeproc", f"--bibliography={file}", "--wrap=none"]
    texts = pypandoc.convert_text(asked, "plain", "markdown", options).split("\n\n")
    return {address: text.strip()[1:-1] for address, text in zip(addresses, texts[: len(entries)], strict=True)}


def test_strategies_datasets_and_published_results_cite_entries_of_the_bibliography(sources: dict[str, str]) -> None:
    written = [strategy.citation for strategy in STRATEGIES.values()] + [about(name) for name in ABOUT]
    written += [file.read_text(encoding="utf-8") for file in (paths.CHECKOUT / "runs").glob("*/reference.csv")]
    found = links("\n\n".join(written))
    assert len(found) > 25 and all(sources[to] == text for text, to in found)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in code(notebook) for output in cell.outputs]


def test_an_executed_notebook_is_the_notebook_and_shows_no_error_no_warning_no_widget_and_nothing_undefined(
    executed: Path,
) -> None:
    notebook = read(executed)
    for output in outputs(notebook):
        data = output.get("data", {})
        assert output.output_type != "error" and output.get("name") != "stderr", output
        assert not [kind for kind in data if "widget" in kind]
        shown = data.get("text/plain", "") + data.get("text/markdown", "")
        assert not re.search(rf"\b(nan|NaN|NaT|<NA>|inf)\b|nan%|Left out|{RAW_MARKUP}", shown), shown
    assert "widgets" not in notebook.metadata and executed.stat().st_size <= 2**20
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    source = {"explore": batch.EXPLORE, "train": batch.TRAIN, "compare": batch.COMPARE}[executed.stem]
    cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    assert [cell.source for cell in cells] == [cell.source for cell in read(paths.NOTEBOOKS / source).cells]


@pytest.fixture
def page(real_home: Path) -> str:
    return (real_home / "report" / "tiny" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def pdf(real_home: Path) -> str:
    reader = pypdf.PdfReader(real_home / "report" / "tiny" / "report.pdf")
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def captions(executed: Path) -> list[tuple[str, str]]:
    """Of the figures and tables that are there: for want of data, a sentence may stand in for one."""
    cells = read(executed).cells
    return [
        (cell.id[:3], caption_of(cells, number))
        for number, cell in enumerate(cells, start=1)
        if FLOAT_LABEL.fullmatch(cell.id) and any(shows(output) for output in cell.get("outputs", ()))
    ]


def shows(output: Any) -> bool:
    """Whether an output is a picture or a table."""
    data = output.get("data", {})
    return bool({"text/html", "image/svg+xml"} & set(data)) or "|" in data.get("text/markdown", "")


def without_marks(text: str) -> str:
    """Text on one line, without emphasis and quotation marks: typesetting changes both."""
    return re.sub(r"[*\"“”'’]", "", " ".join(text.split()))


def test_the_report_has_every_figure_and_table_under_its_number(page: str, pdf: str, finished: Path) -> None:
    seen = without_marks(html.unescape(re.sub(r"<[^>]*>", "", page)))
    counts = {"fig": 0, "tbl": 0}
    for kind, caption in captions(finished / "compare.ipynb"):
        counts[kind] += 1
        numbered = f"{'Figure' if kind == 'fig' else 'Table'} {counts[kind]}"
        assert without_marks(caption) in seen and numbered in seen, numbered
        assert numbered in pdf.replace("\xa0", " "), numbered
    assert min(counts.values()) >= 3
    text = re.sub(r"<(script|style)\b.*?</\1>|<details\b.*?</details>|<[^>]*>", "", page, flags=re.DOTALL)
    for form in (text, pdf):
        assert not re.search(rf"{RAW_MARKUP}|cell-id", form), "a cross-reference is left open"
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
    assert PLANTED.replace('"', "") in re.sub('[“”"]', "", pdf), "markup in a review is text"


def test_the_report_has_the_answer_that_is_kept_for_quoting_and_names_the_run_that_is_missing(
    page: str, pdf: str, real_home: Path
) -> None:
    answer = (real_home / "report" / "tiny" / "answer.md").read_text(encoding="utf-8").strip()
    seen = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    for part in re.split(r"\*+|\n\n", answer):
        assert " ".join(part.split()) in seen
    for form in (re.sub(r"<[^>]*>", "", page), pdf):
        assert "Planned runs that are not compared" in form and "lora-n00100-s1" in form and "not finished" in form


def test_a_run_shows_the_majority_class_baseline_beside_its_accuracy_and_macro_f1(finished: Path) -> None:
    cells = nbformat.read(finished / "full-n00100-s1" / "train.ipynb", as_version=4).cells
    (said,) = (cell.outputs[0].data["text/markdown"] for cell in cells if cell.id == "abstract")
    assert "% test accuracy and " in said and "% macro F1" in said
    assert "which always names the most frequent class, has 50.0% and 33.3%." in said
