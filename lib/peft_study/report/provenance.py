"""Where the numbers of a report come from: which runs, made from which code, where, and by which command."""

import pandas as pd

from peft_study import paths
from peft_study.records.read import Runs
from peft_study.records.write import commit
from peft_study.strategies.table import STRATEGIES
from peft_study.text import UNKNOWN, duration, listed

EXPLORED, RUN_PAGES = "explore.html", "runs"  # beside report.html: the page of 01, the folder of a page for each run


def reproducibility(runs: Runs) -> str:
    """Which command makes the study anew, and from which code, when and where it was made."""
    table = runs.table
    one = len(table) == 1
    when = sorted(set(_recorded(table, "environment.date").str[:10]))
    days = f" on {when[0]}" if len(when) == 1 else f" between {when[0]} and {when[-1]}" if when else ""
    devices = listed(dict.fromkeys(_recorded(table, "environment.device")))
    where = f", on {devices}" if devices != "none" else ""
    seconds = _numbers(table, "training.seconds").dropna()
    whole = "" if len(seconds) == len(table) else f" (of the {len(seconds)} runs that recorded it)"
    spent = (
        f" {'Its' if one else 'Their'} training took {duration(seconds.sum())} in all{whole}." if len(seconds) else ""
    )
    made = "The run was made" if one else f"The {len(table)} runs were made"
    return (
        f"`./run_all.sh {runs.study.name}` makes every run, this comparison and its report; finished runs are not made "
        f"again. {made}{days}{where}{',' if days or where else ''} {_code(table)}.{spent}"
        f"{_mishaps(table)} {_own_code()}"
    ).strip()


def _mishaps(table: pd.DataFrame) -> str:
    """Which trainings were cut off and resumed, took smaller batches, or were shared out; nothing where none was."""
    resumed = table.get("training.resumed", pd.Series(dtype=object))
    asked, used = (_numbers(table, f"training.{name}") for name in ("asked_batch_size", "batch_size"))
    cut = [f"`{run}`" for run, steps in resumed.items() if isinstance(steps, list) and steps]
    smaller = [f"`{run}`" for run in table.index[used < asked]]
    told = f" The training of {listed(cut)} was cut off and went on from a checkpoint." if cut else ""
    if smaller:
        told += (
            f" The memory was not enough for the batches asked for in {listed(smaller)}: there each step averaged over "
            "several smaller ones."
        )
    together = _numbers(table, "training.processes")
    for count in sorted(set(together[together > 1])):
        shared = [f"`{run}`" for run in table.index[together == count]]
        told += f" {count:.0f} processes shared every batch of {listed(shared)}."
    return told


def _numbers(table: pd.DataFrame, column: str) -> "pd.Series[float]":
    """A column of the records as numbers; NaN where there is none."""
    return pd.to_numeric(table.get(column, pd.Series(dtype=float)), errors="coerce").reindex(table.index)


def _recorded(table: pd.DataFrame, column: str) -> "pd.Series[str]":
    """What the records hold in a column, as text."""
    return table[column].dropna().astype(str) if column in table else pd.Series(dtype=str)


def _code(table: pd.DataFrame) -> str:
    """The commits that the runs were made from, and whether the code was as committed."""
    commits = [f"`{name[:10]}`" for name in dict.fromkeys(_recorded(table, "environment.commit"))]
    if not commits:
        return "from code that no record names"
    kind = "commit" if len(commits) == 1 else "commits"
    dirty = int((_recorded(table, "environment.dirty") == "True").sum())
    changed = "" if not dirty else f", {dirty} of them with changes that were not committed"
    return f"from {kind} {listed(commits)}{changed}"


def _own_code() -> str:
    """What this report was computed with."""
    own = commit()
    if not own["commit"]:
        return ""
    changed = " and changes that are not committed" if own["dirty"] else ""
    return f"This comparison was computed with commit `{own['commit'][:10]}`{changed}."


def explored(runs: Runs, links: bool) -> str:
    """Where to read what is in the reviews; with `links` the name leads to the page beside the report, if there is."""
    name = "`01_explore_data.ipynb`"
    if not (paths.study_folder(runs.study.name) / "explore.ipynb").exists():
        return f"{name} looks at what is in the reviews, and at what in them could mislead."
    shown = f"[{name}]({EXPLORED})" if links else name
    return f"What is in the reviews, and what in them could mislead, was looked at by itself, without a model: {shown}."


def grid(runs: Runs, links: bool) -> str:
    """Finished of planned runs as a Markdown table, since links are kept in Markdown alone: strategies by sizes.

    A finished run is named by its seed and what else sets it apart within its cell. With `links` the name leads to the
    page of its executed notebook, relative to the report; the run of another program has none.
    """
    planned = runs.study.variants
    sizes = sorted({variant.train_size for variant in planned.values()})
    lines = ["| strategy | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|:--|" + ":--|" * len(sizes)]
    for strategy in dict.fromkeys(variant.strategy for variant in planned.values()):
        cells = [[run for run, v in planned.items() if (v.strategy, v.train_size) == (strategy, n)] for n in sizes]
        shown = " | ".join(_cell(cell, runs, links) for cell in cells)
        lines.append(f"| {STRATEGIES[strategy].label} | {shown} |")
    return "\n".join(lines)


def _cell(planned: list[str], runs: Runs, links: bool) -> str:
    """How many of the planned runs of a cell are finished, and their names."""
    done = [run_id for run_id in planned if run_id in runs.table.index]
    names = ", ".join(_name(run_id, runs, links) for run_id in done)
    return (f"{len(done)} of {len(planned)}" + (f": {names}" if done else "")) if planned else UNKNOWN


def _name(run_id: str, runs: Runs, links: bool) -> str:
    """A run within its cell of the grid."""
    variant = runs.study.variants[run_id]
    name = f"`{run_id.removeprefix(f'{variant.strategy}-n{variant.train_size:05d}-')}`"
    has_page = links and (paths.run_folder(runs.study.name, run_id) / "train.ipynb").exists()
    return f"[{name}]({RUN_PAGES}/{run_id}.html)" if has_page else name
