"""The contract of a store: what it is given, what it gives, and when that is durable.

Nothing here knows what an update or a coordinate means: keys are 12 bytes in the order of
coordinates, values are bytes. A store has one owner. `commit` may run in another thread than the
reads; each call begins and ends its own transaction, and no buffer leaves it.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from phextsync.store.durations import Durations
from phextsync.store.retention import Retention


class LogEntry(NamedTuple):
    """An update, the node that wrote it (16 bytes or none), and when by that node's clock."""

    update: bytes
    origin: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class ScrollWrite:
    """What a batch does to one scroll. A `state` replaces the stored state and drops its log;
    then `log` is appended. One that `leaves` is absent from then on, as if it had never been here,
    and the phext's client id has written what is gone: its lease ends."""

    key: bytes
    fingerprint: bytes
    size: int
    state: bytes | None
    log: tuple[LogEntry, ...]
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class HistoryPiece:
    """A part of what is kept of a scroll's past; an empty one is removed, and all with None."""

    phext: str
    key: bytes
    number: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that become durable together: scrolls by phext, and client ids by phext.

    A receipt says what of the changes that another process asked for is in this batch and those
    before it, by the process's id; an empty one removes it. A note is what another part of the
    library has to remember of what it did to scrolls; an empty one is removed.
    """

    writes: tuple[tuple[str, ScrollWrite], ...]
    leases: tuple[tuple[str, int], ...] = ()
    receipts: tuple[tuple[bytes, bytes], ...] = ()
    history: tuple[HistoryPiece, ...] = ()
    kept: Retention | None = None
    notes: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredScroll:
    """A state, and the updates that came after it."""

    state: bytes | None
    log: tuple[LogEntry, ...]

    @property
    def updates(self) -> tuple[bytes, ...]:
        """The updates that together make the scroll."""
        first = () if self.state is None else (self.state,)
        return (*first, *(entry.update for entry in self.log))

    @property
    def log_bytes(self) -> int:
        """Bytes of the updates in the log."""
        return sum(len(entry.update) for entry in self.log)


@dataclass(frozen=True, slots=True)
class Heads:
    """All scrolls of a phext in order: keys of 12 bytes, fingerprints of 32, sizes as uint32 in
    native order, as `CoordinateIndex.bulk_load` takes them."""

    keys: bytes
    fingerprints: bytes
    sizes: bytes


class Store(Protocol):
    """What a replica needs of a store. `syncs`: how long the disk took, where it is timed.
    `refused_history`: whether the last batch was written without its history and its setting.
    `is_fleeting`: whether all of it ends with the process, so that nobody may count on it."""

    syncs: Durations
    refused_history: bool
    is_fleeting: bool

    @property
    def report(self) -> tuple[str, ...]:
        """What the operator should know of how the store was opened, a line each."""

    def phexts(self) -> list[str]:
        """Return the names of the phexts that have scrolls, sorted."""

    def heads(self, phext: str) -> Heads:
        """Return the heads of all scrolls of a phext. O(scrolls)."""

    def read(self, phext: str, key: bytes) -> StoredScroll | None:
        """Return a scroll, None when there is none. StoreDamagedError when it is damaged."""

    def text(self, phext: str, key: bytes) -> str | None:
        """Return the text of a scroll, None when it takes more to tell, as for one that is damaged
        or not there: `read` does. What can be told is told without a copy of what is stored."""

    def read_range(
        self, phext: str, lower: bytes, upper: bytes | None, bytes_max: int
    ) -> list[tuple[bytes, StoredScroll]]:
        """Return scrolls from `lower`, included, to `upper`, excluded, in order: at least one if
        there is one, and no more once they have `bytes_max`. Damaged ones are left out."""

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, all or nothing but for `refused_history`. StoreFullError when the
        disk refuses."""

    def lease(self, phext: str) -> int | None:
        """Return the client id that this store may go on using, None when it needs a new one."""

    def receipts(self) -> dict[bytes, bytes]:
        """Return the receipts as they were when the store was opened."""

    def note(self, key: bytes) -> bytes:
        """Return a note, nothing when there is none, or when it is damaged."""

    def notes(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Return the notes whose key begins with `prefix`, in order, without damaged ones."""

    def quarantine(self, phext: str, key: bytes) -> None:
        """Set a damaged scroll aside: it is absent from now on. The phext's client id has written
        what is lost, and must not write again: its lease ends."""

    @property
    def history(self) -> Retention:
        """Where history is kept and for how long: settings of the folder."""

    def pieces(self, phext: str, key: bytes, *, oldest: int | None = None) -> dict[int, bytes]:
        """Return the pieces of a scroll's history by number, ascending, damaged ones empty;
        of many only some of the `oldest`."""

    def last_piece(self, phext: str, key: bytes) -> int:
        """Return the number of the newest piece of a scroll's history, -1 when it has none."""

    def histories(self, after: tuple[str, bytes] | None, count: int) -> list[tuple[str, bytes]]:
        """Return phexts and keys of `count` scrolls that have a history, behind one of them, in an
        order of the store's own; fewer at the end."""

    def close(self, *, clean: bool) -> None:
        """Close. Only a clean close, after the last commit, lets client ids be used again."""
