"""The folder's socket, readable by its owner alone: bound by the node, connected to by others."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

SOCKET_NAME: Final = "node.sock"
ABSENT: Final = (FileNotFoundError, ConnectionRefusedError, BlockingIOError, TimeoutError)
"""What `connect` raises where no node answers."""

_CONNECT_TIMEOUT_S: Final = 5.0


@contextmanager
def bound_socket(folder: Path) -> Iterator[trio.socket.SocketType]:
    """Bind the folder's socket, mode 0600, in place of one that a dead process left."""
    with _short_path(folder) as path:
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            (folder / SOCKET_NAME).unlink(missing_ok=True)
            listening.bind(path)
        finally:
            os.umask(before)
    try:
        listening.listen(128)
        yield trio.socket.from_stdlib_socket(listening)
    finally:
        (folder / SOCKET_NAME).unlink(missing_ok=True)
        listening.close()


def connect(folder: Path) -> socket.socket:
    """Connect to the node that owns a folder. One of `ABSENT` when none answers there."""
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(_CONNECT_TIMEOUT_S)
    try:
        with _short_path(folder) as path:
            connected.connect(path)
    except BaseException:
        connected.close()
        raise
    connected.settimeout(None)
    return connected


@contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """Yield a path of the socket that fits in the 108 bytes that the system allows."""
    path = str(folder / SOCKET_NAME)
    if len(os.fsencode(path)) < 100:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
