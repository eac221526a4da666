"""The command that tells the hosts of agents of phextsync."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from phextsync.cli.common import DATA, Data, existing_folder, fail, refuse_unused, say, warn
from phextsync.hosts.configurations import HERMES, NAMES, Written, changes_for

app = typer.Typer()
AGENTS: Final = "Agents"


@app.command(rich_help_panel=AGENTS)
def integrate(
    context: typer.Context,
    host: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    data: Data = DATA,
    project: Annotated[
        Path | None,
        typer.Option(help="Write the file of this project.", show_default="that of the user"),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="Where the host's files are.", show_default="~, or ~/.hermes"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was written.")] = False,
) -> None:
    """Tell the host of an agent of this command, in the host's own configuration.

    What stands there stays. A file that cannot be changed without harm is not changed: then the
    lines to add are told.
    """
    folder = existing_folder(data).absolute()
    if undo:
        refuse_unused(context, "with --undo", "project", "home", "dry_run")
        _undo(folder, host)
        return
    if host == HERMES:
        refuse_unused(context, "with hermes, which has no file of a project", "project")
    where = home or (Path("~/.hermes") if host == HERMES else Path("~"))
    root = None if project is None else project.expanduser().absolute()
    changes = changes_for(host, _command(), folder, where.expanduser().absolute(), root)
    if dry_run:
        say(*(line for change in changes for line in change.diff()))
    else:
        Written(folder).add(host, changes)
        for change in changes:
            change.write()
            warn(f"written: {change.path}")
    if not changes:
        warn(f"{host} knows phextsync already")
    if host == HERMES:
        warn("choose it with `hermes config set memory.provider phextsync`")


def _undo(folder: Path, host: str) -> None:
    if host not in NAMES:
        fail(f"expected one of the hosts {', '.join(NAMES)}, found {host}")
    paths = Written(folder).take_back(host)
    for path in paths:
        warn(f"taken back: {path}")
    if not paths:
        warn(f"nothing was written for {host}")


def _command() -> Path:
    """Return this command's full path: hosts do not look in the PATH of a shell."""
    found = shutil.which("phextsync") or sys.argv[0]
    return Path(found).absolute()
