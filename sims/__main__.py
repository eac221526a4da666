"""`python -m sims run SCENARIO --seed N`, `sweep --seeds 0-99`, `compare OLD NEW`."""

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

from phextsync.errors import PhextsyncError
from sims import sweep
from sims.scenarios import NAMES, Tier, run, small


def main() -> int:
    """Run what the command line asks for and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sims")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run one scenario from one seed")
    one.add_argument("scenario", choices=NAMES)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--tier", choices=get_args(Tier), default="world", help="what it runs on")
    one.add_argument("--trace", type=Path, help="write a line for everything that happens")
    many = commands.add_parser("sweep", help="run many seeds of many scenarios")
    many.add_argument("--scenarios", type=_names, help="all small ones if not given")
    many.add_argument("--tier", choices=("world", "memory"), default="world")
    many.add_argument("--seeds", type=_seeds, default=range(10), help="such as 0-99")
    many.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    many.add_argument("--json", type=Path, help="write every outcome")
    two = commands.add_parser("compare", help="compare what two sweeps wrote with --json")
    two.add_argument("old", type=Path)
    two.add_argument("new", type=Path)
    options = parser.parse_args()
    if options.command == "compare":
        sweep.compare(options.old, options.new)
        return 0
    if options.command == "sweep":
        return sweep.sweep(
            options.scenarios or small(options.tier),
            options.seeds,
            tier=options.tier,
            jobs=options.jobs,
            json_file=options.json,
        )
    return _run_one(options.scenario, options.seed, options.trace, options.tier)


def _run_one(scenario: str, seed: int, trace: Path | None, tier: Tier) -> int:
    lines: list[str] = []
    try:
        outcome = run(scenario, seed, None if trace is None else lines.append, tier=tier)
    except PhextsyncError as error:
        print(f"python -m sims: {error}", file=sys.stderr)
        return 2
    if trace is not None:
        trace.write_text("\n".join(lines))
    for name, value in outcome.metrics.items():
        print(f"{name:17} {value}")
    print(f"{'digest':17} {outcome.digest}")
    print(f"{'outcome':17} {outcome.failure or 'passed'}")
    return 0 if outcome.failure is None else 1


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(NAMES)}, found {name}")
    return names


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    sys.exit(main())
