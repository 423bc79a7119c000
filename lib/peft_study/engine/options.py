"""What the options that go to Snakemake ask for, as far as it matters before Snakemake starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from peft_study.errors import StudyError


@dataclass(frozen=True)
class Options:
    """What `given`, the words as they were typed, ask for.

    compare_only: runs that are not done are left out. talkative: Snakemake's own list is wanted. elsewhere: a profile
    or an executor of the user's says where the runs run; `profile` and `logger`: one is named. forced: what is to be
    made anew. targets: what alone is to be made. cores: how many may be used, where that is said.
    """

    given: tuple[str, ...] = ()
    dry_run: bool = False
    compare_only: bool = False
    talkative: bool = False
    elsewhere: bool = False
    profile: bool = False
    logger: bool = False
    forced: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    cores: int | None = None


def read(given: Sequence[str]) -> Options:
    """What the words `given` ask for; raises `StudyError` for what Snakemake does not know.

    Snakemake's own parser reads them, so that every spelling counts that it takes (-np, --dry-r, -c1).
    """
    if set(given) <= {"-n", "--dry-run"}:  # instantly: the parser takes more than a second to load
        return Options(tuple(given), dry_run=bool(given))
    from snakemake.cli import get_argument_parser
    from snakemake.exceptions import CliException

    def refuse(message: str) -> NoReturn:
        raise StudyError(
            f"options {' '.join(given)!r}: {message.rstrip('.')}; ./run_all.sh --help tells the usual ones"
        )

    parser = get_argument_parser()
    parser.error = refuse
    try:
        asked = parser.parse_args(list(given))
    except CliException as error:
        refuse(str(error))
    cores = asked.jobs if asked.cores is None else asked.cores
    if cores is not None and cores < 1:  # Snakemake would wait for a core without end
        refuse(f"cores = {cores}, where a run needs one")
    if unknown := [pair for pair in asked.config or () if pair not in ("allow_missing=0", "allow_missing=1")]:
        refuse(f"--config {unknown[0]} says nothing to this project, which knows allow_missing=1")
    return Options(
        tuple(given),
        asked.dryrun,
        (asked.config or [""])[-1] == "allow_missing=1",
        bool(asked.printshellcmds or asked.quiet or asked.verbose),
        bool(asked.profile or asked.executor),
        bool(asked.profile),
        bool(asked.logger),
        tuple(sorted(asked.forcerun)),
        tuple(asked.targets),
        cores,
    )
