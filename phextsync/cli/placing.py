"""The commands about which machines hold what."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.filesize import decimal

from phextsync.cli.common import (
    DATA,
    NODE,
    PHEXT,
    Data,
    Json,
    Phext,
    counted,
    fail,
    read_duration_s,
    say,
    say_json,
    session,
)
from phextsync.control import operations
from phextsync.control.answers import PlacedRange
from phextsync.control.status import PlacedRow, Status
from phextsync.index import CoordinateRange
from phextsync.ranges import holds

app = typer.Typer()

RepairAfter = Annotated[
    str,
    typer.Option(
        help="Silence of a machine, such as 10m, after which others hold what it held.",
        show_default="10m",
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1 << 20,
        help="MiB a second that a machine takes at most of what comes to it.",
        show_default="8",
    ),
]
Retire = Annotated[str, typer.Option(metavar="NAME", help="A machine that is no member any more.")]


@app.command(rich_help_panel=NODE)
def place(
    context: typer.Context,
    range_: Annotated[
        str, typer.Argument(metavar="[RANGE]", help="Such as '1.5.*'.", show_default="all")
    ] = "",
    data: Data = DATA,
    phext: Phext = PHEXT,
    copies: Annotated[
        int | None, typer.Option(min=1, max=64, help="Machines that hold each range.")
    ] = None,
    on: Annotated[
        list[str] | None, typer.Option(help="A machine that holds RANGE; may be repeated.")
    ] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="All machines hold it.")] = False,
    free: Annotated[bool, typer.Option("--free", help="End what was said of RANGE.")] = False,
    repair_after: RepairAfter = "",
    rate: Rate = None,
    retire: Retire = "",
) -> None:
    """Say which machines hold what of a phext, for the whole mesh.

    With --copies each range is on so many machines, which all of them compute alike. A machine
    keeps to it once it was told so by `phextsync hold --placed`.
    """
    asked_for = sum((copies is not None, bool(on), everywhere, free, bool(retire)))
    after_s, is_about_pace = _after_s(repair_after), bool(repair_after) or rate is not None
    if asked_for > 1 or (asked_for == 0 and not is_about_pace):
        fail("expected one of --copies, --on, --everywhere, --free and --retire")
    if range_ and (copies is not None or is_about_pace or retire):
        fail("expected --copies, --repair-after, --rate and --retire without a range")
    if not range_ and (on or free):
        fail("expected a range with --on and --free")
    with session(data) as asked:
        if retire:
            operations.RETIRE.ask(asked, retire)
        elif range_:
            where = str(CoordinateRange.parse(range_))
            operations.PLACE_RANGE.ask(asked, phext, where, everywhere, [*(on or ())])
        elif asked_for:
            operations.PLACE.ask(asked, phext, copies)
        if is_about_pace:
            operations.PACE.ask(asked, phext, after_s, None if rate is None else rate << 20)


def _after_s(text: str) -> int | None:
    seconds = read_duration_s(text) if text else None
    if text and seconds is None:
        fail(f"expected a time such as 10m or 2h with --repair-after, found {text!r}")
    return seconds


@app.command(rich_help_panel=NODE)
def where(
    range_: Annotated[
        str, typer.Argument(metavar="[COORDINATE|RANGE]", help="Such as '1.5.*'.")
    ] = "*",
    data: Data = DATA,
    phext: Phext = PHEXT,
    as_json: Json = False,
) -> None:
    """Show which machines hold a range by what was placed, which are here, and where it is read."""
    with session(data) as asked:
        rows = operations.WHERE.ask(asked, phext, str(CoordinateRange.parse(range_)))
        status = operations.STATUS.ask(asked)
    if as_json:
        say_json(
            [
                {
                    "range": str(row.range),
                    "holders": [
                        {"node_id": node_id.hex(), "name": name, "state": _state(node_id, status)}
                        for node_id, name in row.holders
                    ],
                    "read": _way(phext, row, status),
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        say(*_lines(phext, row, status))


def placed_lines(row: PlacedRow) -> Iterator[str]:
    """Say how many copies there are of a placed phext, and of which ranges there are too few."""
    machines = counted(row.copies, "machine")
    yield f"{row.phext} is placed on {machines}, on {row.least} within reach at least"
    yield from short_lines(row)


def short_lines(row: PlacedRow) -> Iterator[str]:
    """Say of which ranges of a placed phext there are too few copies."""
    if row.short:
        of, machines = counted(row.ranges, "range"), counted(row.copies, "machine")
        size = decimal(row.move_bytes)
        yield f"{row.phext}: {row.short} of {of} on fewer than {machines}, {size} to move"
    for short in row.short_ranges:
        lacking = f"lacking on {', '.join(short.lacking) or 'nobody who may hold it'}"
        yield f"  {short.range} on {short.copies}, {lacking}"
    if row.short > len(row.short_ranges):
        yield f"  and {row.short - len(row.short_ranges)} more"


def _lines(phext: str, row: PlacedRange, status: Status) -> Iterator[str]:
    named = [f"{name} ({_state(node_id, status)})" for node_id, name in row.holders]
    yield f"{row.range}: {', '.join(named) or 'every machine: nothing is placed'}"
    yield f"  {_way(phext, row, status)}"


def _state(node_id: bytes, status: Status) -> str:
    """Say whether a machine is here."""
    hexed = node_id.hex()
    if hexed == status.node_id:
        return "this one"
    if any(peer.node_id == hexed for peer in status.peers):
        return "linked"
    if any(row.node_id == hexed for row in status.presence):
        return "here"
    return "away" if status.running else "not known: no node runs"


def _way(phext: str, row: PlacedRange, status: Status) -> str:
    """Say where a range is read."""
    held = [each.held for each in status.holding if each.phext == phext]
    here = [CoordinateRange.parse(each) for each in held[0]] if held else [CoordinateRange()]
    if holds(here, row.range):
        return "read here"
    ids = {node_id.hex() for node_id, _ in row.holders}
    trips = [
        (peer.round_trip_ms, peer.name)
        for peer in status.peers
        if peer.node_id in ids and peer.round_trip_ms is not None
    ]
    if not trips:
        return "not held here, and no holder is linked"
    trip, name = min(trips)
    return f"not held here; the nearest holder is {name}, {trip:.2f} ms away"
