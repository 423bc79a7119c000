"""A whole study, the obvious way and ours: from the first import to the last prediction, and ours to the report."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import pandas as pd

from benchmarks import obvious
from peft_study import paths
from peft_study.data import reviews as data
from peft_study.study.study import read_study


def compare(study: str) -> list[dict[str, Any]]:
    """What `study` (of two classes, of bundled or hub data) takes both ways, on all cores, in an empty home."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "runs", study)
        folder.mkdir(parents=True)
        shutil.copy(paths.study_folder(study) / "study.yaml", folder)
        ways = {
            "obvious": [sys.executable, "-m", "benchmarks", "--obvious-study", study],
            "ours": [sys.executable, "-m", "peft_study", "run", study],
        }
        rows: list[dict[str, Any]] = []
        for way, command in ways.items():
            print(f"{study}, {way}", file=sys.stderr, flush=True)
            rows.append({"study": study, "way": way, **_took(command, {**os.environ, "PEFT_STUDY_HOME": home})})
    ratios = {name: round(rows[0][name] / rows[1][name], 2) for name in ("seconds", "processor seconds")}
    return [*rows, {"study": study, "way": "obvious / ours", **ratios}]


def _took(command: Sequence[str], environment: dict[str, str]) -> dict[str, int]:
    """Seconds by the clock, and of the processors, of a command that must succeed."""
    start, before = perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    seconds, after = perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds), "processor seconds": round(busy)}


def run_obvious(study: str) -> None:
    """Train, test and save every variant of `study` the obvious way, one after the other."""
    for run, variant in read_study(study).variants.items():
        print(run, file=sys.stderr, flush=True)
        corpus = data.load_corpus(variant)
        tables = {"train": pd.concat(data.budget(corpus, variant)), "test": corpus.test, "ood": corpus.ood}
        rows = {
            part: obvious.tokenize(table["text"], table["label"], variant)
            for part, table in tables.items()
            if table is not None
        }
        with tempfile.TemporaryDirectory() as folder:
            made = obvious.trainer(obvious.build(variant), variant, folder, rows["train"], rows["test"])
            made.train()
            for part in rows.keys() - {"train"}:
                made.predict(rows[part])
            made.save_model(folder)
        print(f"  {process_time():.0f} processor seconds so far", file=sys.stderr, flush=True)
