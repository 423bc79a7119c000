"""The record of a run: how its folder is laid out, written and read."""
