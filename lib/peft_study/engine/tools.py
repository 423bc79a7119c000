"""The commands beside the studies: label texts with a finished run, check strategies on an encoder."""

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from tqdm import tqdm

from peft_study.errors import StudyError
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.text import UNKNOWN, duration
from peft_study.training.prediction import Tell

TENTHS = 10  # lines of progress where there is no terminal


def label(options: argparse.Namespace) -> None:
    """Label a table, write the merged model, or both; print what was done."""
    warnings.simplefilter("ignore", FutureWarning)  # of libraries among themselves
    from peft_study.records.classifier import find_run, save_merged
    from peft_study.records.labelling import label_table

    run = find_run(options.run)
    if options.table is None and options.merged is None:
        raise StudyError("nothing to do: name a table of texts, or a folder for the model (--merged)")
    if options.merged:
        save_merged(run, options.merged, options.force)
        print(f"{options.merged}: a model that needs transformers only; its README.md shows how to use it")
    if options.table:
        delimiter = options.delimiter and options.delimiter.replace("\\t", "\t")
        how = (options.text_column, options.encoding, delimiter, options.force)
        with _progress() as tell:
            labelled = label_table(run, options.table, options.output, *how, tell)
        print(*labelled.summary(), sep="\n")


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on a terminal, a line per tenth elsewhere."""
    bar, times = tqdm(unit=" texts", disable=not sys.stderr.isatty(), leave=False), list[float]()

    def tell(what: str, done: int, total: int) -> None:
        times.append(perf_counter())
        if bar.total is None:
            bar.reset(total)  # its time begins here, after the model has loaded
        before, bar.n = bar.n, done
        bar.refresh()
        if bar.disable and done * TENTHS // total > before * TENTHS // total:
            left = duration((times[-1] - times[0]) * (total - done) / done)
            print(f"{done:,} of {total:,} texts labelled, {left} left", file=sys.stderr, flush=True)

    with bar:
        yield tell


def strategies(options: argparse.Namespace) -> None:
    """Check strategies on an encoder, a printed line each."""
    warnings.simplefilter("ignore", FutureWarning)
    from peft_study.analysis.strategy_checks import check_all

    model = options.model or Variant.model_fields["model"].default
    width = max(map(len, STRATEGIES))
    for number, row in enumerate(check_all(model, options.strategies or None)):
        if number == 0:
            print(f"{'strategy':<{width}}  works  {'trainable':>11}  seconds")
        trainable = f"{row['trainable']:,}" if "trainable" in row else UNKNOWN
        works, fault = ("no", f"  {row['fault']}") if row["fault"] else ("yes", "")
        print(f"{row['strategy']:<{width}}  {works:<5}  {trainable:>11}  {row['seconds']:7.1f}{fault}", flush=True)
    print(
        "A check shows that a strategy runs, not how accurate it is. To find its learning rate, copy runs/rates, name "
        "the strategy and some rates in the copy's study.yaml, and run that study."
    )
