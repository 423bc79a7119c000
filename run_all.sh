#!/usr/bin/env bash
# Set up once, then explore the data, train every unfinished run, compare the runs and write the report.
#
#   ./run_all.sh                    the quick study: bundled model and reviews, on this machine, in minutes
#   ./run_all.sh STUDY [OPTION...]  any study in runs/; options go to Snakemake:
#       -n                              list the remaining steps (-n -p: and their commands) and, of a long study, a
#                                       forecast of its cost; checks study.yaml, not the model and the data
#       --cores 1                       one run at a time
#       --verbose                       Snakemake's own output instead of the progress of the runs
#       --config allow_missing=1        report on finished runs, train no others
#       --profile lib/profiles/slurm    each run as a job of a Slurm cluster (see README.md)
#   ./run_all.sh label STUDY/RUN TABLE [OPTION...]
#                                   label your own texts with the model of a finished run:
#       -o FILE                         the labelled table (default: texts.labelled.csv beside texts.csv)
#       --text-column NAME              the column of the texts (default: that of the study); twice for pairs
#       --merged FOLDER                 write a model that needs transformers only, with or without a table
#       --help                          all options
#   ./run_all.sh strategies [NAME...]
#                                   check which strategies (--help lists them; by default all) work on an encoder
#                                   (--model) and what they train
#   ./run_all.sh test [OPTION...]   the checks and the tests; options go to pytest
#   ./run_all.sh lab [OPTION...]    JupyterLab with notebooks 01, 02 and 03 open; options go to it
#   ./run_all.sh --help             this text
#
# Ctrl-C stops it; the same command resumes and keeps finished runs. After a kill -9, runs may still be active: the same
# command then names them, and resumes once they have ended.
# It uses the active environment if peft_study is installed there, otherwise its own in .venv.
set -euo pipefail
for name in PEFT_STUDY_HOME PEFT_STUDY_CACHE; do  # relative ones count from where the command is given
  case ${!name-} in '' | /* | '~'*) ;; *) export "$name=$PWD/${!name}" ;; esac
done
from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { echo "run_all.sh: $*" >&2; }
die() { say "$@"; exit 1; }

# Whether Python $1 imports peft_study, and from this checkout rather than from another one.
has_study() {
  "$1" -c 'import os, sys, peft_study
sys.exit(not os.path.samefile(os.path.dirname(peft_study.__file__), "lib/peft_study"))' 2> /dev/null
}

# What an up-to-date .venv was made from.
inputs() { { cat lib/requirements.lock lib/pyproject.toml; pwd -P; } | cksum; }

ready() { [ "$(cat .venv/made-from 2> /dev/null)" = "$(inputs)" ] && has_study .venv/bin/python; }

find_python() {
  local python
  for python in python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2> /dev/null; then
      echo "$python"
      return
    fi
  done
  die "Python 3.11 to 3.14 is needed and was not found; install one from your system's packages, python.org or conda"
}

# Run a step of the set-up: its output goes to the log, its last lines to the terminal if it fails.
step() {
  local words=$1
  shift
  say "$words"
  "$@" >> .venv/setup.log 2>&1 && return
  { grep -v '^WARNING' .venv/setup.log || true; } | tail -n 3 >&2
  die "the set-up failed; check the network and the free disk space, then run the same command again. All of it: .venv/setup.log"
}

set_up() {
  local python free torch record
  python=$(find_python)
  "$python" -c 'import venv, ensurepip' 2> /dev/null ||
    die "Python's venv module is missing; install it (Debian, Ubuntu: apt install python3-venv) and run this again"
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
  [ -d .venv ] || [ "$free" -ge 4096 ] || die "the set-up needs 4 GB of disk here, and $free MB are free; free some and run this again"

  mkdir -p .venv
  exec 8> .venv/lock    # one set-up at a time; the lock dies with this process
  "$python" -c 'import fcntl; fcntl.flock(8, fcntl.LOCK_EX)'
  if ready; then
    exec 8>&-
    return
  fi
  say "setting up .venv, once, in 2 to 5 minutes"
  : > .venv/setup.log
  # The Python that .venv was made from may be gone since, or be another one, with an upgrade of the system.
  [ ! -d .venv/bin ] || .venv/bin/python -c 'import pip' 2> /dev/null || rm -rf .venv/bin .venv/lib .venv/lib64
  # A set-up that was killed in the middle of a package has not written its RECORD yet: let pip install it again.
  for record in .venv/lib/python*/site-packages/*.dist-info; do
    [ ! -d "$record" ] || [ -f "$record/RECORD" ] || rm -rf "$record"
  done
  export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_REQUIRE_VIRTUALENV=0
  torch=$(sed -n 's/.*"\(torch==[0-9.]*\)".*/\1/p' lib/pyproject.toml)
  step "  1/4 the environment" "$python" -m venv .venv
  step "  2/4 the packages of lib/requirements.lock (about 2 minutes)" \
    .venv/bin/python -m pip install --no-deps --require-hashes -r lib/requirements.lock
  step "  3/4 $torch (about half a minute, longer with CUDA)" .venv/bin/python -m pip install "$torch"
  step "  4/4 peft_study" .venv/bin/python -m pip install --no-deps --no-build-isolation -e lib
  inputs > .venv/made-from
  exec 8>&-
}

# Put the right python first on the PATH.
activate() {
  if [ "${VIRTUAL_ENV-}" != "$PWD/.venv" ]; then
    if has_study python; then return; fi
    if [ -n "${CONDA_PREFIX-}" ] && [ "${CONDA_DEFAULT_ENV-}" = peft-study ]; then
      say "adding peft_study to the conda environment"
      python -m pip install --quiet --no-deps --no-build-isolation -e lib
      return
    fi
  fi
  ready || set_up
  export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
}

run_tests() {
  # As modules: the scripts of an environment name the folder in which it was made, and a checkout may have moved.
  python -m ruff check --config lib/pyproject.toml lib notebooks
  python -m mypy --config-file lib/pyproject.toml lib/peft_study lib/nbpaper lib/benchmark.py
  (cd lib && python -c 'from importlinter.cli import lint_imports_command as lint; lint()' --no-cache)
  # In several processes; a whole file of tests goes to one, since what its tests share is made once.
  python -m pytest -c lib/pyproject.toml --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder lib/tests "$@"
}

# The options that JupyterLab needs as root, which it refuses, and in a container, whose own address is not reachable.
ask_for_lab() {
  local more=""
  if [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${container-}" ]; then
    case "$*" in *ip=*) ;; *) more=" --ip=0.0.0.0 --port=8888" ;; esac
  fi
  [ -z "$more" ] || say "in a container, publish a port (docker run -p 127.0.0.1:8888:8888 ...) and add$more"
  case "$(id -u) $*" in
    *allow*root*) ;;
    0\ *) die "JupyterLab does not start as root unless asked to: ./run_all.sh lab${*:+ $*} --allow-root$more" ;;
  esac
}

# JupyterLab, on this machine only and behind a token of its own, with the notebooks as tabs: a workspace says which.
# What running them leaves is kept apart from their files.
open_lab() {
  python -m jupyterlab workspaces import lib/lab_workspace.json > /dev/null ||
    die "JupyterLab's workspaces cannot be written; point JUPYTERLAB_WORKSPACES_DIR to a folder that can"
  export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}  # as in engine/steps.py: waiting threads give up their core
  exec python -m jupyterlab --ServerApp.root_dir="$PWD" \
    --ServerApp.contents_manager_class=peft_study.engine.contents.Contents --LabApp.default_url=/lab/workspaces/peft-study "$@"
}

case ${1-} in
  -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p;}' "$0"; exit ;;
  test) activate; shift; run_tests "$@" ;;
  lab) shift; ask_for_lab "$@"; activate; open_lab "$@" ;;
  label | strategies) activate; cd "$from"; exec python -P -m peft_study "$@" ;;  # -P: no module of that folder
  '' | -*) activate; exec python -m peft_study run quick "$@" ;;
  *) activate; exec python -m peft_study run "$@" ;;
esac
