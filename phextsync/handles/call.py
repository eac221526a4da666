"""A request on its way, and its answer when it has come."""

import threading
from collections.abc import Callable
from typing import Final

from phextsync.control.frames import Answer, Value
from phextsync.control.operations import Operation, Serving


class Call:
    """A request, and where its answer goes: one thread gives it, any others wait for it."""

    def __init__(self, request: list[Value], operation: Operation[object] | None = None) -> None:
        self.request: Final = request
        self.lasts = operation is not None and operation.serving is Serving.LASTS
        self.takes_time = operation is not None and operation.serving is Serving.WAITS
        self.changes = operation is not None and operation.changes
        self.number = 0
        self.was_sent = False
        self.stop: Callable[[], None] | None = None  # what ends a wait at our own node
        self._answer: Answer = None
        self._is_answered = False
        self._told: Callable[[], object] | None = None
        self._pending = threading.Lock()  # held until there is an answer
        self._pending.acquire()

    @property
    def is_answered(self) -> bool:
        """Whether the answer has come."""
        return self._is_answered

    def complete(self, answer: Answer) -> None:
        """Give the answer to all who wait for it. Only the first counts; an interrupt in the middle
        leaves it to be given again."""
        if not self._is_answered:
            self._answer, self._is_answered = answer, True
        _release(self._pending)
        if self._told is not None:
            self._told()

    def tell(self, told: Callable[[], object]) -> None:
        """Call `told` when the answer has come, in any thread, once or more often."""
        self._told = told
        if self._is_answered:
            told()

    def result(self, timeout_s: float | None = None) -> Value:
        """Wait for the answer, and return it or raise its error. TimeoutError when it takes
        longer."""
        wait_s = -1 if timeout_s is None else max(0.0, timeout_s)
        try:
            if not self._pending.acquire(timeout=wait_s):
                raise TimeoutError
        finally:  # an interrupt, too, leaves it to others who wait
            if self._is_answered:
                try:  # noqa: SIM105 - `suppress` begins with a call, after which one may come
                    self._pending.release()
                except RuntimeError:
                    pass
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def _release(lock: threading.Lock) -> None:
    """Release a lock that another thread may have released meanwhile."""
    try:  # noqa: SIM105 - `suppress` is dearer
        lock.release()
    except RuntimeError:
        pass
