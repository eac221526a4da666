"""The command that takes back what one writer did."""

from pathlib import Path
from typing import Annotated

import typer

from phextsync.agents.plans import carry_out
from phextsync.agents.quarantine import taken_back
from phextsync.cli.common import (
    DATA,
    PAST,
    PHEXT,
    Data,
    Json,
    Phext,
    RangeTarget,
    Within,
    again_as,
    counted,
    fail,
    file_names,
    range_target,
    say,
    say_json,
    session,
    shown_path,
    warn,
)
from phextsync.cli.writers import NodeNames, read_time_ms, told_time
from phextsync.control import operations
from phextsync.control.operations import Asked
from phextsync.control.taking_back import TAKING_BACK, TakingBack
from phextsync.replica.past import NOT_KEPT
from phextsync.replica.taking_back import TakenBack, Writer

app = typer.Typer()

_Since = Annotated[
    str, typer.Option(help="Only since then, such as '2026-02-28 09:30', or 2h or 3d ago.")
]


@app.command(rich_help_panel=PAST)
def undo(
    context: typer.Context,
    by: Annotated[
        str,
        typer.Option(
            metavar="NODE[/WRITER]", help="Whose work: a node by its name or id, and a label there."
        ),
    ],
    since: _Since = "",
    range_: Within = "*",
    data: Data = DATA,
    phext: Phext = PHEXT,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """Take back what one writer did, and leave what others wrote; without --yes, show it.

    What the writer put in goes, what it took out comes back, as far as what is kept tells. It is an
    edit that goes to all nodes; done at several at once it is one.
    """
    since_ms = read_time_ms(since) if since else None
    with session(data) as asked:
        names = NodeNames(asked, data)
        writer, where = names.writer(by), range_target(asked, phext, range_)
        missing: list[str] = []
        rows = _found(asked, where, writer, since_ms, missing)
        files = file_names(asked, where.phext, [row.coordinate for row in rows])
        if where.below is not None:
            below = {at for at, path in files.items() if path.is_relative_to(where.below)}
            rows = [row for row in rows if str(row.coordinate) in below]
        began_ms = read_time_ms("0s")
        work = [row for row in rows if row.update]
        if yes:
            work = _done(asked, where.phext, work, missing)
        is_kept = any(row.kept_ms for row in operations.HISTORY.ask(asked))
    _say_rows(rows, files, as_json=as_json)
    if not is_kept:
        warn(NOT_KEPT)
    what = counted(len(work), "scroll")
    if yes and work:
        own = ("undo", "--by", names.own, "--since", told_time(began_ms))
        again = again_as(*own, phext=where.phext, range_=range_)
        warn(f"{what} changed; to take that back: {again}")
    elif work:
        warn(f"{what} would change; --yes does it")
    elif not missing:
        warn(f"nothing of {by} to take back")
    if missing:
        fail("; ".join(dict.fromkeys(missing)))


def _found(
    asked: Asked, where: RangeTarget, by: Writer, since_ms: int | None, missing: list[str]
) -> list[TakenBack]:
    """Return what takes back a writer, by coordinate, and note where nobody could be asked."""
    look = TakingBack(by, str(where.range), since_ms)
    while (wanted := look.asked) is not None:
        look.take(TAKING_BACK.ask(asked, where.phext, *wanted))
    return look.all(missing)


def _done(asked: Asked, phext: str, work: list[TakenBack], missing: list[str]) -> list[TakenBack]:
    """Take a writer back, and return where; note what this node may not write."""
    done, refused = carry_out(asked, taken_back(phext, work))
    if refused:
        missing.append(f"{counted(len(refused), 'scroll')} not changed: {refused[0]}")
    return done


def _say_rows(rows: list[TakenBack], files: dict[str, Path], *, as_json: bool) -> None:
    if as_json:
        say_json([_json(row, files.get(str(row.coordinate))) for row in rows])
        return
    for row in rows:
        _say_row(row, files.get(str(row.coordinate)))


def _say_row(row: TakenBack, file: Path | None) -> None:
    what = f"{row.coordinate}" if file is None else f"{row.coordinate}  {shown_path(file)}"
    say(f"{what}  -{row.removed} +{row.restored}")
    for mark, line in (("-", row.removed_line), ("+", row.restored_line)):
        if line:
            say(f"    {mark} {line}")
    if row.unknown:
        say(f"    of {counted(row.unknown, 'character')} what is kept does not tell enough")


def _json(row: TakenBack, file: Path | None) -> dict[str, object]:
    return {
        "coordinate": str(row.coordinate),
        "file": None if file is None else str(file),
        "removed": row.removed,
        "restored": row.restored,
        "unknown": row.unknown,
        "removed_line": row.removed_line,
        "restored_line": row.restored_line,
    }
