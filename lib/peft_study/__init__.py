"""Helpers of the study: what two notebooks need, or a test should touch.

Imports point one way: widgets, plots, statistics, records -> training, evaluation -> strategies, data -> assets ->
config -> paths. Nothing heavy is imported here, so that `import peft_study.config` is instant.
"""
