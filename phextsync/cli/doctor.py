"""The command that looks whether anything on this machine is in a node's way."""

import sys
from dataclasses import asdict

import typer

from phextsync.cli.checks import Level, findings
from phextsync.cli.common import (
    DATA,
    NODE,
    Data,
    Json,
    counted,
    existing_folder,
    say_columns,
    say_json,
    warn,
)
from phextsync.cli.facts import gather

app = typer.Typer()


@app.command(rich_help_panel=NODE)
def doctor(data: Data = DATA, as_json: Json = False) -> None:
    """Look whether anything here is in a node's way, running or not, and say what to do about it.

    Status 1 if anything is wrong; what cannot be told is not. Nothing is changed; one packet is
    sent to this machine's own network, to see whether multicast works.
    """
    folder = existing_folder(data)
    found = findings(gather(folder))
    wrong = sum(each.level is Level.WRONG for each in found)
    if as_json:
        say_json({"folder": str(folder), "wrong": wrong, "findings": [*map(asdict, found)]})
    else:
        rows = [
            (each.level, each.check, f"{each.found}: {each.advice}" if each.advice else each.found)
            for each in found
        ]
        say_columns(rows)
        warn(f"{counted(wrong, 'thing')} wrong" if wrong else "nothing wrong")
    if wrong:
        sys.exit(1)
