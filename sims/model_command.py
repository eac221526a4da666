"""`python -m sims model`: search every order of what a few nodes do, and say what was found."""

import argparse
from typing import Any

from sims.model import OPERATIONS, Found, Model


def add_parser(commands: Any) -> None:
    """Add the options of the command."""
    parser = commands.add_parser("model", help="search every order of what a few nodes do")
    parser.add_argument("--nodes", type=int, choices=(2, 3), default=2)
    parser.add_argument("--operations", type=int, default=1, help="of users and faults, at most")
    parser.add_argument("--of", help=f"their kinds, of {','.join(OPERATIONS)}; all if not given")
    parser.add_argument("--depth", type=int, default=1000, help="steps, at most")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which it stops")
    parser.add_argument("--unlinked", action="store_true", help="begin before nodes are linked")


def run(options: argparse.Namespace) -> int:
    """Search, print what was found and how far the search went; return the exit status."""
    kinds = OPERATIONS if options.of is None else tuple(options.of.split(","))
    for kind in kinds:
        if kind not in OPERATIONS:
            raise ValueError(f"expected operations of {', '.join(OPERATIONS)}, found {kind}")
    if min(options.operations, options.depth, options.minutes) < 0:
        raise ValueError("expected operations, depth and minutes from 0 on")
    model = Model(options.nodes, operations=kinds, is_linked=not options.unlinked)
    found = model.search(
        options.operations, depth_max=options.depth, seconds_max=60 * options.minutes
    )
    for line in told(found):
        print(line)
    return 0 if found.failure is None else 1


def told(found: Found) -> list[str]:
    """Return the lines that tell what was found."""
    lines = [
        f"worlds           {found.worlds}, of {found.node_states} states of single nodes",
        f"inputs           {found.inputs}",
        f"looked at until  {found.quiet} were quiet",
        f"depth            {found.depth} steps",
        f"seconds          {found.seconds:.0f}",
        f"cut off          {f'{found.cut_off} worlds' if found.cut_off else 'nothing'}",
        f"outcome          {found.failure or 'nothing is wrong'}",
    ]
    steps = [f"{i:3} {' '.join(map(str, step))}" for i, step in enumerate(found.steps, 1)]
    return [*lines, *steps]
