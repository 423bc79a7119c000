"""Which rows of a table a figure or a printed table of the comparison shows: all would be too many to read."""

import pandas as pd

FEW = 5  # strategies that one picture can tell apart


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest budget."""
    return table[table["train_size"] == table["train_size"].max()]


def few(table: pd.DataFrame, by: str, baseline: str, count: int = FEW) -> pd.DataFrame:
    """All rows, or, of more than `count`, those of the strategy `baseline` and the lowest and highest in `by`."""
    if len(table) <= count:
        return table
    others = table[table["strategy"] != baseline].sort_values(by, kind="stable")
    half = (count - 1) // 2
    chosen = pd.concat([table[table["strategy"] == baseline].head(1), others.head(half), others.tail(half)])
    return chosen.loc[~chosen.index.duplicated()]
