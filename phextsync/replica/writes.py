"""Writes: the changes of a phext on their way into the batches of its node."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from phextsync.crdt import Scroll
from phextsync.errors import UpdateError
from phextsync.index import Coordinate, CoordinateIndex
from phextsync.replica.changes import is_durable_first
from phextsync.replica.clients import Client
from phextsync.replica.contents import Contents
from phextsync.replica.documents import LOG_ENTRY_BYTES, Document, Documents
from phextsync.replica.listener import NewUpdate
from phextsync.replica.pending import Pending, Unsettled
from phextsync.replica.publisher import Publisher
from phextsync.replica.shared import Shared
from phextsync.store.contract import LogEntry, ScrollWrite
from phextsync.texts import STATE_BYTES_MAX, TEXT_BYTES_MAX, too_large_state

# A log is folded into the state when it outgrows half of it: a scroll never occupies more than
# one and a half times its state, and each byte is rewritten about twice.
_LOG_SHARE: Final = 2
_LOG_BYTES_MIN: Final = 4096
_LEAVING_AT_ONCE: Final = 1000  # scrolls that one batch takes out: others wait for it


class Writes:
    """Takes what changed, gives it to a batch, and takes it back if the batch is refused. A phext
    that is not there is made by its first change."""

    def __init__(
        self,
        name: str,
        index: CoordinateIndex,
        pending: Pending,
        documents: Documents,
        contents: Contents,
        client: Client,
        publisher: Publisher,
        shared: Shared,
    ) -> None:
        self.name = name
        self._index = index
        self._pending = pending
        self._documents = documents
        self._fingerprinter = contents.fingerprinter
        self._publisher = publisher
        self._client = client
        self._history = shared.history
        self._holding = shared.holding
        self._guests = shared.holding.guests
        self._durability = shared.durability
        self._make = shared.make
        self._listeners = shared.listeners
        self._report = shared.report

    # -- changes ---------------------------------------------------------------------------

    def log(
        self,
        coordinate: Coordinate,
        opened: Document,
        entry: LogEntry,
        stored: LogEntry,
        source: int | None = None,
    ) -> None:
        """An update took effect in a document: it goes to the log as `stored`, and is told as
        `entry`, which came over link `source`."""
        unsettled = self._pending.waiting(coordinate)
        if unsettled is None:
            self._touch()
            unsettled = self._pending.put(coordinate, Unsettled())
        unsettled.log.append(stored)
        opened.halves.note(stored.update)
        opened.log_bytes += len(stored.update) + LOG_ENTRY_BYTES
        self._tell(coordinate, entry, source)

    def put_state(
        self,
        coordinate: Coordinate,
        entry: LogEntry,
        stored: LogEntry,
        version: bytes,
        text: bytes,
        source: int | None = None,
    ) -> None:
        """A whole state of an unknown scroll took effect without a document."""
        fingerprint = self._fingerprinter.of(coordinate.key, version, text)
        self._touch()
        self._pending.put(
            coordinate,
            Unsettled(state=stored.update, entry=stored, fingerprint=fingerprint, size=len(text)),
        )
        self._tell(coordinate, entry, source)

    def replace(self, coordinate: Coordinate) -> None:
        """The scroll's document is another one, which does not build on what is stored."""
        self._pending.put(coordinate, Unsettled(rewrite=True, is_other=True))
        self._touch()

    def rewrite(self, coordinate: Coordinate) -> None:
        """Write the scroll once more as a whole, with the head that its content has."""
        unsettled = self._pending.waiting(coordinate)
        if unsettled is None:
            unsettled = self._pending.put(coordinate, Unsettled())
        unsettled.rewrite = True
        self._touch()

    def leave(self) -> None:
        """Let the next batches take out what this node has ceased to hold."""
        if self._holding.hold(self.name).dropping:
            self._client.give_up()  # it may have written what goes
            self._documents.close_unpinned()
            self._touch()

    def tell_again(self, coordinate: Coordinate, entries: Iterable[LogEntry]) -> None:
        """Updates of here are logged, and perhaps nobody was told, not even that there are some."""
        for entry in entries:
            self._tell(coordinate, entry, None)
        self._touch()

    def _tell(self, coordinate: Coordinate, entry: LogEntry, source: int | None) -> None:
        durable_first = source is None and is_durable_first()
        is_alone = source is None and not self._publisher.is_in_batch
        if source is None and self._guests:
            self._guests.edited((self.name, coordinate))
        self._listeners.update(
            NewUpdate(self.name, coordinate, entry, source, durable_first, is_alone)
        )

    def _touch(self) -> None:
        self._make(self.name)
        self._durability.changed(self)

    # -- batches ---------------------------------------------------------------------------

    def take_writes(self) -> list[ScrollWrite]:
        """Return what a batch has to write; `settle` or `unsettle` must follow."""
        self._publisher.split()
        for coordinate in self._next_to_leave():
            self._pending.put(coordinate, Unsettled(leaves=True))
        return [self._write(c, unsettled) for c, unsettled in self._pending.take().items()]

    def settle(self) -> None:
        """The writes taken last are durable: put them into the index."""
        self._pending.settle(self._documents.settle)
        for range_ in self._holding.hold(self.name).dropping:
            if self._index.count(range_):
                self._touch()
            else:
                self._holding.dropped(self.name, range_)
                self._publisher.publish_missed(range_)

    def unsettle(self) -> None:
        """The writes taken last failed: they go back before what has come since."""
        for coordinate, unsettled in self._pending.unsettle().items():
            # What the failed write replaced is not known to be there: write all of it.
            unsettled.rewrite |= self._documents.get(coordinate) is not None

    def _next_to_leave(self) -> list[Coordinate]:
        ranges = self._holding.hold(self.name).dropping
        leaving = (place for range_ in ranges for place in self._index.coordinates(range_))
        return list(islice(leaving, _LEAVING_AT_ONCE))

    def _whole(self, coordinate: Coordinate, scroll: Scroll) -> bytes | None:
        """Return a scroll's state, None when Yrs gives none that can be read: its updates stay."""
        try:
            return scroll.state()
        except UpdateError as error:
            self._report(f"{self.name} {coordinate}: kept as updates, it has no state: {error}")
            return None

    def _write(self, coordinate: Coordinate, unsettled: Unsettled) -> ScrollWrite:
        if unsettled.leaves:
            self._history.left(self.name, coordinate.key)
            return ScrollWrite(coordinate.key, b"", 0, None, (), leaves=True)
        # A document that failed was thrown away, and only one can tell what a log comes to.
        documents = self._documents
        opened = (documents.get if unsettled.is_plain else documents.open)(coordinate)
        key, state, log = coordinate.key, unsettled.state, tuple(unsettled.log)
        if unsettled.entry is not None and self._history.keeps(self.name, key):
            state, log = None, (unsettled.entry, *log)
        if opened is None:
            return ScrollWrite(key, unsettled.fingerprint, unsettled.size, state, log)
        scroll = opened.scroll
        unsettled.fingerprint = scroll.fingerprint(self._fingerprinter)
        unsettled.size = scroll.size
        stored = opened.state_bytes or len(unsettled.state or b"")
        is_large = (
            stored + opened.log_bytes > TEXT_BYTES_MAX and not unsettled.size
        )  # emptied since: it gets small
        if (
            unsettled.rewrite
            or is_large
            or opened.log_bytes > max(stored // _LOG_SHARE, _LOG_BYTES_MIN)
        ):
            whole = self._whole(coordinate, scroll)
            if whole is not None:
                news, state, log = log, whole, ()
                self._history.folded(self.name, key, news, state, is_other=unsettled.is_other)
                if opened.state_bytes <= STATE_BYTES_MAX < len(state):
                    self._report(f"{self.name} {coordinate}: {too_large_state(len(state))}")
                opened.state_bytes, opened.log_bytes = len(state), 0
        return ScrollWrite(key, unsettled.fingerprint, unsettled.size, state, log)
