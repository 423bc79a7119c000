"""The commands behind `run_all.sh` and the Snakefile: `python -m peft_study COMMAND STUDY`."""

import argparse
import os
import sys
import traceback
from pathlib import Path

from peft_study.errors import StudyError, message, one_line

STEPS = {
    "explore": "execute notebook 01",
    "train": "execute notebook 02 for one run",
    "compare": "execute notebook 03, or 04 for a study that sweeps learning rates",
    "report": "render the executed comparison as HTML and PDF",
    "pages": "render the executed notebooks 01 and 02 as the pages that the report links to",
}
COMMANDS = {
    "run": "run the whole study with Snakemake; further options go to it",
    "label": "label your own texts with the model of a finished run",
    "strategies": "check which strategies work on an encoder",
} | STEPS


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns 0, 1 for a failure, 2 for what is refused before anything starts, 130 for Ctrl-C, 141 for a closed pipe.
    """
    options = _parser().parse_args(arguments)
    try:
        code = _run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; what is still buffered would raise at the end again
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        return 141
    return code


def _run(options: argparse.Namespace) -> int:
    try:
        if options.command in ("label", "strategies"):
            from peft_study.engine import tools

            (tools.label if options.command == "label" else tools.strategies)(options)
            return 0
        study = options.study.removeprefix("runs/").rstrip("/")  # a shell completes it to a path
        if options.command in STEPS:
            return _step(options.command, study, *([options.run] if options.command == "train" else []))
        from peft_study.engine import driver

        driver.run(study, options.options)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _step(command: str, *arguments: str) -> int:
    """Run a step of a study; a failure ends with one line for the closing list."""
    from peft_study.engine import steps

    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both streams go to one log
    try:
        getattr(steps, command)(*arguments)
    except StudyError as error:
        fault = one_line(error)
    except Exception as error:  # a fault of ours
        traceback.print_exc()
        fault = message(type(error).__name__, str(error))
    else:
        return 0
    print(f"{steps.FAILURE}{fault}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m peft_study", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        prog = f"./run_all.sh {name}" if name in ("label", "strategies") else None
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False, prog=prog)
        if name == "label":
            _add_label(command)
        elif name == "strategies":
            from peft_study.strategies.table import STRATEGIES

            command.formatter_class = argparse.RawDescriptionHelpFormatter
            labels = (f"  {key:<{max(map(len, STRATEGIES))}}  {method.label}" for key, method in STRATEGIES.items())
            command.epilog = "\n".join(["strategies (notebooks/A_every_strategy.ipynb describes them):", *labels])
            command.add_argument("strategies", metavar="NAME", nargs="*", help="strategies to check; by default all")
            command.add_argument("--model", help="the encoder: bundled:NAME, a folder, or a hub name")
        else:
            command.add_argument("study", metavar="STUDY", help="a folder of runs/ with a study.yaml")
        if name == "train":
            command.add_argument("run", metavar="RUN", help="the name of a run, such as lora-n01000-s42")
        if name == "run":
            command.add_argument("options", metavar="...", nargs=argparse.REMAINDER, help="options of Snakemake")
    return parser


def _add_label(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="STUDY/RUN", help="a finished run, such as quick/lora-n02000-s42")
    command.add_argument("table", metavar="TABLE", type=Path, nargs="?", help="CSV, TSV, JSON, JSON lines or parquet")
    command.add_argument("-o", "--output", type=Path, help="by default texts.labelled.csv beside texts.csv")
    command.add_argument(
        "--text-column", action="append", default=[], metavar="NAME", help="by default that of the run; twice for pairs"
    )
    command.add_argument("--encoding", metavar="NAME", help="of a text file, such as cp1252; by default detected")
    command.add_argument("--delimiter", metavar="CHARACTER", help="of a CSV or TSV file; by default detected")
    command.add_argument("--force", action="store_true", help="replace an existing output")
    command.add_argument("--merged", metavar="FOLDER", type=Path, help="write a model that needs transformers only")


if __name__ == "__main__":
    sys.exit(main())
