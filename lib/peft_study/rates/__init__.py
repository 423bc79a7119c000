"""Which learning rate each strategy deserves."""

from peft_study.rates import claims, plots, tables

__all__ = ["claims", "plots", "tables"]
