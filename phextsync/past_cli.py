"""The commands about the past of scrolls: what was written when and by whom, and what is kept."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from phextsync.attach import Asked
from phextsync.cli_common import (
    DATA,
    PAST,
    PHEXT,
    Data,
    Json,
    Phext,
    Place,
    existing_folder,
    fail,
    say,
    say_json,
    say_text,
    session,
)
from phextsync.control import blamed_lines, logged_changes
from phextsync.discovery import PEERS_FILE, RememberedPeers
from phextsync.history import FOREVER
from phextsync.index import Coordinate

app = typer.Typer()


@app.command(rich_help_panel=PAST)
def log(
    coordinate: Place,
    data: Data = DATA,
    phext: Phext = PHEXT,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many changes.")] = None,
    as_json: Json = False,
) -> None:
    """Print the changes of a scroll that are kept, newest last: time, node, what changed.

    Times are those of the clock of the node that wrote; what came late, by a comparison, did not
    bring its time: then it is when it was seen here.
    """
    with session(data) as asked:
        rows = logged_changes(asked.ask("log", phext, _place(asked, coordinate), last))
        names = _node_names(asked, data)
    if as_json:
        say_json([_json_row(asdict(row), names) for row in rows])
        return
    for row in rows:
        by = ", ".join(map(names, row.writers)) or "?"
        seen = " (seen here)" if row.seen_here else ""
        change = f"+{row.added} -{row.removed}"
        say(f"{_when(row.time_ms)}  {by}{seen}  {change}  {row.line_number}: {row.line}")


@app.command(rich_help_panel=PAST)
def blame(
    coordinate: Place, data: Data = DATA, phext: Phext = PHEXT, as_json: Json = False
) -> None:
    """Print each line with the node that wrote its newest characters, and when.

    Times are those of the clock of the node that wrote; '*' marks when it was seen here.
    """
    with session(data) as asked:
        lines = blamed_lines(asked.ask("blame", phext, _place(asked, coordinate)))
        names = _node_names(asked, data)
    if as_json:
        say_json([_json_row(asdict(line), names) for line in lines])
        return
    heads = []
    for line in lines:
        mark = "*" if line.seen_here else " "
        when = "before the kept history" if line.time_ms is None else _when(line.time_ms)
        heads.append((names(line.writer) if line.writer else "?", f"{when}{mark}"))
    widths = [max(map(len, column)) for column in zip(*heads, strict=True)]
    for (who, when), line in zip(heads, lines, strict=True):
        say(f"{who:{widths[0]}}  {when:{widths[1]}} {line.text.expandtabs()}")


@app.command(rich_help_panel=PAST)
def show(
    coordinate: Place,
    at: Annotated[
        str, typer.Option(help="A time, such as '2026-02-28 09:30' (local) or with +01:00.")
    ],
    data: Data = DATA,
    phext: Phext = PHEXT,
) -> None:
    """Print a scroll as it was, by the clocks of the nodes that wrote it."""
    try:
        time_ms = round(datetime.fromisoformat(at).timestamp() * 1000)
    except ValueError:
        fail(f"expected a time such as '2026-02-28 09:30', found {at!r:.40}")
    with session(data) as asked:
        text = asked.ask("show", phext, _place(asked, coordinate), time_ms)
    say_text(str(text))


@app.command(rich_help_panel=PAST)
def history(
    data: Data = DATA,
    keep: Annotated[
        str, typer.Option(help="How long: 30d, 12h, forever; none forgets what is kept.")
    ] = "",
) -> None:
    """Say, or set, how long this folder keeps the history of its scrolls."""
    with session(data) as asked:
        if keep:
            asked.ask("keep_history", _kept_ms(keep))
        kept_ms = asked.ask("history")
    match kept_ms:
        case 0:
            say("history is not kept, but for the latest changes")
        case int() if kept_ms == FOREVER:
            say("history is kept forever")
        case _:
            say(f"history is kept for {timedelta(milliseconds=int(str(kept_ms)))}")


def _kept_ms(text: str) -> int:
    """Read how long to keep history."""
    match = re.fullmatch(r"(\d{1,6})([dh])", text)
    if match:
        return int(match[1]) * {"d": 24, "h": 1}[match[2]] * 3_600_000
    if text not in ("forever", "none"):
        fail(f"expected a time such as 30d or 12h, 'forever' or 'none', found {text!r:.40}")
    return FOREVER if text == "forever" else 0


# -- helpers -------------------------------------------------------------------------------


def _place(_session: Asked, text: str) -> str:
    """Return the coordinate that an argument names."""
    return str(Coordinate.parse(text))


def _node_names(asked: Asked, data: Path) -> Callable[[bytes], str]:
    """Return what tells the name of a node, or the start of its id where that is not known."""
    status = json.loads(str(asked.ask("status")))
    remembered = RememberedPeers.load(existing_folder(data) / PEERS_FILE)
    rows = [status, *status.get("peers", ()), *status.get("absent", ())]
    names = {row["node_id"]: row["name"] for row in rows if row["name"]}

    def name(node_id: bytes) -> str:
        return names.get(node_id.hex()) or remembered.name(node_id) or node_id.hex()[:8]

    return name


def _json_row(row: dict[str, object], names: Callable[[bytes], str]) -> dict[str, object]:
    """Name the nodes in a row."""
    named: dict[str, object] = {}
    for field, value in row.items():
        if isinstance(value, bytes):
            named[field] = names(value) if value else None
        elif isinstance(value, tuple):
            named[field] = [names(item) for item in value]
        else:
            named[field] = value
    return named


def _when(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000).isoformat(" ", "milliseconds")
    except (ValueError, OverflowError, OSError):  # a clock that is no clock
        return f"{time_ms} ms"
