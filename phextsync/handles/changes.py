"""Changes of a phext as they come, by plain calls."""

import threading
from collections.abc import Iterator

from phextsync.control import operations
from phextsync.errors import ClosedError
from phextsync.handles.call import Call
from phextsync.handles.engine import Engine
from phextsync.handles.requests import text_of
from phextsync.replica.changes import Change
from phextsync.replica.views import Range


class Changes:
    """Changes of a phext as they come; see `Phext.changes`. Ends when it or the handle closes."""

    def __init__(self, engine: Engine, phext: str, range_: Range, *, texts: bool) -> None:
        self._engine = engine
        self._phext = phext
        self._next: Call | None = None  # without an answer, though an interrupt ended the wait
        self._turn = threading.Lock()  # of those who want the next change
        self._watch = engine.begin(operations.WATCH, phext, text_of(range_), texts)
        engine.wait(self._watch)

    def __enter__(self) -> "Changes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        with self._turn:
            try:
                if self._next is None:
                    self._next = self._engine.begin(operations.NEXT, self._watch.number)
                change = operations.NEXT.answer.decode(self._next.result())
            except ClosedError:
                raise StopIteration from None
            self._next = None
        if change is None:
            raise StopIteration
        return change.change(self._phext)

    def close(self) -> None:
        """End the iteration, in any thread that waits for it."""
        self._engine.cancel(self._watch)
