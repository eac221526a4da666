"""The commands about what this node holds."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from phextsync.cli.common import (
    DATA,
    NODE,
    PHEXT,
    Data,
    Json,
    Phext,
    counted,
    fail,
    refuse_unused,
    say,
    say_json,
    session,
)
from phextsync.control import operations
from phextsync.control.status import HoldingRow, LeavingRow
from phextsync.index import CoordinateRange

app = typer.Typer()


@app.command(rich_help_panel=NODE)
def hold(
    context: typer.Context,
    ranges: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RANGE]...", help="Such as '1.5.*' or 2.1.1/1.1.1/1.1.1..3.1.1/1.1.1/1.1.1"
        ),
    ] = None,
    data: Data = DATA,
    phext: Phext = PHEXT,
    everything: Annotated[bool, typer.Option("--everything", help="Hold all of it.")] = False,
    placed: Annotated[
        bool, typer.Option("--placed", help="Hold what `place` gives this machine, now and later.")
    ] = False,
    nothing: Annotated[bool, typer.Option("--nothing", help="Hold none of it.")] = False,
    copies: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="On so many others' disks is what leaves this one.",
            show_default="all linked ones that hold it, 1 at least",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold these ranges of a phext and no others, or show what is held.

    What this node has of the rest stays, and is said here and by `status`, until enough others have
    it on their disks; then it leaves, and is deleted for nobody.
    """
    if sum((bool(ranges), everything, placed, nothing)) > 1:
        fail("expected ranges, --everything, --placed or --nothing, found more than one of them")
    if placed:
        refuse_unused(context, "with --placed, which has its own from `phextsync place`", "copies")
    wanted = ["*"] if everything else [str(CoordinateRange.parse(each)) for each in ranges or ()]
    with session(data) as asked:
        if placed:
            operations.FOLLOW.ask(asked, phext)
        elif wanted or nothing:
            operations.HOLD.ask(asked, phext, [*wanted], copies)
        elif copies is not None:
            fail("expected ranges with --copies, such as `phextsync hold '1.*' --copies 3`")
        rows = [row for row in operations.STATUS.ask(asked).holding if row.phext == phext]
    if as_json:
        say_json([asdict(row) for row in rows])
        return
    for row in rows:
        say(*lines_of(row))
    if not rows:
        say(f"all of {phext} is held")


def lines_of(row: HoldingRow) -> Iterator[str]:
    """Say what is held of a phext, and what of it is on its way out."""
    why = ", as placed" if row.follows else ""
    yield f"of {row.phext} is held{why}: {', '.join(row.held) or 'nothing'}"
    for leaving in row.leaving:
        yield from _leaving_lines(leaving)
    if row.going:
        yield f"  {counted(row.going, 'scroll')} of what was given up are being taken out"


def _leaving_lines(leaving: LeavingRow) -> Iterator[str]:
    kept_by = ", ".join(leaving.kept_by) or "none"
    yield (
        f"  {leaving.range} ({counted(leaving.scrolls, 'scroll')}) leaves once it is on "
        f"{counted(leaving.copies, 'other')}, now on {kept_by}"
    )
    for reason in leaving.reasons:
        yield f"    {reason}"
