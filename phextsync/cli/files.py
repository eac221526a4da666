"""The commands about bound directories."""

import re
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from phextsync.cli.common import (
    DATA,
    DIRECTORIES,
    PHEXT,
    Data,
    Json,
    Phext,
    bytes_of_file,
    existing_folder,
    fail,
    refuse_unused,
    say,
    say_json,
    session,
    shown_path,
    target,
    text_or_input,
    warn,
)
from phextsync.control import operations
from phextsync.control.client import Attachment
from phextsync.control.operations import Asked
from phextsync.control.sockets import ABSENT
from phextsync.files.bindings import KEPT_DAYS, BindingStore, Bound, check_readable
from phextsync.files.desk import CONFLICTS, ToldConflict
from phextsync.files.names import range_of
from phextsync.files.presets import PRESETS, preset_of
from phextsync.files.status import lines_of, row_of
from phextsync.index import CoordinateRange
from phextsync.ranges import holds
from phextsync.store.folder import place_in_memory
from phextsync.trust.identity import NodeIdentity

app = typer.Typer()

_Kept = Annotated[int, typer.Option(min=0, max=36_500, help="Days of history to keep.")]

_LINES_BYTES_MAX: Final = 64 << 20  # of a file of which the lines are taken
NUMBER_SHOWN: Final = 8
"""How many digits of a conflict's number are shown; as many as tell it from others will do."""

_Directory = Annotated[str, typer.Argument(help="The directory.")]
_NONE_BOUND: Final = "no directory is bound; `phextsync bind DIRECTORY --at RANGE` binds one"
_NOT_KNOWN: Final = "(not known: no history says what others had)"


@app.command(rich_help_panel=DIRECTORIES)
def bind(
    context: typer.Context,
    directory: _Directory,
    at: Annotated[str, typer.Option(help="A prefix with four free parts, such as '7.*'.")] = "",
    preset: Annotated[
        str,
        typer.Option(
            help=f"Bind it as the memory of a host: {', '.join(p.name for p in PRESETS)}."
        ),
    ] = "",
    data: Data = DATA,
    phext: Phext = PHEXT,
    keep: _Kept = KEPT_DAYS,
    create: Annotated[bool, typer.Option(help="Make the directory, and those above it.")] = False,
    confirm: Annotated[
        bool,
        typer.Option(
            help="Of a bound directory: do the deletions that are held; if its data folder was put "
            "back as it was earlier, wait for no other machine; or, if another directory lies "
            "there now, take it for the one that was bound."
        ),
    ] = False,
) -> None:
    """Keep the text files of a directory and the scrolls of a range the same."""
    path, folder = _whole(directory), existing_folder(data)
    store = BindingStore(folder)
    if confirm:
        refuse_unused(context, "with --confirm", "at", "preset", "phext", "keep", "create")
        if store.confirm(path):
            warn(f"the directory that lies at {path} now counts as the one that was bound")
        else:
            warn(
                f"confirmed: what is gone from {path} is deleted, at once or when a node starts; "
                "where other machines are waited for, nothing is deleted, and none is waited for"
            )
        return
    if place_in_memory(folder) is not None:
        fail("expected a node with a disk, found one with its scrolls in memory: it binds nothing")
    at = at or preset_of(preset).range
    if not at:
        fail("expected a range, such as --at '7.*', or a --preset")
    was_there = path.is_dir()
    bound = replace(Bound(path, phext, range_of(at)), kept_days=keep, preset=preset)
    check_readable(bound, NodeIdentity.load(folder).permissions)
    _check_held(data, phext, bound.range)
    path = store.bind(bound, create=create).directory
    made = "" if was_there else ", which was made now,"
    known = f", as of {preset}," if preset else ""
    warn(f"{path}{made} is bound{known} to {bound.range} of {phext} while a node runs")


@app.command(rich_help_panel=DIRECTORIES)
def unbind(directory: _Directory, data: Data = DATA) -> None:
    """End a binding; files and scrolls stay as they are."""
    path = _whole(directory)
    if not BindingStore(existing_folder(data)).unbind(path):
        fail(f"{path} is not bound; `phextsync bindings` lists those that are")


def _check_held(data: Path, phext: str, range_: CoordinateRange) -> None:
    """Fail where not all of a range is held, and stays."""
    with session(data) as asked:
        rows = [row for row in operations.STATUS.ask(asked).holding if row.phext == phext]
    for row in rows:
        if not holds(map(CoordinateRange.parse, row.held), range_):
            held = ", ".join(row.held) or "nothing"
            fail(
                f"expected a range that is held here, found {range_}: of {phext} is held {held}; "
                "`phextsync hold` has more held"
            )


def _whole(directory: str) -> Path:
    return Path(directory).expanduser().absolute()


@app.command(rich_help_panel=DIRECTORIES)
def bindings(data: Data = DATA, as_json: Json = False) -> None:
    """List the bound directories, and how it stands with them while a node runs."""
    folder = existing_folder(data)
    bound = BindingStore(folder).bindings()
    with suppress(*ABSENT), Attachment(folder) as asked:
        rows = operations.STATUS.ask(asked).directories
        if as_json:
            say_json([asdict(row) for row in rows])
        else:
            say(*(line for row in rows for line in lines_of(row)))
            if not rows:
                warn(_NONE_BOUND)
        return
    if as_json:
        say_json([asdict(row_of(each, None, 0)) for each in bound])
        return
    for each in bound:
        say(f"directory {each.directory}: {each.range} of {each.phext}")
    if bound:
        warn("no node runs: what changes is found when `phextsync up` starts")
    else:
        warn(_NONE_BOUND)


@app.command(rich_help_panel=DIRECTORIES)
def conflicts(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE|NUMBER]",
            help="Only those of a file; with --take and --forget which one, by its number, or by "
            "its file if that has one only.",
            show_default=False,
        ),
    ] = "",
    data: Data = DATA,
    take: Annotated[
        str,
        typer.Option(
            metavar="mine|theirs|FILE",
            help="Settle one: put these lines in the place of what the merge made.",
        ),
    ] = "",
    forget: Annotated[bool, typer.Option("--forget", help="Leave the file as it is.")] = False,
    as_json: Json = False,
) -> None:
    """List the lines that two sides changed apart, as both had them, or settle one.

    The merge kept what both wrote; look at what it made. `mine` is what this machine had.
    """
    if not take and not forget:
        _list_conflicts(data, file, as_json=as_json)
        return
    refuse_unused(context, "with --take or --forget", "as_json")
    if take and forget:
        fail("expected --take or --forget, found both")
    text = _lines_to_take(take)
    with session(data) as asked:
        told = _conflict(asked, file)
        if forget:
            operations.FORGET_CONFLICT.ask(asked, told.number)
        else:
            side = take if text is None else "text"
            operations.SETTLE_CONFLICT.ask(asked, told.number, side, text or "")
    what = "forgotten" if forget else "settled"
    warn(f"{what}: line {told.line} of {shown_path(Path(told.path))}")


def _list_conflicts(data: Path, file: str, *, as_json: bool) -> None:
    with session(data) as asked:
        told = _conflicts_of(asked, file) if file else _all_conflicts(asked)
    if as_json:
        say_json([{**asdict(each), "coordinate": str(each.coordinate)} for each in told])
        return
    for each in told:
        when = datetime.fromtimestamp(each.time_ms / 1000).isoformat(" ", "seconds")
        by = f" by {each.theirs_by}" if each.theirs_by else ""
        path = shown_path(Path(each.path))
        say(f"{each.number[:NUMBER_SHOWN]}  {path}, line {each.line}  {when}{by}")
        for name, text in (("was", each.base), ("mine", each.mine), ("theirs", each.theirs)):
            lines = [_NOT_KNOWN] if text is None else text.splitlines() or ["(deleted)"]
            for i, line in enumerate(lines):
                say(f"  {'' if i else name:8}{line}")
    if told:
        warn("settle one with `phextsync conflicts --take mine|theirs|FILE NUMBER`")
    else:
        warn("no conflicts")


def _all_conflicts(asked: Asked) -> list[ToldConflict]:
    return CONFLICTS.ask(asked, None, "")


def _conflicts_of(asked: Asked, file: str) -> list[ToldConflict]:
    at = target(asked, PHEXT, file)
    return CONFLICTS.ask(asked, at.phext, at.coordinate)


def _conflict(asked: Asked, which: str) -> ToldConflict:
    """Return the conflict of a number, or the only one of a file."""
    if not which:
        fail("expected the number of a conflict; `phextsync conflicts` lists them")
    if re.fullmatch(r"[0-9a-f]{4,16}", which):
        found = [each for each in _all_conflicts(asked) if each.number.startswith(which)]
    else:
        found = _conflicts_of(asked, which)
    if len(found) != 1:
        what = "none" if not found else f"{len(found)} of them"
        fail(f"expected one conflict, found {what} for {which}; `phextsync conflicts` lists them")
    return found[0]


def _lines_to_take(take: str) -> str | None:
    """Return the lines that a file or standard input has, None for a side."""
    if take in ("", "mine", "theirs"):
        return None
    if take == "-":
        return text_or_input(take)
    try:
        return bytes_of_file(str(Path(take).expanduser()), _LINES_BYTES_MAX).decode()
    except UnicodeDecodeError:
        fail(f"expected UTF-8 in {take}, found other bytes")
    except FileNotFoundError:
        fail(f"expected mine, theirs or a file with the lines, found no file {take}")
