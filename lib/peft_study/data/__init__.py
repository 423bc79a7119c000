"""Texts and labels, from a name to a run's training, validation and test sets."""
