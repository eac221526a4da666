"""The folder's socket, readable by its owner alone: bound by the node, connected to by others."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from phextsync.control import loopback
from phextsync.errors import StoreError
from phextsync.systems.resources import OPEN_FILES

SOCKET_NAME: Final = "node.sock"
ABSENT: Final = (FileNotFoundError, ConnectionRefusedError, TimeoutError)
"""What `connect` raises where no node answers."""

_CONNECT_TIMEOUT_S: Final = 5.0
_PAUSE_S: Final = 0.02


@contextmanager
def bound_socket(folder: Path) -> Iterator[tuple[trio.socket.SocketType, bytes]]:
    """Bind the folder's socket, mode 0600, in place of one that a dead process left; give it, and
    the key that who connects has to show, empty for none."""
    if sys.platform == "win32":
        with loopback.bound(folder / SOCKET_NAME) as (listening, key):
            yield trio.socket.from_stdlib_socket(listening), key
        return
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
        yield trio.socket.from_stdlib_socket(listening), b""
    finally:
        (folder / SOCKET_NAME).unlink(missing_ok=True)
        listening.close()


def connect(
    folder: Path,
    *,
    sleep: Callable[[float], None] = time.sleep,
    time_s: Callable[[], float] = time.monotonic,
) -> socket.socket:
    """Connect to the node that owns a folder. One of `ABSENT` when none answers there, StoreError
    when it has taken no connection for 5 s."""
    deadline = time_s() + _CONNECT_TIMEOUT_S
    while True:
        try:
            return connect_at_once(folder)
        except BlockingIOError:
            if time_s() > deadline:
                raise too_busy(folder) from None
        sleep(_PAUSE_S)


def too_busy(folder: Path) -> StoreError:
    """Return what to raise when too many wait for a node already."""
    return StoreError(
        f"the node of {folder} runs and takes no connection: too many wait for it already. Try "
        "again, or see in its log what keeps it"
    )


def connect_at_once(folder: Path) -> socket.socket:
    """Connect as `connect` does, once; BlockingIOError when too many wait for the node already."""
    if sys.platform == "win32":
        return loopback.connect(folder / SOCKET_NAME, _CONNECT_TIMEOUT_S)
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
    """Yield a path of the socket that fits in the 108 bytes of Linux and the 104 of macOS."""
    path = str(folder / SOCKET_NAME)
    if len(os.fsencode(path)) < 100:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield f"{OPEN_FILES}/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
