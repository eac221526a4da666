"""`python -m sims run NAME|FILE`, `sweep --seeds 0-99`, `compare OLD NEW`, `report DIR`."""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from phextsync.errors import PhextsyncError
from sims import sweep
from sims.scenarios import (
    NAMES,
    SCENARIOS,
    Outcome,
    Tier,
    read_schedule,
    run,
    run_scenario,
    schedule_to_json,
    small,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit status."""
    options = _parser().parse_args(arguments)
    gc.freeze()  # a run makes little garbage in cycles: looking for it took a tenth of the time
    gc.set_threshold(100_000, 50, 50)
    try:
        match options.command:
            case "run":
                return _run_one(options)
            case "sweep":
                return sweep.sweep(
                    options.scenarios or small(options.tier),
                    options.seeds,
                    tier=options.tier,
                    jobs=options.jobs,
                    where=options.executor,
                    json_file=options.json,
                )
            case "compare":
                sweep.compare(options.old, options.new)
            case "report":
                from sims import report  # needs matplotlib, which the other commands do not

                report.write(options.folder, options.sweeps, options.seeds, options.jobs)
    except (ValueError, OSError, PhextsyncError, argparse.ArgumentTypeError) as error:
        print(f"sims: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sims")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run one scenario from one seed, or a stored schedule")
    one.add_argument("scenario", metavar="NAME|FILE", help=", ".join(NAMES))
    one.add_argument("--seed", type=int, default=None, help="0, or as the file says")
    one.add_argument("--tier", choices=get_args(Tier), default="world", help="what it runs on")
    one.add_argument("--trace", type=Path, help="write a line for everything that happens")
    one.add_argument("--store", type=Path, help="write the schedule, to be run again or shrunk")
    many = commands.add_parser("sweep", help="run many seeds of many scenarios")
    many.add_argument("--scenarios", type=_names, help="all small ones if not given")
    many.add_argument("--tier", choices=("world", "memory"), default="world")
    many.add_argument("--seeds", type=_seeds, default=range(10), help="such as 0-99")
    many.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    many.add_argument("--json", type=Path, help="write every outcome")
    many.add_argument("--executor", help="a Dask cluster, dask://host:port; else processes")
    two = commands.add_parser("compare", help="compare what two sweeps wrote with --json")
    two.add_argument("old", type=Path)
    two.add_argument("new", type=Path)
    paper = commands.add_parser("report", help="write tables and figures into a folder")
    paper.add_argument("folder", type=Path)
    paper.add_argument("sweeps", type=Path, nargs="*", help="what sweeps wrote; none: run some")
    paper.add_argument("--seeds", type=_seeds, default=range(10), help="when it runs them itself")
    paper.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser


def _run_one(options: argparse.Namespace) -> int:
    lines: list[str] = []
    trace = None if options.trace is None else lines.append
    outcome = _outcome(options, trace)
    if options.trace is not None:
        options.trace.write_text("\n".join(lines))
    for name, value in outcome.metrics.items():
        print(f"{name:18} {value}")
    print(f"{'digest':18} {outcome.digest}")
    print(f"{'outcome':18} {outcome.failure or 'passed'}")
    return 0 if outcome.failure is None else 1


def _outcome(options: argparse.Namespace, trace: Callable[[str], None] | None) -> Outcome:
    name, seed = options.scenario, options.seed
    if name.endswith(".json"):
        if options.tier != "world":
            raise ValueError(f"expected a scenario by its name on this tier, found {name}")
        scenario, stored = read_schedule(Path(name))
        return run_scenario(name, scenario, stored if seed is None else seed, trace)
    _names(name)
    if options.store is not None:
        if name not in SCENARIOS:
            raise ValueError(f"expected a scenario with a schedule of faults, found {name}")
        options.store.write_text(schedule_to_json(SCENARIOS[name], seed or 0))
    return run(name, seed or 0, trace, tier=options.tier)


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
