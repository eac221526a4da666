"""`python -m sims model`: search every order of what a few nodes do, and say what was found."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sims import claim_model, directory_model
from sims.model import OPERATIONS, Found, Model


def add_parser(commands: Any) -> None:
    """Add the options of the command."""
    parser = commands.add_parser("model", help="search every order of what a few nodes do")
    parser.add_argument("--directories", action="store_true", help="at two bound directories")
    parser.add_argument("--claims", action="store_true", help="of what three voters are asked")
    parser.add_argument("--nodes", type=int, choices=(2, 3), default=2)
    parser.add_argument("--operations", type=int, default=1, help="of users and faults, at most")
    parser.add_argument("--of", help="their kinds, with commas between; all if not given")
    parser.add_argument("--depth", type=int, default=1000, help="steps, at most")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which it stops")
    parser.add_argument("--unlinked", action="store_true", help="begin before nodes are linked")


def run(options: argparse.Namespace) -> int:
    """Search, print what was found and how far the search went; return the exit status."""
    if min(options.operations, options.depth, options.minutes) < 0:
        raise ValueError("expected operations, depth and minutes from 0 on")
    seconds_max = 60 * options.minutes
    if options.directories:
        acts = _kinds(options.of, directory_model.ACTS)
        runs = directory_model.search(options.operations, acts=acts, seconds_max=seconds_max)
        return _print(told_of_directories(runs), is_right=not runs.failures)
    if options.claims:
        said = claim_model.search(options.operations, seconds_max=seconds_max)
        return _print(told_of_claims(said), is_right=said.failure is None)
    kinds = _kinds(options.of, OPERATIONS)
    model = Model(options.nodes, operations=kinds, is_linked=not options.unlinked)
    found = model.search(options.operations, depth_max=options.depth, seconds_max=seconds_max)
    return _print(told(found), is_right=found.failure is None)


def _kinds(text: str | None, known: Sequence[str]) -> Sequence[str]:
    kinds = known if text is None else text.split(",")
    for kind in kinds:
        if kind not in known:
            raise ValueError(f"expected some of {', '.join(known)}, found {kind}")
    return kinds


def _print(lines: Iterable[str], *, is_right: bool) -> int:
    for line in lines:
        print(line)
    return 0 if is_right else 1


def told(found: Found) -> Iterator[str]:
    """Give the lines that tell what was found."""
    yield f"states of nodes  {found.node_states}"
    yield f"inputs           {found.inputs}"
    yield f"looked at until  {found.quiet} were quiet"
    yield from told_of_claims(found)


def told_of_claims(found: Found) -> Iterator[str]:
    """Give the lines that tell what was found."""
    yield f"worlds           {found.worlds}"
    yield f"depth            {found.depth} steps"
    yield from _told_of_time(found.seconds, f"{found.cut_off} worlds" if found.cut_off else "")
    yield f"outcome          {found.failure or 'nothing is wrong'}"
    yield from (f"{i:3} {' '.join(map(str, step))}" for i, step in enumerate(found.steps, 1))


def told_of_directories(found: directory_model.Found) -> Iterator[str]:
    """Give the lines that tell what was found."""
    yield f"runs             {found.runs}, of which in {found.idle} there was nothing to act on"
    yield from _told_of_time(found.seconds, f"{found.cut_off} plans" if found.cut_off else "")
    outcome = f"{len(found.failures)} failed" if found.failures else "nothing is wrong"
    yield f"outcome          {outcome}"
    yield from (f"{plan}: {failure}" for plan, failure in found.failures)


def _told_of_time(seconds: float, cut_off: str) -> Iterator[str]:
    yield f"processor        {seconds:.0f} s"
    yield f"cut off          {cut_off or 'nothing'}"
