"""The execution of a study: check, driver (of Snakemake), steps (run by it), locks, status, forecast."""
