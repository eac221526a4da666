"""Users of real nodes: what they ask over a node's socket, and what they hear of it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from phextsync.control.answers import ToldChange
from phextsync.control.client import Attachment
from phextsync.control.frames import Value
from phextsync.control.operations import digest
from phextsync.errors import StoreError
from phextsync.index import Coordinate
from phextsync.testing import PHEXT
from sims.processes import PATIENCE_S


class Session:
    """Connections of users to one life of a node: to edit, to read, and to hear of changes. Each
    has a thread, since a node takes its time and may never answer."""

    def __init__(self, folder: Path, changed: Callable[[Coordinate], None]) -> None:
        """Connect. FileNotFoundError, ConnectionError or StoreError when there is no node."""
        with ExitStack() as stack:
            self._editor, self._reader, watcher = (
                stack.enter_context(Attachment(folder)) for _ in range(3)
            )
            self._edits, self._reads, watching = (
                stack.enter_context(ThreadPoolExecutor(1)) for _ in range(3)
            )
            next_change = watching.submit(watcher.watch, PHEXT, "*").result(PATIENCE_S)
            watching.submit(_watch, next_change, changed)
            self._stack = stack.pop_all()

    def edit(self, *request: Value) -> "Future[Value]":
        """Ask for an edit after all that was asked before."""
        return self._edits.submit(self._editor.ask, *request)

    def read(self, *request: Value) -> Value:
        """Return an answer. TimeoutError when there is none for long."""
        return self._reads.submit(self._reader.ask, *request).result(PATIENCE_S)

    def close(self) -> None:
        """Take the answers that are under way and cancel what waits; the node has ended."""
        self._edits.shutdown(cancel_futures=True)
        self._stack.close()


def _watch(
    next_change: Callable[[], ToldChange | None], changed: Callable[[Coordinate], None]
) -> None:
    """Say what changes until the node ends."""
    with suppress(StoreError, ConnectionError):
        while change := next_change():
            for scroll in change.scrolls:
                changed(scroll.coordinate)


class Hand:
    """An edit as the request that makes it, on the text that its user saw."""

    def __init__(self, seen: str) -> None:
        self.before = seen
        self.after = seen
        self.request: list[Value] = []

    def append(self, key: Coordinate, text: str) -> None:
        self.before, self.after = "", text
        self.request = ["append", PHEXT, str(key), text]

    def insert(self, key: Coordinate, offset: int, text: str) -> None:
        self._splice(key, offset, offset, text)

    def delete(self, key: Coordinate, start: int, stop: int) -> None:
        self._splice(key, start, stop, "")

    def edit(self, key: Coordinate, text: str) -> None:
        self.after = text
        self.request = ["set", PHEXT, str(key), text, digest(self.before)]

    def clear_scroll(self, key: Coordinate) -> bool:
        self.edit(key, "")
        return bool(self.before)

    def import_text(self, key: Coordinate, text: str) -> None:
        self.before, self.after = "", text
        self.request = ["import", PHEXT, True, [[str(key), text]]]

    def _splice(self, key: Coordinate, start: int, stop: int, text: str) -> None:
        self.after = self.before[:start] + text + self.before[stop:]
        self.request = ["splice", PHEXT, str(key), start, stop, text, digest(self.before)]
