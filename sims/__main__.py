"""`python -m sims sweep --seeds 0-99`."""

import argparse
import sys

from sims import sweep


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """Run what the command line asks for and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sims")
    parser.add_argument("command", choices=["sweep"])
    parser.add_argument("--seeds", type=_seeds, default=range(100), help="such as 0-99")
    return sweep.main(parser.parse_args().seeds)


if __name__ == "__main__":
    sys.exit(main())
