"""A study at work, for the terminal: Snakemake's events as plain lines, and the runs that train refreshed in place.

A training writes its step into its run's folder once a second (`callbacks.PlainProgress`), on this machine or on a node
of a cluster.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from peft_study import paths
from peft_study.engine.forecast import predicted, reviews
from peft_study.engine.status import failure, unfinished
from peft_study.files import remove
from peft_study.records.layout import recorded_metrics
from peft_study.study.study import Study
from peft_study.study.variant import Variant

_DOING = {
    "explore": "exploring the texts",
    "compare": "comparing the runs",
    "report": "writing the report",
    "pages": "writing a page for each run",
}
_FAILED = "At least one job did not complete successfully"
_ROWS = 12  # steps at work that are shown
_PREDICTION = 0.3  # the time to classify a text, as a share of that to train on it


class Events(logging.Handler):
    """A logger plugin of Snakemake that prints nothing.

    `steps` maps the steps that Snakemake announces to its reasons for them; `faults` are its own errors; `ran` says
    whether it looked for steps (`--dag` and the like do not), `stopped` whether the user ended it.
    """

    writes_to_stream = has_filter = has_formatter = True
    writes_to_file = needs_rulegraph = False

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, str] = {}
        self.faults: list[str] = []
        self.ran = self.stopped = False

    def emit(self, record: Any) -> None:
        """Take an event."""
        try:
            self.take(str(getattr(record, "event", "")), record)
        except BrokenPipeError:  # the reader has seen enough; the study goes on
            pass
        except Exception:
            self.handleError(record)

    def take(self, event: str, record: Any) -> None:
        """Keep what an event says."""
        self.ran |= event == "run_info" or record.getMessage().startswith("Nothing to be done")
        if event == "job_info" and record.rule_msg:  # the target `all` has none
            self.steps[record.rule_msg] = record.reason
        elif event == "error" and record.exception != "RuleException" and _FAILED not in record.getMessage():
            self.faults.append(record.getMessage())  # the others are those of a step: its log has the cause
        elif record.getMessage().startswith("Terminating processes on user request"):
            self.stopped = True


class Progress(Events):
    """Shows a study: a line for each event and, in a terminal, the steps that are running."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study, self._total = study, len(study.variants)
        self._waiting = {run: study.variants[run] for run in unfinished(study)}
        self._done = self._total - len(self._waiting)
        self._at_work: dict[int, tuple[str, Path, float]] = {}  # by job: its name, its notebook's stem, since when
        self._paces: list[float] = []  # of the runs that have ended, in seconds per unit of `_work`
        self._at: dict[str, dict[str, Any]] = {}  # the last position of each training
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block, refresh the state in place where the output is a terminal."""
        if not sys.stdout.isatty():
            yield
            return
        console = Console(markup=False, highlight=False, emoji=False)
        self._bar = min(20, max(4, console.width - 76))  # columns: names of runs come first
        with Live(console=console, get_renderable=self._state, refresh_per_second=2, transient=True) as self._live:
            yield

    def take(self, event: str, record: Any) -> None:
        """Show an event."""
        before = self.stopped
        super().take(event, record)
        if self.stopped:
            self._at_work = {}
            self._say("stopping ..." * (not before))
        elif event == "run_info" and "train" not in record.stats:
            self._waiting = {}
        elif event == "job_info" and record.rule_msg:
            self._begin(record.jobid, record.rule_name, record.wildcards)
        elif event == "job_finished":
            self._end(record.job_id)
        elif event == "job_error" and record.jobid in self._at_work:
            name, stem, _ = self._at_work.pop(record.jobid)
            self._say(f"{name}: {(failure(stem) or 'stopped').splitlines()[0]}")

    def _begin(self, job: int, rule: str, wildcards: Any) -> None:
        folder = paths.study_folder(self._study.name)
        if rule == "train":
            self._waiting.pop(name := wildcards["run"], None)
            folder = folder / name
            remove(folder / paths.PROGRESS)  # of a training that was killed
            line = f"training {name} ({self._total - len(self._waiting)} of {self._total})"
        else:
            line = name = _DOING.get(rule, rule)
        self._at_work[job] = name, folder / rule, time.time()
        self._say(line * (self._live is None))

    def _end(self, job: int) -> None:
        name, stem, begun = self._at_work.pop(job, ("", Path(), 0.0))
        if variant := self._study.variants.get(name):
            took, self._done = time.time() - begun, self._done + 1
            self._paces.append(took / _work(variant))
            evaluation = (recorded_metrics(stem.parent) or {}).get("evaluation") or {}
            accuracy = (evaluation.get("test") or {}).get("accuracy")
            self._say(f"{name} done in {_clock(took)}" + (f", test accuracy {accuracy:.1%}" if accuracy else ""))

    def _say(self, line: str) -> None:
        """Print a line, above what is refreshed in place."""
        if line and self._live:
            self._live.console.print(line, soft_wrap=True)
        elif line:
            print(line, flush=True)

    def _state(self) -> Group:
        """A line on the study and a row for each step at work."""
        table, at_work, now = Table.grid(padding=(0, 2)), list(self._at_work.values()), time.time()
        table.add_column(overflow="ellipsis")
        for _ in range(4):
            table.add_column(no_wrap=True)
        runs = {name: self._study.variants[name] for name, _, _ in at_work if name in self._study.variants}
        for name, stem, _ in at_work:
            with suppress(OSError, ValueError):  # it has not begun to train, or has just ended
                file = stem.with_name(paths.PROGRESS)
                self._at[name] = json.loads(file.read_text(encoding="utf-8")) | {"at": file.stat().st_mtime}
        own = {name: _pace(self._at[name], runs[name]) for name in runs if name in self._at}
        paces = self._paces or list(own.values())
        pace, left = sum(paces) / max(1, len(paces)), dict[str, float]()
        for name, _, begun in at_work:
            cells: list[Any] = [_clock(now - begun)]
            if name in runs:
                left[name] = max(0.0, _work(runs[name]) * pace - (now - begun))
                cells = ["loading"]
            if name in own:
                left[name] = max(0.0, _rest(self._at[name], runs[name]) - (now - self._at[name]["at"]))
                cells = _cells(self._at[name], left[name], self._bar)
            if len(table.rows) < _ROWS:
                table.add_row(f"  {name}", *cells)
        line = f"{self._study.name}: {self._done} of {self._total} runs done"
        total = sum(left.values()) + sum(map(_work, self._waiting.values())) * pace
        if pace and total:
            line += f", about {_clock(max(total / max(1, len(runs)), *left.values(), 0))} of training left"
        more = len(at_work) - len(table.rows)
        return Group(line, table, *([f"  and {more} more"] if more else []))


def _cells(at: Mapping[str, Any], left: float, width: int) -> list[Any]:
    """The cells on a training: a bar of this width, its step, its loss and the time that the run has left."""
    ended = at["step"] == at["steps"]
    step = "testing" if ended else f"step {at['step']:,} of {at['steps']:,}"
    loss = "" if ended or at["loss"] is None else f"loss {at['loss']:.3f}"
    bar = ProgressBar(total=at["steps"], completed=at["step"], width=width)
    return [bar, step, loss, f"{_clock(left)} left" if left else ""]


def _rest(at: Mapping[str, Any], variant: Variant) -> float:
    """The seconds that a run had left when it was at this step."""
    testing = _PREDICTION * predicted(variant) * variant.max_length * _pace(at, variant)
    return float((at["steps"] - at["step"]) * at["seconds"] + testing)


def _pace(at: Mapping[str, Any], variant: Variant) -> float:
    """The seconds of a training per token."""
    return float(at["seconds"] * at["steps"] / (reviews(variant) * variant.max_length))


def _work(variant: Variant) -> float:
    """The cost of a run, in training tokens."""
    return (reviews(variant) + _PREDICTION * predicted(variant)) * variant.max_length


def _clock(seconds: float) -> str:
    """A duration for the terminal: `41 s`, `6 min`, `2 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
