"""What `phextsync status` prints: how a node, its directories and its peers are."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.filesize import decimal

from phextsync.cli.common import (
    DATA,
    NODE,
    Data,
    Json,
    counted,
    fail,
    refuse_unused,
    say,
    say_columns,
    say_json,
    session,
)
from phextsync.cli.holding import lines_of as holding_lines
from phextsync.cli.placing import placed_lines, short_lines
from phextsync.control import operations
from phextsync.control.status import AbsentRow, ErrorsRow, PeerRow, Status
from phextsync.files.status import lines_of, reasons_of

app = typer.Typer()

_RECENT_S: Final = 3600.0


@app.command(rich_help_panel=NODE)
def status(
    context: typer.Context,
    data: Data = DATA,
    as_json: Json = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only say what is not in step, and errors of the last hour; status 1 for any.",
        ),
    ] = False,
) -> None:
    """Show this node, its phexts, its bound directories and its peers.

    The lag of a peer is what it does not yet have on its disk: scrolls, and the bytes of their
    texts, of which only what changed is to be sent.
    """
    if check:
        refuse_unused(context, "with --check", "as_json")
    with session(data) as asked:
        answer = operations.STATUS.ask(asked)
    if check:
        reasons = list(_out_of_step(answer))
        say(*reasons)
        sys.exit(1 if reasons else 0)
    if as_json:
        say_json(asdict(answer))
    else:
        _show_status(answer)
    if not answer.running and answer.warnings:
        fail(answer.warnings[0])


def _show_status(answer: Status) -> None:
    state = f"runs on port {answer.port}" if answer.running else "is not running"
    who = f"{answer.name} ({answer.node_id[:8]})" if answer.name else "the node"
    say(f"{who} {state}, data in {answer.folder}")
    rows = [[row.name, str(row.scrolls), str(row.bytes), row.fingerprint] for row in answer.phexts]
    if rows:
        say_columns([["phext", "scrolls", "bytes", "fingerprint"], *rows])
    else:
        say("no phexts yet")
    say(*(line for row in answer.directories for line in lines_of(row)))
    say(*(line for holding in answer.holding for line in holding_lines(holding)))
    say(*(line for placed in answer.placed for line in placed_lines(placed)))
    if answer.running:
        say(*_running_lines(answer))


def _out_of_step(answer: Status) -> Iterator[str]:
    """Give the reasons why not everything is in step, a line each."""
    if not answer.running:
        yield f"no node runs on {answer.folder}"
        yield from answer.warnings
    for directory in answer.directories:
        yield from reasons_of(directory)
    if not answer.running:
        return
    if has_recent(answer.errors, time.time()):
        yield errors_line(answer.errors)
    for placed in answer.placed:
        yield from short_lines(placed)
    for row in answer.receiving:
        yield f"receiving {row.phext}: {row.scrolls} of {row.scrolls_of} scrolls"
    for peer in answer.peers:
        for lack in peer.lacks:
            yield f"peer {peer.name} ({peer.node_id[:8]}) lacks {lack}"
    for absent in answer.absent:
        if absent.is_wanted:
            yield ", ".join(line.strip() for line in _absent_lines(absent))


def _running_lines(answer: Status) -> Iterator[str]:
    """Give what a running node knows of others. Each address has a line with room for it."""
    for row in answer.receiving:
        size = of_bytes(row.text_bytes, row.text_bytes_of)
        yield f"receiving {row.phext}: {row.scrolls} of {row.scrolls_of} scrolls, {size}"
    for peer in answer.peers:
        yield from _peer_lines(peer)
    for absent in answer.absent:
        yield from _absent_lines(absent)
    for warning in answer.warnings:
        yield f"warning: {warning}"
    if answer.errors.count:
        yield f"warning: {errors_line(answer.errors)}"


def errors_line(errors: ErrorsRow) -> str:
    """Say how many errors there were, and what the last was."""
    since, last_at = (_at(time_s) for time_s in (errors.since_s, errors.last_s))
    count = counted(errors.count, "error")
    return f"{count} since {since}, the last at {last_at}: {errors.last} (see the log)"


def has_recent(errors: ErrorsRow, now_s: float) -> bool:
    """Whether there was an error within the last hour: not in the next ones either, by a clock that
    was set back."""
    return errors.count > 0 and abs(now_s - errors.last_s) < _RECENT_S


def _at(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _peer_lines(peer: PeerRow) -> Iterator[str]:
    scrolls, trip = peer.lag_scrolls, peer.round_trip_ms
    lag = f", lacks {counted(scrolls, 'scroll')}, {decimal(peer.lag_bytes)}" if scrolls else ""
    yield f"peer {peer.name} ({peer.node_id[:8]}): {peer.state}{lag}"
    yield f"  at {peer.address}"
    took = "" if trip is None else f"round trip {trip:.2f} ms, "
    yield f"  {took}{decimal(peer.bytes_in)} in, {decimal(peer.bytes_out)} out"


def _absent_lines(peer: AbsentRow) -> Iterator[str]:
    node_id, seen_s = (peer.node_id or "")[:8], peer.last_seen_s
    who = f"{peer.name} ({node_id})" if peer.name else node_id or "somebody"
    when = "" if seen_s is None else _at(seen_s)
    yield f"not connected: {who}" + (f", last seen {when}" if when else "")
    if peer.address:
        yield f"  at {peer.address}"
    yield f"  {peer.reason}"


def of_bytes(have: int, of: int) -> str:
    """Say how much has come; a peer that does not tell us its whole size says 0."""
    return f"{decimal(have)} of {decimal(of)}" if of else decimal(have)
