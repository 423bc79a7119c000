"""Tables from records: a file for each topic of the report."""
