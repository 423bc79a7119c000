"""Helpers of the study: what two notebooks need, or a test should touch.

A run is made by the modules at this level; imports point one way, lowest first: errors, paths; strategies; config;
folders, assets; data, tokenization; evaluation, training; records. What is told of finished runs starts at `results`
and has a package for each part of the report: comparison, curves, ledger, calibration, slices, rates, and trials for
the appendix. In each, `tables` computes, `claims` says it in sentences and `plots` draws. `statistics` serves all. The
engine (batch, driver, status) stands beside them. What reading a study needs imports nothing heavy, so it is instant.
"""

import os

# Downloads go by plain HTTP, which proxies and mirrors pass and our tests cover. The hub's other way (Xet) talks to
# further servers. It is read once, when the hub's client is first imported.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
