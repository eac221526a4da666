"""Author: this node as one who writes: what it may write, and what is noted of what it wrote."""

from collections.abc import Callable

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
        """Return the log entry of an update that was made here and now."""
        return LogEntry(update, self.node_id, self.now_ms())

    def seen(self, entry: LogEntry) -> LogEntry:
        """Return what is kept of an entry: one without origin gets the time at which it came.

        It stays one without origin: for peers that is what a comparison brought.
        """
        return entry if entry.origin else LogEntry(entry.update, b"", self.now_ms())
