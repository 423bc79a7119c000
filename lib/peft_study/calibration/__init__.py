"""How far the probabilities of finished runs can be trusted."""

from peft_study.calibration import claims, plots, tables

__all__ = ["claims", "plots", "tables"]
