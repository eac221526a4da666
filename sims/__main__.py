"""`python -m sims run NAME|FILE`, `sweep --seeds 0-9`, `compare OLD NEW`, `report DIR`, ..."""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

from phextsync.errors import PhextsyncError
from sims import branches, directories, directory_schedules, model_command, sweep
from sims.arguments import count, seeds
from sims.scenarios import LARGE, Outcome, names, run, run_scenario, shrunk, small
from sims.swarm import swarmed
from sims.tables import (
    DIRECTORIES,
    STEPS,
    Scenario,
    Tier,
    built_in,
    is_of_directories,
    read_scenarios,
    read_schedule,
    schedule_to_json,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit status."""
    options = _parser().parse_args(arguments)
    gc.freeze()  # a run makes little garbage in cycles: looking for it took a tenth of the time
    gc.set_threshold(100_000, 50, 50)
    try:
        return _COMMANDS[options.command](options)
    except (ValueError, OSError, PhextsyncError) as error:
        print(f"sims: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sims")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run one scenario from one seed, or a stored schedule")
    one.add_argument("scenario", metavar="NAME|FILE", help="of scenarios.toml, or a JSON file")
    one.add_argument("--seed", type=int, default=None, help="0, or as the file says")
    one.add_argument("--tier", choices=get_args(Tier), default="world", help="what it runs on")
    one.add_argument("--trace", type=Path, help="write a line for everything that happens")
    one.add_argument("--store", type=Path, help="write the schedule, to be run again or shrunk")
    one.add_argument("--shrink", action="store_true", help="store only what it fails with")
    many = commands.add_parser("sweep", help="run many seeds of many scenarios")
    many.add_argument("--scenarios", help="names with commas between; all small ones if not given")
    many.add_argument("--tier", choices=("world", "memory"), default="world")
    many.add_argument("--seeds", type=seeds, default="0-9", help="such as 0-99")
    many.add_argument("--jobs", type=count, default=os.cpu_count() or 1)
    many.add_argument("--json", type=Path, help="write every outcome")
    many.add_argument("--executor", help="a Dask cluster, dask://host:port; else processes")
    two = commands.add_parser("compare", help="compare what two sweeps wrote with --json")
    two.add_argument("old", type=Path)
    two.add_argument("new", type=Path)
    paper = commands.add_parser("report", help="write tables and figures into a folder")
    paper.add_argument("folder", type=Path)
    paper.add_argument("sweeps", type=Path, nargs="*", help="what sweeps wrote; none: run some")
    paper.add_argument("--seeds", type=seeds, default="0-9", help="when it runs them itself")
    paper.add_argument("--jobs", type=count, default=os.cpu_count() or 1)
    model_command.add_parser(commands)
    reach = commands.add_parser("branches", help="tell which branches each scenario reaches")
    reach.add_argument("--scenarios", help="names with commas between; all small ones if not given")
    reach.add_argument("--seeds", type=seeds, default="0-1", help="such as 0-9")
    reach.add_argument("--never", type=Path, help="write the branches that none reaches")
    for command in (one, many):
        command.add_argument("--swarm", action="store_true", help="with any of all faults besides")
    for command in (one, many, paper, reach):
        command.add_argument("--file", type=Path, help="a TOML file of scenarios of your own")
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
    if name.endswith(".toml"):
        own = ", ".join(read_scenarios(Path(name)))
        raise ValueError(f"{name}: expected one of its scenarios ({own}) and --file {name}")
    if name.endswith(".json") or os.sep in name:
        if options.tier != "world":
            raise ValueError(f"expected a scenario by its name on this tier, found {name}")
        if is_of_directories(Path(name)):
            schedule = directory_schedules.read_stored(Path(name))
            failure, digest = directories.run_schedule(schedule, trace)
            return Outcome(name, schedule.seed, failure, digest, 0.0, {})
        scenario, stored = read_schedule(Path(name))
        return run_scenario(name, scenario, stored if seed is None else seed, trace)
    known = _known(options)
    _names(name, known, options.file)
    if options.store is not None:
        if name == STEPS:
            raise ValueError(f"expected a scenario with a schedule of faults, found {name}")
        options.store.write_text(_stored(name, seed or 0, known, is_shrunk=options.shrink))
    return run(name, seed or 0, trace, tier=options.tier, known=known)


def _stored(name: str, seed: int, known: Mapping[str, Scenario], *, is_shrunk: bool) -> str:
    """Return the schedule of a run as it is stored."""
    if name != DIRECTORIES:
        return schedule_to_json(shrunk(known[name], seed) if is_shrunk else known[name], seed)
    schedule = directory_schedules.drawn(seed)
    failure, _ = directories.run_schedule(schedule)
    if is_shrunk and failure is not None:
        schedule = directories.shrunk(schedule, failure)
    return directory_schedules.to_json(schedule, failure or "")


def _sweep(options: argparse.Namespace) -> int:
    known = _known(options)
    return sweep.sweep(
        _wanted(options, known),
        options.seeds,
        tier=options.tier,
        jobs=options.jobs,
        where=options.executor,
        json_file=options.json,
        known=known,
        file=options.file,
        is_swarm=options.swarm,
    )


def _compare(options: argparse.Namespace) -> int:
    sweep.compare(options.old, options.new)
    return 0


def _report(options: argparse.Namespace) -> int:
    from sims import report  # needs matplotlib, which the other commands do not

    report.write(
        options.folder,
        options.sweeps,
        known=_known(options),
        names=_small(options),
        large=LARGE[:1] if options.file is None else (),
        seeds=options.seeds,
        jobs=options.jobs,
    )
    return 0


def _branches(options: argparse.Namespace) -> int:
    known = _known(options)
    reached, failures = branches.measure(_wanted(options, known), options.seeds, known)
    for line in (*branches.table(reached), *failures):
        print(line)
    if options.never is not None:
        options.never.write_text("".join(f"{branch}\n" for branch in reached.never))
    return 1 if failures else 0


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "run": _run_one,
    "sweep": _sweep,
    "compare": _compare,
    "report": _report,
    "model": model_command.run,
    "branches": _branches,
}


def _known(options: argparse.Namespace) -> Mapping[str, Scenario]:
    """Return the scenarios that can be named; one of the user's own file comes first."""
    own = {} if options.file is None else read_scenarios(options.file)
    known = {**built_in(), **own}
    return swarmed(known, options.tier) if getattr(options, "swarm", False) else known


def _wanted(options: argparse.Namespace, known: Mapping[str, Scenario]) -> list[str]:
    """Return the names that were given, else those of what is run then."""
    if options.scenarios is None:
        return _small(options)
    return _names(options.scenarios, known, options.file)


def _small(options: argparse.Namespace) -> list[str]:
    """Return the names of what is run when none are given: of the user's own file, if any."""
    tier: Tier = getattr(options, "tier", "world")  # reports are of the world
    if options.file is None:
        return small(tier)
    own = read_scenarios(options.file)
    return [name for name, scenario in own.items() if scenario.tier in (None, tier)]


def _names(text: str, known: Mapping[str, Scenario], file: Path | None) -> list[str]:
    for name in text.split(","):
        if name not in names(known):
            own = "" if file is None else f"one of {file} ({', '.join(read_scenarios(file))}) or "
            among = ", ".join(names(built_in()))
            raise ValueError(f"expected {own}one of {among}, found {name}")
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
