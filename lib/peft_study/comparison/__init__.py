"""Strategies side by side: the tables, the tables as printed, and the sentences that they support."""

from peft_study.comparison import claims, expectations, method, printed, provenance, reference, tables

__all__ = ["claims", "expectations", "method", "printed", "provenance", "reference", "tables"]
