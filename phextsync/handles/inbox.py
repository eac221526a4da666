"""Inbox: what other threads leave for the engine's, which is woken for it.

`TrioToken.run_sync_soon` does the same and takes a quarter longer there and back: it reads a socket
until that is empty, and a task of its own goes two turns. Who asks again as soon as there is an
answer is waited for a moment, in the middle of a turn: it is cheaper than to wake for the next.
"""

import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from queue import Empty, SimpleQueue
from typing import Final

import trio

from phextsync.handles.bell import Bell
from phextsync.handles.call import Call

Action = Callable[[Call], object]

_LINGER_S: Final = 0.00005
_LINGERS_MAX: Final = 16  # of one turn: other tasks wait meanwhile
_AGAIN_S: Final = 0.0002  # what came so soon after the last answer may come again


class Inbox:
    """Calls, each with what is to be done with it in the task that runs `run`, in order."""

    def __init__(
        self, *, linger_s: float = _LINGER_S, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._linger_s = linger_s
        self._clock = clock
        self._left: Final[SimpleQueue[tuple[Action, Call]]] = SimpleQueue()
        self._is_lingering = False  # the bell need not ring
        self._has_news = False  # since the loop began to do what is left
        self._is_closed = False
        self._lock: Final = threading.RLock()  # a signal or a finalizer may come in between
        self._bell: Final = Bell()

    def put(self, action: Action, call: Call) -> bool:
        """Let `action(call)` be done soon. From any thread. Return whether it will be."""
        with self._lock:
            if self._is_closed:
                return False
            self._has_news = True
            self._left.put((action, call))
            self._has_news = True  # the loop may have done what was left in between
            if not self._is_lingering:
                self._bell.ring()
        return True

    @property
    def is_empty(self) -> bool:
        """Whether all that was put here has been done: what is taken while others may have the
        turn is still to do."""
        return not self._has_news and self._left.empty()

    def ring(self) -> None:
        """Wake the loop for something else, while `run` runs."""
        self._bell.ring()

    async def run(
        self, meanwhile: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        """Do what comes, until cancelled. In the block `meanwhile` it waits in the middle of a
        turn."""
        answered_at = -math.inf
        while True:
            await trio.lowlevel.wait_readable(self._bell.heard)
            self._bell.hush()
            lingers = _LINGERS_MAX if self._clock() - answered_at < _AGAIN_S else 0
            first = None
            while self._do_all(first) and lingers:
                with meanwhile():
                    first = self._linger()
                lingers -= 1
            answered_at = self._clock()

    def close(self) -> None:
        """Do what is left, and take no more."""
        with self._lock:
            self._is_closed = True
            self._bell.close()
        self._do_all()

    def _do_all(self, first: tuple[Action, Call] | None = None) -> bool:
        """Do what is left, behind `first`; return whether the last of it has its answer."""
        is_answered = self._has_news = False
        left = first or self._take()
        while left is not None:
            action, call = left
            action(call)
            is_answered = call.is_answered
            left = self._take()
        return is_answered

    def _take(self) -> tuple[Action, Call] | None:
        return None if self._left.empty() else self._left.get()

    def _linger(self) -> tuple[Action, Call] | None:
        """Return what comes in a moment. What came for another reason after it is still left."""
        self._is_lingering = True
        try:
            return self._left.get(timeout=self._linger_s)
        except Empty:
            return None
        finally:
            self._is_lingering = False
