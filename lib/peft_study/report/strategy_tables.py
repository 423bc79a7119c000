"""The table of the strategy checks as printed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from peft_study.strategies.table import label
from peft_study.text import UNKNOWN


def strategy_checks(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of `check_all` as text; a dash where a strategy failed before it was measured.

    The operations of a step are shares of those of full fine-tuning, which is the first row.
    """
    measured = [{"works": "no" if row["fault"] else "yes"} | _measured(row, rows[0]) for row in rows]
    return pd.DataFrame(measured, pd.Index([label(row["strategy"]) for row in rows], name="strategy")).fillna(UNKNOWN)


def _measured(row: Mapping[str, Any], full: Mapping[str, Any]) -> dict[str, str]:
    """Measurements as text; nothing where there are none."""
    if "start" not in row:
        return {}
    apart = "fails" if row["unmerged"] else "no" if row["adapter"] else "no adapter"
    return {
        "start": f"{row['start']:.0e}" if row["start"] else "0",
        "loss": f"{row['loss_before']:.3f} → {row['loss_after']:.3f}",
        "trainable": f"{row['trainable_backbone'] + row['trainable_adapter']:,}",
        "merges": apart if row["merged"] is None else "yes",
        "kB": f"{row['model_bytes'] / 1000:,.0f}",
        "step": f"{row['flops'] / full['flops']:.2f}" if "flops" in full else UNKNOWN,
    }
