"""What no input may lead to: code that runs, a shell that reads a study's values, a server that others reach.

Proven elsewhere: reviews are escaped wherever they are shown (tests of the report, of the widgets and in a browser
plant markup in them); pages make no request and run no script but their own (nbpaper/test_paper_html); weights in a
pickle and packed assets of another hash are refused (data/test_datasets, test_strategies), study files and names that
mean harm too (study/test_hostile_studies), and other programs' records (records/).
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from made_folders import save_model

from peft_study import files, paths
from peft_study.data.tokenization import load_tokenizer
from peft_study.engine.check import check
from peft_study.study.variant import Variant

LIBRARIES = sorted(file for name in ("peft_study", "nbpaper") for file in (paths.LIB / name).rglob("*.py"))
LIBRARIES += sorted(paths.LIB.glob("*.py"))
NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
EVALUATES = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
EVALUATES |= {"pickle.load", "pickle.loads", "torch.load", "yaml.unsafe_load", "yaml.full_load"}


def code_of(file: Path) -> str:
    """The Python of a module, or of all code cells of a notebook without their magics."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return text
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join(line for cell in cells for line in cell.splitlines() if not line.lstrip().startswith(("%", "!")))


def calls(file: Path) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """Every call in a file: what is called, as it is written, and its named arguments."""
    for node in ast.walk(ast.parse(code_of(file))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: word.value for word in node.keywords if word.arg}


@pytest.mark.parametrize("file", [*LIBRARIES, *NOTEBOOKS], ids=lambda file: file.name)
def test_nothing_evaluates_a_text_unpickles_or_asks_a_shell(file: Path) -> None:
    for called, named in calls(file):
        assert called not in EVALUATES, called
        assert called != "yaml.load" or (file.samefile(files.__file__) and issubclass(files._Loader, yaml.SafeLoader))
        assert "shell" not in named, called
        for name, safe in {"trust_remote_code": "False", "allow_pickle": "False"}.items():
            assert name not in named or ast.unparse(named[name]) == safe, called


def test_the_shell_of_the_engine_gets_quoted_names_and_nothing_else_of_a_study() -> None:
    commands = re.findall(r'^ +shell: "(.*)"$', (paths.LIB / "Snakefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 5
    places = {place for command in commands for place in re.findall(r"{(.*?)}", command)}
    assert places == {"STUDY:q", "wildcards.run:q", "log"}


def test_code_in_a_models_folder_is_never_run(variant: Callable[..., Variant], tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "own.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\n")
    named = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    for name, auto_map in {"config.json": named, "tokenizer_config.json": {"AutoTokenizer": ["own.T", None]}}.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"auto_map": auto_map}))
    hostile = variant(model=str(folder))
    check([hostile])
    load_tokenizer(hostile)
    assert not (tmp_path / "owned").exists()


def test_the_lock_names_a_hash_for_every_package_and_the_assets_for_each_of_theirs() -> None:
    for name in ("requirements.lock", "assets.txt"):
        lines = (paths.LIB / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        pinned = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        assert pinned and all(re.search(r"==\S+ .*--hash=sha256:[0-9a-f]{64}", line) for line in pinned)
    assert "--require-hashes" in (paths.CHECKOUT / "run_all.sh").read_text(encoding="utf-8")
