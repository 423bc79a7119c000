"""Every strategy, tried on an encoder."""

from peft_study.trials import attempts, claims

__all__ = ["attempts", "claims"]
