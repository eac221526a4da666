"""The command that serves an editor."""

import logging
import os
from typing import Annotated, Final

import trio
import typer

from phextsync.cli.common import DATA, DIRECTORIES, Data, existing_folder, fail
from phextsync.control.sockets import ABSENT, connect
from phextsync.gateways.editor_stdio import serve_stdio
from phextsync.replica.changes import STAMP_CHARACTERS_MAX, is_stamp

app = typer.Typer()

_WRITER: Final = "editor"


@app.command(rich_help_panel=DIRECTORIES)
def editor(
    data: Data = DATA,
    writer: Annotated[
        str, typer.Option(help="The label under which the editor writes, by which it is known.")
    ] = _WRITER,
    name: Annotated[
        str, typer.Option(help="What others see at the cursor.", show_default="the user's name")
    ] = "",
) -> None:
    """Let an editor edit bound files live, over the protocol of Teamtype's plug-ins, on standard
    input and output. A node has to run on the folder.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if not is_stamp(writer):
        fail(f"expected a label of at most {STAMP_CHARACTERS_MAX} characters, found {writer!r:.80}")
    folder = existing_folder(data)
    try:
        connect(folder).close()
    except ABSENT:
        fail(f"no node runs on {folder}; start one with `phextsync up`")
    trio.run(serve_stdio, folder, writer, name or os.environ.get("USER", _WRITER))
