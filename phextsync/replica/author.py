"""Author: this node as one who writes: what it may write, and what is noted of what it wrote."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from phextsync.errors import PermissionDeniedError
from phextsync.index import Coordinate, contains
from phextsync.store.contract import LogEntry
from phextsync.trust.permissions import Permissions


class Author:
    """`now_ms` is the time by this node's clock, which is stored beside updates for people to read
    and decides nothing. `permissions` are those of this node's certificate."""

    def __init__(self, node_id: bytes, permissions: Permissions, now_ms: Callable[[], int]) -> None:
        self.node_id = node_id
        self.permissions = permissions
        self.now_ms = now_ms
        self._written_ms: int | None = None

    @contextmanager
    def dated(self, time_ms: int) -> Iterator[None]:
        """Note of what is written in this block that it was written then, such as elsewhere."""
        self._written_ms = time_ms
        try:
            yield
        finally:
            self._written_ms = None

    def may_write(self, phext: str, coordinate: Coordinate) -> bool:
        """Whether this node's own permissions allow an edit there."""
        permissions = self.permissions
        return permissions.is_everything or contains(permissions.writable(phext), coordinate)

    def check_allowed(self, phext: str, coordinate: Coordinate) -> None:
        """PermissionDeniedError when this node may not edit there."""
        if not (self.permissions.is_everything or self.may_write(phext, coordinate)):
            allowed = ", ".join(map(str, self.permissions.writable(phext))) or "nothing"
            raise PermissionDeniedError(
                f"this node's certificate does not allow writing {phext} {coordinate}: "
                f"expected a coordinate in {allowed}"
            )

    def stamp(self, update: bytes) -> LogEntry:
        """Return the log entry of an update that was made here, now or at the time of `dated`."""
        time_ms = self.now_ms() if self._written_ms is None else self._written_ms
        return LogEntry(update, self.node_id, time_ms)

    def seen(self, entry: LogEntry) -> LogEntry:
        """Return what is kept of an entry: one without origin gets the time at which it came.

        It stays one without origin: for peers that is what a comparison brought.
        """
        return entry if entry.origin else LogEntry(entry.update, b"", self.now_ms())
