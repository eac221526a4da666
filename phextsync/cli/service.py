"""The commands that have a node started with the machine."""

import os
import subprocess
import sys
from getpass import getuser
from pathlib import Path
from typing import Annotated, Final

import typer

from phextsync.cli.common import DATA, NODE, Data, existing_folder, fail, say, warn
from phextsync.cli.services import Command, Service, service_of
from phextsync.cli.settings import read_settings
from phextsync.cli.starting import check_start
from phextsync.durable_files import write_whole
from phextsync.errors import PhextsyncError
from phextsync.trust.identity import NodeIdentity

app = typer.Typer()
service_app = typer.Typer(help="Start this node with the machine: systemd, or launchd on macOS.")
app.add_typer(service_app, name="service", rich_help_panel=NODE, no_args_is_help=True)

_LINGERING: Final = Path("/var/lib/systemd/linger")


def run(command: Command) -> tuple[int, str]:
    """Run a command of the service manager; return its status, and what it said. OSError when there
    is none."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


@service_app.command()
def install(
    data: Data = DATA,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the file, and change nothing.")
    ] = False,
) -> None:
    """Have this node started now and whenever the machine starts.

    It runs as config.toml of the data folder says: see `phextsync config`. It logs to the journal.
    """
    folder = existing_folder(data)
    NodeIdentity.load(folder)
    settings = read_settings(folder)
    try:
        check_start(settings, {})  # a service has no environment of ours
    except PhextsyncError as error:
        fail(f"{settings.path}, by which it is to run: {error}")
    service = _service(folder)
    if only_print:
        print(service.text, end="")
        return
    service.path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(service.path, service.text.encode(), 0o644)
    for command in service.install:
        _do(command, f"{service.path} is written, and not started")
    say(f"{service.name} runs, and starts with the machine; its log: {service.logs}")
    if sys.platform == "linux" and not (_LINGERING / getuser()).exists():
        warn("it stops when you log out; to have it run on: loginctl enable-linger")


@service_app.command()
def status(data: Data = DATA) -> None:
    """Say whether the service is installed and runs; status 1 unless it does both."""
    service = _service(existing_folder(data))
    if not service.path.exists():
        fail(f"there is no {service.path}; make it with `phextsync service install`")
    code, said = _run(service.status)
    state = said.splitlines()[0] if said else "unknown"
    say(f"{service.name}: {'runs' if code == 0 else f'does not run ({state})'}, {service.path}")
    if code != 0:
        fail(f"it does not run; see {service.logs}")


@service_app.command()
def remove(data: Data = DATA) -> None:
    """Stop the service, and start it no more; the data folder stays as it is."""
    service = _service(existing_folder(data))
    if not service.path.exists():
        fail(f"there is no {service.path}: nothing to remove")
    for command in service.remove:
        _do(command, f"{service.path} is left as it is")
    service.path.unlink()
    for command in service.forget:
        _do(command, f"{service.path} is taken away")
    say(f"{service.name} is removed; the node runs no more")


def _service(folder: Path) -> Service:
    program = [sys.executable, "-P", "-m", "phextsync.cli"]  # -P: no module of the home is taken
    return service_of(sys.platform, folder.absolute(), program, Path.home(), os.environ)


def _run(command: Command) -> tuple[int, str]:
    try:
        return run(command)
    except FileNotFoundError:
        fail(f"expected {command[0]}, found none on this machine")


def _do(command: Command, what_now: str) -> None:
    code, said = _run(command)
    if code:
        last = said.splitlines()[-1] if said else f"status {code}"
        fail(f"{' '.join(command)}: {last}; {what_now}")
