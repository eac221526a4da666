"""Inbox: what other threads leave for the engine's, which is woken for it.

`TrioToken.run_sync_soon` does the same and takes a quarter longer there and back: it reads a socket
until that is empty, and a task of its own goes two turns.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from phextsync.handles.bell import Bell
from phextsync.handles.call import Call

Action = Callable[[Call], object]


class Inbox:
    """Calls, each with what is to be done with it in the task that runs `run`, in order."""

    def __init__(self) -> None:
        self._left: deque[tuple[Action, Call]] = deque()
        self._is_closed = False
        self._lock: Final = threading.RLock()  # a signal or a finalizer may come in between
        self._bell: Final = Bell()

    def put(self, action: Action, call: Call) -> bool:
        """Let `action(call)` be done soon. From any thread. Return whether it will be."""
        with self._lock:
            if self._is_closed:
                return False
            self._left.append((action, call))
            self._bell.ring()
        return True

    async def run(self) -> None:
        """Do what comes, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._bell.heard)
            self._bell.hush()
            self._do_all()

    def close(self) -> None:
        """Do what is left, and take no more."""
        with self._lock:
            self._is_closed = True
            self._bell.close()
        self._do_all()

    def _do_all(self) -> None:
        while self._left:
            action, call = self._left.popleft()
            action(call)
