"""The folder's socket where the system has none that are files: a port of this machine and a key.

The file of the socket says both, and may be read by its owner alone. Who connects shows the key
first: other users of the machine reach the port, too.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest
from pathlib import Path
from typing import Final

import trio

from phextsync.durable_files import write_whole

_HOST: Final = "127.0.0.1"
_KEY_BYTES: Final = 32
_PATIENCE_S: Final = 5.0


@contextmanager
def bound(path: Path) -> Iterator[tuple[socket.socket, bytes]]:
    """Give a socket and the key that `path` tells of for as long as the block lasts."""
    with socket.create_server((_HOST, 0), backlog=128) as listening:
        key = os.urandom(_KEY_BYTES)
        write_whole(path, b"%d %s" % (listening.getsockname()[1], key.hex().encode()))
        try:
            yield listening, key
        finally:
            path.unlink(missing_ok=True)


def connect(path: Path, within_s: float) -> socket.socket:
    """Connect where a file tells, and show the key. FileNotFoundError, ConnectionRefusedError or
    TimeoutError where nobody answers."""
    port, _, key = path.read_text().partition(" ")
    if not port.isdecimal() or len(key) != 2 * _KEY_BYTES:
        raise ConnectionRefusedError(f"{path}: expected a port and a key")
    connected = socket.create_connection((_HOST, int(port)), within_s)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.sendall(bytes.fromhex(key))
    connected.settimeout(None)
    return connected


async def is_admitted(stream: trio.abc.ReceiveStream, key: bytes) -> bool:
    """Whether who connected shows the key; not more than it is read."""
    shown = b""
    with trio.move_on_after(_PATIENCE_S), suppress(trio.BrokenResourceError):
        while len(shown) < len(key):
            piece = await stream.receive_some(len(key) - len(shown))
            if not piece:
                return False
            shown += piece
    return compare_digest(shown, key)
