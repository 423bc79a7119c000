"""`python -m benchmarks`: training and inference, the obvious way and ours, with ratios and their spread."""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Measure what the options ask for."""
    options = _parser().parse_args(arguments)
    from benchmarks.interleaved import measure  # once the options are right: torch takes seconds

    return measure(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--strategies", nargs="+", default=["full", "lora", "lora-all"], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps a round (default: 2)")
    parser.add_argument("--train-size", type=int, default=1000, help="reviews to draw batches from (default: 1000)")
    parser.add_argument("--reviews", type=int, default=128, help="reviews to classify a round (default: 128)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1, as a run of two on two cores)")
    parser.add_argument("--model", default="bundled:all-MiniLM-L6-v2")
    parser.add_argument("--dataset", default="bundled:imdb")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures there as well; reports quote runs/speed.json"
    )
    parser.add_argument("--study", metavar="NAME", help="measure this whole study instead, both ways, once each")
    parser.add_argument("--obvious-study", help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", choices=("obvious", "ours"), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
