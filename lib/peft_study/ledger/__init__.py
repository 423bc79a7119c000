"""What training and using the models cost."""

from peft_study.ledger import claims, speed, tables

__all__ = ["claims", "speed", "tables"]
