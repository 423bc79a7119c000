"""What training and using the models cost."""

from peft_study.ledger import claims, tables

__all__ = ["claims", "tables"]
