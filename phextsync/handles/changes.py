"""Changes of a phext as they come, by plain calls."""

import os
import threading
from collections.abc import Iterator

from phextsync.control import operations
from phextsync.errors import ClosedError, PhextsyncError
from phextsync.handles.call import Call
from phextsync.handles.engine import Engine
from phextsync.handles.requests import text_of
from phextsync.replica.changes import Change
from phextsync.replica.views import Range


class Changes:
    """Changes of a phext as they come; see `Phext.changes`. Ends when it or the handle closes;
    ClosedError in the child of a fork."""

    def __init__(self, engine: Engine, phext: str, range_: Range, *, texts: bool) -> None:
        self._engine = engine
        self._phext = phext
        self._next: Call | None = None  # whose answer was not returned yet, whatever interrupted
        self._turn = threading.RLock()  # of those who want the next change
        self._is_waiting = False
        self._process = os.getpid()
        self._watch = engine.begin(operations.WATCH, phext, text_of(range_), texts)
        engine.wait(self._watch)

    def __enter__(self) -> "Changes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        while True:
            call, change = self._awaited()
            # Python looks for no signals from here to the end: so an interrupt has come before, and
            # the next call returns this change, or comes after it was returned.
            if self._next is call:
                self._next = None
                if change is None:
                    raise StopIteration
                return change

    def _awaited(self) -> tuple[Call, Change | None]:
        """Return the call that asked for the next change, and that change, None at the end."""
        if self._process != os.getpid():  # a thread that is not here may have the turn
            raise ClosedError(self._engine.closed_because)
        with self._turn:
            if self._is_waiting:
                raise PhextsyncError(
                    "expected one wait for the next change at a time, found another in this thread:"
                    " a signal handler or a finalizer needs changes of its own"
                )
            self._is_waiting = True
            try:
                return self._take()
            except ClosedError:
                raise StopIteration from None
            finally:
                self._is_waiting = False

    def _take(self) -> tuple[Call, Change | None]:
        if self._next is None:
            self._next = self._engine.prepared(operations.NEXT, self._watch.number)
            self._engine.send(self._next)
        else:  # an interrupt ended the last wait, perhaps before this was sent
            self._engine.send_again(self._next)
        change = operations.NEXT.answer.decode(self._next.result())
        return self._next, None if change is None else change.change(self._phext)

    def close(self) -> None:
        """End the iteration, in any thread that waits for it."""
        self._engine.cancel(self._watch)
