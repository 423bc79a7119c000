"""A study of parameter-efficient fine-tuning for text classification: the library that the notebooks call.

Read it in this order. Every package imports only from those above it; its docstring names the first module to read.

    errors, paths, text          one error class; folders; numbers as text
    files, git                   atomic writes; commits
    statistics                   intervals, paired tests and verdicts, calibration: arrays in, numbers out
    strategies                   trainable parameters or adapters: `table.STRATEGIES` is the list
    study                        a variant (one run) and the matrix of runs in study.yaml
    data                         texts and labels: datasets, budgets (`reviews`), tokens
    training                     the model with its adapter (`model`), the Trainer, predictions, costs
    records                      a run's folder: layout, writing, reading
    analysis                     tables from records: scores, differences, costs, calibration, slices, rates, curves
    report                       figures, printed tables and sentences of the report, and its numbers
    widgets                      the interactive pieces of the notebooks in JupyterLab
    engine                       the command line, Snakemake, locks, status, forecast; it does not import the widgets

From study.yaml to a number: study.study, data.reviews, strategies.table, training.model, training.trainer,
records.write, records.read, analysis.accuracy.
"""

import os

# Downloads use plain HTTP, which proxies and mirrors support and the tests cover; Xet, the alternative, contacts
# further servers. The variable is read once, when the hub's client is first imported.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
