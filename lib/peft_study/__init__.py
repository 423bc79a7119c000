"""A study of parameter-efficient fine-tuning for text classification: the library that the notebooks call.

To read it, follow this order. Every package imports only from those above it; its own docstring says where to begin.

    errors, paths, text, files   one error class; where things are; numbers as text; whole or no files
    statistics                   intervals, paired tests and verdicts, calibration: arrays in, numbers out
    strategies                   what trains, or which adapter is added: `table.STRATEGIES` is the list
    study                        what is asked: a variant (one run) and the matrix of runs in study.yaml
    data                         texts and labels: datasets, budgets (`reviews`), tokens
    training                     the model with its adapter (`model`), the Trainer, predictions, and what they cost
    records                      what a run leaves in its folder: layout, writing, reading
    analysis                     tables from records: accuracy, differences, costs, calibration, slices, rates, curves
    report                       figures, printed tables and sentences of the report, and its numbers
    widgets                      the interactive pieces of the notebooks in JupyterLab
    engine                       the command line, Snakemake, locks, status, forecast; it does not import the widgets

From study.yaml to a number: study.study, data.reviews, strategies.table, training.model, training.trainer,
records.write, records.read, analysis.accuracy.
"""

import os

# Downloads go by plain HTTP, which proxies and mirrors pass and our tests cover. The hub's other way (Xet) talks to
# further servers. It is read once, when the hub's client is first imported.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
