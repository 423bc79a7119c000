"""What runs a study: check, driver (of Snakemake), steps (that it runs), locks, status, forecast."""
