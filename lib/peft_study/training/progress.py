"""How a slow step says what it does and how far it is: it calls a `Tell`, and whoever shows it brings one."""

from collections.abc import Callable

Tell = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is to do


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""
