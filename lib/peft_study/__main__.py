"""The commands behind `run_all.sh` and the Snakefile: `python -m peft_study COMMAND STUDY`."""

import argparse
import sys
import traceback

from peft_study.errors import StudyError, message, one_line

_STEPS = ("explore", "train", "compare", "report", "pages")


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0, 1 for a failure, 2 for what is refused before anything starts, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    options.study = options.study.removeprefix("runs/").rstrip("/")  # a shell completes it to a path
    try:
        if options.command in _STEPS:
            _step(options)
        else:
            _before_and_after(options)
    except StudyError as error:
        told = one_line(error) if options.command in _STEPS else error  # the last line of a step's log
        print(f"error: {told}", file=sys.stderr)
        return 1 if options.command in _STEPS else 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _before_and_after(options: argparse.Namespace) -> None:
    """The commands that must answer at once: they import neither torch nor papermill."""
    from peft_study.engine import driver, status

    if options.command == "check":
        driver.check(options.study, options.dry_run)
    elif options.command == "run":
        driver.run(options.study, options.options)
    else:
        print(status.status(options.study))


def _step(options: argparse.Namespace) -> None:
    """The steps of a study. A fault of ours shows its traceback, and one last line for the closing list."""
    from peft_study.engine import steps as batch

    try:
        if options.command == "train":
            batch.train(options.study, options.run)
        else:
            getattr(batch, options.command)(options.study)
    except StudyError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise StudyError(message(type(error).__name__, str(error))) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m peft_study", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_ in {
        "check": "refuse a study that cannot be run",
        "run": "run the whole study with Snakemake; further options go to it",
        "status": "list what is done, what failed and where to look",
        "explore": "execute notebook 01",
        "train": "execute notebook 02 for one run",
        "compare": "execute notebook 03, or 04 for a study that sweeps learning rates",
        "report": "render the executed comparison as HTML and PDF",
        "pages": "render the executed notebooks 01 and 02 as the pages that the report links to",
    }.items():
        command = commands.add_parser(name, help=help_, description=help_, allow_abbrev=False)
        command.add_argument("study", metavar="STUDY", help="a folder of runs/ with a study.yaml")
        if name == "train":
            command.add_argument("run", metavar="RUN", help="the name of a run, such as lora-n01000-s42")
        if name == "run":
            command.add_argument("options", metavar="...", nargs=argparse.REMAINDER, help="options of Snakemake")
        if name == "check":
            command.add_argument("--dry-run", action="store_true", help="leave out the model and the data")
    return parser


if __name__ == "__main__":
    sys.exit(main())
