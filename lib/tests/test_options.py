"""What is asked of Snakemake is understood in every spelling that it takes, or refused before anything starts."""

import subprocess
import sys

import pytest

from peft_study.engine.options import Options, read
from peft_study.errors import StudyError


@pytest.mark.parametrize("given", ["-n", "-np", "-kn", "-nq", "-nj1", "--dry-run", "--dryrun", "--dry-r"])
def test_a_dry_run_is_one_however_it_is_written(given: str) -> None:
    assert read([given]).dry_run


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        (["--config", "allow_missing=1"], "compare_only", True),
        (["--config=allow_missing=1", "--cores", "1"], "compare_only", True),
        (["--config", "allow_missing=0", "-n"], "compare_only", False),
        (["-n", "--profile", "mine"], "elsewhere", True),
        (["--executor=slurm"], "elsewhere", True),
        (["--executor=slurm"], "profile", False),
        (["-nq"], "talkative", True),
        (["-n"], "talkative", False),
        (["-R", "a", "b", "-n"], "forced", ("a", "b")),
        (["-c1"], "cores", 1),
        (["--jobs", "3", "-n"], "cores", 3),
        (["a/train.ipynb", "-n"], "targets", ("a/train.ipynb",)),
    ],
)
def test_what_matters_before_snakemake_starts_is_read_by_its_own_parser(
    given: list[str], field: str, value: object
) -> None:
    found = read(given)
    assert getattr(found, field) == value and found.given == tuple(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--config", "alow_missing=1"], "--config alow_missing=1 says nothing to this project"),
        (["--config", "allow_missing=yes"], "which knows allow_missing=1"),
        (["--cores"], "argument --cores/-c: expected one argument"),
        (["--cores", "two"], "must be integer or 'all'"),
        (["--cores", "0"], "cores = 0, where a run needs one"),
        (["-j", "-2"], "cores = -2, where a run needs one"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given: list[str], said: str) -> None:
    with pytest.raises(StudyError) as raised:
        read(given)
    told = str(raised.value)
    assert f"options {' '.join(given)!r}" in told and said in told and "./run_all.sh --help" in told
    assert "\n" not in told


def test_without_options_and_for_the_usual_dry_run_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; from peft_study.options import read; read([]), read(['-n']); sys.exit('snakemake' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert read([]) == Options()
