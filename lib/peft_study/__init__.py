"""Helpers of the study: what two notebooks need, or a test should touch.

Imports point one way, lowest first: errors, paths; strategies; config; folders, assets; data, tokenization;
evaluation, training; records, results; statistics, comparison; claims, expectations, tables, plots, show, widgets. The
engine (batch, driver, status) stands beside them. What reading a study needs imports nothing heavy, so it is instant.
"""
