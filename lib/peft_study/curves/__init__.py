"""Learning curves: how many labels a strategy takes."""

from peft_study.curves import claims, tables

__all__ = ["claims", "tables"]
