"""Where papers are made: from JupyterLab's export menu, and on a machine without a network."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import nbformat
import pytest
from paper_everything import everything
from paper_notebooks import notebook

from nbpaper import PaperHTMLExporter, PaperPDFExporter

KINDS = {"paper_html": "text/html", "paper_pdf": "application/pdf"}
TOKEN = "of-this-test"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `paper.ipynb`, which uses every feature, and its bibliography."""
    folder = tmp_path_factory.mktemp("papers")
    nbformat.write(notebook(*everything(folder)), folder / "paper.ipynb")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of a Jupyter server on that folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--no-browser", "--allow-root", f"--IdentityProvider.token={TOKEN}"]
    command = [sys.executable, "-m", "jupyter_server", *options, f"--ServerApp.root_dir={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert process.poll() is None, "the server has stopped"
        try:
            _get(f"{address}/api/status")
        except OSError:
            time.sleep(0.25)
        else:
            return
    raise TimeoutError(f"no server at {address}")


def _get(address: str) -> tuple[str, bytes]:
    with urlopen(Request(address, headers={"Authorization": f"token {TOKEN}"})) as answer:
        return answer.headers.get_content_type(), answer.read()


def test_both_exporters_are_in_the_export_menu_of_jupyterlab_once(server: str) -> None:
    listed = json.loads(_get(f"{server}/api/nbconvert")[1])
    assert {name: about["output_mimetype"] for name, about in listed.items() if "paper" in name} == KINDS


@pytest.mark.parametrize("name", list(KINDS))
def test_the_server_exports_the_file(server: str, name: str) -> None:
    content_type, data = _get(f"{server}/nbconvert/{name}/paper.ipynb?download=true")
    assert content_type == KINDS[name]
    assert data.startswith(b"<!DOCTYPE html>" if name == "paper_html" else b"%PDF")


def test_both_formats_need_no_network_and_come_out_the_same(folder: Path, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    alone = [unshare, "--net", "--map-root-user"] if unshare else []
    if not alone or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a process give up its network (unshare --net)")
    make = (
        "import sys; from pathlib import Path; from nbpaper import PaperHTMLExporter, PaperPDFExporter\n"
        "for exporter, file in (PaperHTMLExporter, 'html'), (PaperPDFExporter, 'pdf'):\n"
        "    paper, _ = exporter().from_filename(sys.argv[1])\n"
        "    Path(sys.argv[2], file).write_bytes(paper.encode() if isinstance(paper, str) else paper)\n"
    )
    command = [*alone, sys.executable, "-c", make, str(folder / "paper.ipynb"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page, _ = PaperHTMLExporter().from_filename(str(folder / "paper.ipynb"))
    document, _ = PaperPDFExporter().from_filename(str(folder / "paper.ipynb"))
    assert (tmp_path / "html").read_text("utf-8") == page
    assert (tmp_path / "pdf").read_bytes() == document
