"""The commands beside the studies: label texts with a finished run, check strategies on an encoder."""

import argparse
import sys
import warnings

from tqdm import tqdm

from peft_study.errors import StudyError
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.text import UNKNOWN


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
        screen = sys.stderr.isatty()
        often = 0.1 if screen else 30.0  # seconds; in a log, now and then
        with tqdm(unit=" texts", leave=not screen, delay=1, mininterval=often, maxinterval=often) as bar:

            def tell(what: str, done: int, total: int) -> None:
                if bar.total is None:
                    bar.total = total
                    bar.unpause()  # its time begins here, after the model has loaded
                bar.update(done - bar.n)

            how = {name: getattr(options, name) for name in ("output", "text_column", "encoding", "force")}
            delimiter = options.delimiter and options.delimiter.replace("\\t", "\t")  # as a shell passes a tab on
            lines = label_table(run, options.table, **how, delimiter=delimiter, tell=tell)
        print(*lines, sep="\n")


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
