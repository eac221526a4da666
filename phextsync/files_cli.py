"""The commands about bound directories."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from phextsync.cli_common import (
    DATA,
    DIRECTORIES,
    PHEXT,
    Data,
    Json,
    Phext,
    existing_folder,
    fail,
    say,
    say_json,
    warn,
)
from phextsync.files.bindings import KEPT_DAYS, BindingStore, Bound
from phextsync.index import CoordinateRange

app = typer.Typer()


@app.command(rich_help_panel=DIRECTORIES)
def bind(
    directory: Annotated[Path, typer.Argument(help="The directory.")],
    at: Annotated[str, typer.Option(help="A prefix with four free parts, such as '7.*'.")] = "",
    data: Data = DATA,
    phext: Phext = PHEXT,
    keep: Annotated[int, typer.Option(min=0, help="Days of history to keep.")] = KEPT_DAYS,
    create: Annotated[bool, typer.Option(help="Make the directory, and those above it.")] = False,
    confirm: Annotated[
        bool,
        typer.Option(
            help="Of a bound directory: do the deletions that are held, and take the directory "
            "that lies there now for the one that was bound."
        ),
    ] = False,
) -> None:
    """Keep the text files of a directory and the scrolls of a range the same."""
    path, store = directory.expanduser().absolute(), BindingStore(existing_folder(data))
    if confirm:
        if not store.confirm(path):
            fail(f"{path} is not bound; `phextsync bindings` lists those that are")
        warn(f"confirmed: what is gone from {path} will be deleted everywhere")
        return
    if not at:
        fail("expected a range, such as --at '7.*'")
    was_there = path.is_dir()
    bound = replace(Bound(path, phext, CoordinateRange.parse(at)), kept_days=keep)
    store.bind(bound, create=create)
    made = "" if was_there else ", which was made now,"
    warn(f"{path}{made} is bound to {bound.range} of {phext} while a node runs")


@app.command(rich_help_panel=DIRECTORIES)
def unbind(directory: Annotated[Path, typer.Argument()], data: Data = DATA) -> None:
    """End a binding; files and scrolls stay as they are."""
    path = directory.expanduser().absolute()
    if not BindingStore(existing_folder(data)).unbind(path):
        fail(f"{path} is not bound; `phextsync bindings` lists those that are")


@app.command(rich_help_panel=DIRECTORIES)
def bindings(data: Data = DATA, as_json: Json = False) -> None:
    """List the bound directories."""
    rows = BindingStore(existing_folder(data)).bindings()
    if as_json:
        say_json([[str(row.directory), row.phext, str(row.range)] for row in rows])
        return
    for row in rows:
        say(f"{row.directory}  {row.phext}  {row.range}")
