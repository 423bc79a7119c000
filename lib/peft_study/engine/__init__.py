"""The batch: checks, the driver of Snakemake, the steps that it runs, locks, status, forecast."""
