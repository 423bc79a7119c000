"""Quantities in words, for a terminal and for prose."""


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    units = ((86_400, "days"), (3600, "hours"), (60, "minutes"))
    unit, name = next((pair for pair in units if seconds >= 2 * pair[0]), (1, "seconds"))
    return f"{seconds / unit:,.3g} {name}"


def size(count: float) -> str:
    """A number of bytes, as disks are sold and files are listed."""
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if count >= pair[0]), (1e3, "kB"))
    return f"{count / unit:,.3g} {name}"
