"""A study at work, for the terminal: Snakemake's events as plain lines, and the runs that train refreshed in place.

A training writes its step into its run's folder once a second (`callbacks.PlainProgress`), on this machine or on a node
of a cluster.
"""

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

from rich import progress
from rich.console import Console, RenderableType
from rich.table import Column

from peft_study import paths
from peft_study.engine.forecast import reviews
from peft_study.engine.status import failure, unfinished
from peft_study.files import remove
from peft_study.records.layout import recorded_metrics
from peft_study.study.study import Study
from peft_study.text import duration

_DOING = {
    "explore": "exploring the texts",
    "compare": "comparing the runs",
    "report": "writing the report",
    "pages": "writing a page for each run",
}
_WHOLE = progress.TaskID(0)  # the bar of the study, which is the first
_FAILED = "At least one job did not complete successfully"


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


class TimeLeft(progress.ProgressColumn):
    """The time that a task has left at its speed so far; nothing before that is known."""

    def render(self, task: progress.Task) -> str:
        """The time of a task."""
        return f"{duration(task.time_remaining)} left" if task.time_remaining else ""


class Bars(progress.Progress):
    """Bars with a text and the time left, in a terminal; `read` updates them whenever they are drawn."""

    def __init__(self, read: Callable[[], None]) -> None:
        self._read = read
        super().__init__(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(20),
            progress.TextColumn("{task.fields[position]}"),
            TimeLeft(Column(no_wrap=True)),
            console=Console(markup=False, highlight=False, emoji=False),
            refresh_per_second=2,
            speed_estimate_period=600,  # seconds
            transient=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is drawn."""
        if self.tasks:
            self._read()
        return super().get_renderables()


class Progress(Events):
    """Shows a study: a line for each event and, while its `bars` are started, the steps that are running."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study, self._unfinished, self.bars = study, {*unfinished(study)}, Bars(self._read)
        self._waiting = {*self._unfinished}
        self._tokens = {run: reviews(variant) * variant.max_length for run, variant in study.variants.items()}
        self._at_work: dict[int, tuple[str, Path, float, progress.TaskID]] = {}  # by job: notebook's stem, since when
        self.bars.add_task(study.name, total=sum(self._tokens.values()), position="")

    def take(self, event: str, record: Any) -> None:
        """Show an event."""
        stopping = not self.stopped
        super().take(event, record)
        if self.stopped:
            self._at_work = {}
            self.bars.stop()
            self._say("stopping ..." * stopping)
        elif event == "job_info" and record.rule_msg:
            self._begin(record.jobid, record.rule_name, record.wildcards)
        elif event == "job_finished" and record.job_id in self._at_work:  # the target `all` is not
            self._unfinished.discard(self._at_work[record.job_id][0])
            name, stem, took = self._end(record.job_id)
            if stem.name == "train":
                evaluation = (recorded_metrics(stem.parent) or {}).get("evaluation") or {}
                found = (evaluation.get("test") or {}).get(self._study.metric)
                score = f", test {self._study.noun} {found:.1%}" if found else ""
                self._say(f"{name} done in {duration(took)}{score}")
        elif event == "job_error" and record.jobid in self._at_work:
            name, stem, _ = self._end(record.jobid)
            self._say(f"{name}: {(failure(stem) or 'stopped').splitlines()[0]}")

    def _begin(self, job: int, rule: str, wildcards: Any) -> None:
        folder = paths.study_folder(self._study.name)
        if rule == "train":
            self._waiting.discard(name := wildcards["run"])
            self._unfinished.add(name)  # it may have been done, with other code
            folder = folder / name
            remove(folder / paths.PROGRESS)  # of a training that was killed
            total = len(self._tokens)
            line = f"training {name} ({total - len(self._waiting)} of {total})"
        else:
            line = name = _DOING.get(rule, rule)
        self._at_work[job] = name, folder / rule, time(), self.bars.add_task(f"  {name}", total=None, position="")
        self._say(line * (not self.bars.live.is_started))

    def _end(self, job: int) -> tuple[str, Path, float]:
        """Its name, its notebook's stem and how long it took."""
        name, stem, begun, bar = self._at_work.pop(job)
        self.bars.remove_task(bar)
        return name, stem, time() - begun

    def _say(self, line: str) -> None:
        """Print a line, above what is refreshed in place."""
        if line and self.bars.live.is_started:
            self.bars.console.print(line, soft_wrap=True)
        elif line:
            print(line, flush=True)

    def _read(self) -> None:
        """Update the bars."""
        done = self._tokens | dict.fromkeys(self._unfinished, 0.0)  # tokens
        for name, stem, _, bar in list(self._at_work.values()):
            with suppress(OSError, ValueError, LookupError):  # it has not begun to train, or has just ended
                at = json.loads(stem.with_name(paths.PROGRESS).read_text(encoding="utf-8"))
                loss = "" if at["loss"] is None else f"  loss {at['loss']:.3f}"
                position = f"step {at['step']:,} of {at['steps']:,}{loss}" if at["step"] < at["steps"] else "testing"
                self.bars.update(bar, completed=at["step"], total=at["steps"], position=position)
            if name in done:  # as its bar has it, which never goes back
                share = sum(task.percentage for task in self.bars.tasks if task.id == bar) / 100
                done[name] = share * self._tokens[name]
        runs = f"{len(done) - len(self._unfinished)} of {len(done)} runs done"
        self.bars.update(_WHOLE, completed=sum(done.values()), description=f"{self._study.name}: {runs}")
