"""The commands that keep the data folder: check, repair, back up, restore."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from random import SystemRandom
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from rich.filesize import decimal

from phextsync.cli import past as past_cli
from phextsync.cli.common import (
    DATA,
    FOLDER,
    PHEXT,
    Data,
    Json,
    Phext,
    bar,
    counted,
    existing_folder,
    fail,
    new_folder,
    refuse_unused,
    say,
    say_json,
    session,
    standard_input,
    warn,
)
from phextsync.control import operations, upkeep
from phextsync.errors import StoreError
from phextsync.store.rebuild import Rebuilt
from phextsync.trust.authority import MeshKey
from phextsync.trust.identity import NodeIdentity

app = typer.Typer()

_ALONE: Final = "restored"  # the name of a node that meets no other


@app.command(rich_help_panel=FOLDER)
def check(data: Data = DATA, as_json: Json = False) -> None:
    """Verify the data folder: structure, checksums, every scroll; status 1 if anything is wrong."""
    with bar("checking") as show:
        findings = upkeep.check(existing_folder(data), show)
    if as_json:
        say_json(asdict(findings))
    else:
        for problem in findings.problems:
            say(problem)
        others = f" (and {findings.others} deleted or the library's own)" if findings.others else ""
        sound = counted(findings.scrolls, "sound scroll")
        warn(f"{sound}{others}, {counted(len(findings.problems), 'problem')}")
    if findings.problems:
        sys.exit(1)


@app.command(rich_help_panel=FOLDER)
def repair(
    data: Data = DATA,
    forget: Annotated[
        bool, typer.Option("--forget", help="Give up the scrolls that are still missing.")
    ] = False,
) -> None:
    """Rebuild what can be rebuilt, set aside what cannot, and compact the file."""
    now_ms = time.time_ns() // 1_000_000
    with bar("repairing") as show:
        done = upkeep.repair(
            existing_folder(data),
            random=SystemRandom(),
            now_ms=now_ms,
            forget=forget,
            progress=show,
        )
    for line in done.reports:
        say(line)
    for place in done.missing:
        say(f"{place}: lost here; a peer that has it sends it again")
    warn(f"{decimal(done.bytes_before)} before, {decimal(done.bytes_after)} now")
    if done.missing:
        sys.exit(1)


@app.command(rich_help_panel=FOLDER)
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="'-' is standard output.")],
    data: Data = DATA,
) -> None:
    """Copy the scrolls into one new file, also while a node runs; not the node's identity."""
    folder = existing_folder(data)
    with TemporaryDirectory() as drafts, bar("backing up") as show:
        target = Path(drafts, "backup") if file == "-" else Path(file)
        done = upkeep.backup(folder, target, show)
        if file == "-":
            with target.open("rb") as written:
                copyfileobj(written, sys.stdout.buffer)
    to = "standard output" if file == "-" else file
    warn(f"{counted(done.scrolls, 'scroll')} written to {to}")
    with suppress(StoreError), session(data) as asked:  # a damaged folder can be backed up
        for row in operations.STATUS.ask(asked).holding:
            held = ", ".join(row.held) or "nothing"
            warn(f"of {row.phext} only what is held here is in it: {held}")
    _fail_if_lost(done, "are not in the backup")


@app.command(rich_help_panel=FOLDER)
def restore(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(metavar="BACKUP|COORDINATE|FILE", help="'-' is a backup on standard input."),
    ],
    data: Data = DATA,
    replace: Annotated[
        bool, typer.Option("--replace", help="Keep a store that is there as store.before-restore.")
    ] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="Into a new folder in a mesh of its own, to look at.")
    ] = False,
    at: Annotated[
        str, typer.Option("--at", help="A time, as `show` takes it: only a scroll.")
    ] = "",
    phext: Phext = PHEXT,
) -> None:
    """Bring a backup into a data folder where no node runs; the node takes new client ids.

    With --at, make the text that one scroll or bound file had at a time its text of now.
    """
    if at:
        refuse_unused(context, "with --at", "replace", "alone")
        past_cli.restore_at(what, at, data, phext)
        return
    refuse_unused(context, "without --at", "phext")
    folder = new_folder(data)
    if alone and folder.exists() and any(folder.glob("identity*")):
        fail(f"{folder} is the folder of a node: name a new one with --data, or leave --alone out")
    with _input_file(what) as file, bar("restoring") as show:
        done = upkeep.restore(file, folder, replace=replace, progress=show)
    if alone:
        key = MeshKey.generate(os.urandom(32))
        NodeIdentity.create(key, _ALONE, os.urandom(32)).save(folder)
    warn(f"{counted(done.scrolls, 'scroll')} restored into {folder}")
    _fail_if_lost(done, "could not be read")


@contextmanager
def _input_file(name: str) -> Iterator[Path]:
    """Give the backup of a name, or for `-` a file with what comes by standard input."""
    with TemporaryDirectory() as drafts:
        file = Path(name)
        if name == "-":
            file = Path(drafts, "backup")
            upkeep.receive(standard_input(), file)
        if not file.is_file():
            found = f"no file {name}"
            if file.exists():
                found = f"a folder, a pipe or a device at {name}; `restore - <{name}` reads a pipe"
            fail(f"expected a backup, or a coordinate with --at, found {found}")
        yield file


def _fail_if_lost(done: Rebuilt, what: str) -> None:
    for line in done.lost:
        say(line)
    if done.lost or done.unnamed != 0:
        more = "an unknown number of" if done.unnamed is None else str(done.unnamed)
        fail(f"damaged: {counted(len(done.lost), 'scroll')} and {more} without a name; they {what}")
