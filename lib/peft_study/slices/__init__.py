"""On which reviews strategies differ."""

from peft_study.slices import claims, plots, rules, tables

__all__ = ["claims", "plots", "rules", "tables"]
