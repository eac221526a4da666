"""The editor's protocol over standard input and output, at the node that runs on a folder."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, NoReturn

import trio

from phextsync.errors import StoreLockedError
from phextsync.gateways.asking import Asking
from phextsync.gateways.editor import Editor
from phextsync.handles.folder_client import FolderClient
from phextsync.node.node import Node

_INPUT: Final = 0
_OUTPUT: Final = 1
_CLIENT_BITS: Final = 32  # as the clients of Yjs have them
_READ_BYTES: Final = 64 << 10


async def serve_stdio(folder: Path, writer: str, name: str) -> None:
    """Serve one editor until it closes its end. What it writes has the label `writer`, and at its
    cursor others see `name`.

    StoreLockedError when no node has run on the folder for ten seconds; ProtocolError when what
    comes is no message.
    """

    def own() -> AbstractAsyncContextManager[Node]:
        _refuse(folder)

    client = FolderClient(folder, own)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        number = secrets.randbits(_CLIENT_BITS)
        await Editor(Asking(client, writer), _send, number, name).serve(_received())
        nursery.cancel_scope.cancel()


def _refuse(folder: Path) -> NoReturn:
    raise StoreLockedError(f"no node runs on {folder}: `phextsync up` runs it")


async def _received() -> AsyncIterator[bytes]:
    # In threads: to make these not block would change them for other processes that have them.
    while data := await trio.to_thread.run_sync(
        os.read, _INPUT, _READ_BYTES, abandon_on_cancel=True
    ):
        yield data


async def _send(data: bytes) -> None:
    try:
        await trio.to_thread.run_sync(_write, data, abandon_on_cancel=True)
    except BrokenPipeError as error:
        raise trio.BrokenResourceError("the editor has closed its end") from error


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(_OUTPUT, rest) :]
