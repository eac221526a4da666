"""Ports for processes that have to be told one."""

import itertools
import os
import socket
from random import Random
from typing import Final

_PORTS: Final = range(10_000, 32_000)  # which no system gives to who leaves the port to chance
_candidates: Final = map(Random(os.getpid()).choice, itertools.repeat(_PORTS))


def free_port() -> int:
    """Return a port of loopback at which nothing listens. Nothing takes it by chance until it is
    used, however long that takes; each process tries others."""
    for port in _candidates:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable: the candidates are without end")
