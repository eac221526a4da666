"""The command about writers whose work waits until somebody accepts it."""

from typing import Annotated, Final

import typer

from phextsync.agents.plans import carry_out
from phextsync.agents.quarantine import Quarantine, accept_at
from phextsync.cli.common import (
    DATA,
    PAST,
    PHEXT,
    Data,
    Json,
    Phext,
    Within,
    again_as,
    counted,
    fail,
    refuse_unused,
    say,
    say_json,
    session,
    warn,
    whole_range_target,
)
from phextsync.cli.writers import NodeNames
from phextsync.control.quarantine import Quarantined
from phextsync.errors import CoordinateError
from phextsync.index import CoordinateRange
from phextsync.replica.taking_back import TakenBack, Writer

app = typer.Typer()

_LIST: Final = ("quarantine", "--list")
_END: Final = "Take no more; what was taken waits, and is listed until this is said again."


@app.command(rich_help_panel=PAST)
def quarantine(
    context: typer.Context,
    writer: Annotated[
        str,
        typer.Argument(
            metavar="[NODE/WRITER]",
            help="Whose: a label of a node; a node alone is all of it. With --accept also a "
            "coordinate: what waits there.",
        ),
    ] = "",
    range_: Within = "*",
    every: Annotated[
        bool, typer.Option("--all", help="Also what stands of it; else what comes.")
    ] = False,
    end: Annotated[bool, typer.Option("--end", help=_END)] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Bring back what waits.")] = False,
    shown: Annotated[bool, typer.Option("--list", help="List writers, and what waits.")] = False,
    data: Data = DATA,
    phext: Phext = PHEXT,
    as_json: Json = False,
) -> None:
    """Let wait what one writer puts in, until somebody accepts it; or list or accept what waits.

    All nodes that hold the range take it back as it comes; the writer's own node also puts back
    what the writer took out. What is accepted is where it stood.
    """
    if bool(writer) == shown or end + accept + every > 1:
        fail("expected a writer such as desk/mail with one of --all, --end, --accept; or --list")
    if not shown:
        refuse_unused(context, "without --list", "as_json")
    if accept and _is_range(writer):
        refuse_unused(context, "with a coordinate", "range_")
    with session(data) as asked:
        names = NodeNames(asked, data)
        name, where = whole_range_target(asked, phext, range_)
        held = Quarantine(asked, phext=name)
        if shown:
            _list(held, names, name, as_json=as_json)
        elif accept and _is_range(writer):
            there = f"those that are in quarantine, or were, waits at {writer}"
            _say_accepted(carry_out(asked, accept_at(phext, writer)), there)
        elif accept:
            _say_accepted(held.accept(names.writer(writer), where), f"{writer} waits here")
        elif end:
            _end(held, names.writer(writer), where, writer, name)
        else:
            held.begin(names.writer(writer), where, all_=every)
            warn(f"what {writer} puts in waits now: {again_as(*_LIST, phext=name)}")


def _end(held: Quarantine, by: Writer, where: str, writer: str, phext: str) -> None:
    """End it, and say how what waits comes back; `writer` is what the command calls it."""
    held.end(by, where)
    if rows := held.waiting(by, where):
        again = again_as("quarantine", writer, "--accept", phext=phext)
        warn(f"work in {counted(len(rows), 'scroll')} waits still: {again}")


def _say_accepted(rows: list[TakenBack], where: str) -> None:
    for row in rows:
        say(_line(row))
    warn(f"{counted(len(rows), 'scroll')} changed" if rows else f"nothing of {where}")


def _is_range(text: str) -> bool:
    try:
        CoordinateRange.parse(text)
    except CoordinateError:
        return False
    return True


def _list(asked: Quarantine, names: NodeNames, phext: str, *, as_json: bool) -> None:
    """List what waits; where that has ended, what waits still and what can be done."""
    rows = {row: asked.waiting(row.writer, row.range) for row in asked.writers()}
    over = {row: asked.waiting(row.writer, row.range) for row in asked.ended()}
    ended = {row: waiting for row, waiting in over.items() if waiting}
    if as_json:
        told = [_json(held, waiting, names) for held, waiting in rows.items()]
        say_json(told + [_json(held, waiting, names, True) for held, waiting in ended.items()])
        return
    for held, waiting in {**rows, **ended}.items():
        what = f"  ended; {counted(len(waiting), 'scroll')} waits still" if held in ended else ""
        say(f"{_told(held.writer, names)}  {held.range}{what}")
        for row in waiting:
            say(f"    {_line(row)}")
    for held in ended:
        for does, how in (("bring back", "--accept"), ("list no more", "--end")):
            words = ("quarantine", _told(held.writer, names), how)
            warn(f"{does} what waits: {again_as(*words, phext=phext, range_=str(held.range))}")


def _line(row: TakenBack) -> str:
    return f"{row.coordinate}  +{row.restored}  {row.restored_line}".rstrip()


def _told(writer: Writer, names: NodeNames) -> str:
    return names(writer.node) + ("" if writer.label is None else f"/{writer.label}")


def _json(
    held: Quarantined, waiting: list[TakenBack], names: NodeNames, ended: bool = False
) -> dict[str, object]:
    return {
        "writer": _told(held.writer, names),
        "range": str(held.range),
        "ended": ended,
        "waiting": [
            {"coordinate": str(r.coordinate), "characters": r.restored, "line": r.restored_line}
            for r in waiting
        ],
    }
