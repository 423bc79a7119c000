"""How fast the study is: `python -m benchmarks` sets it beside the obvious way, and beside what the machine can do."""
