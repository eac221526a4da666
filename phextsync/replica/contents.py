"""Contents: what the scrolls of a phext are, told without a document where it can be."""

import heapq
from collections.abc import Iterator

from phextsync.crdt import Fingerprinter, merge_updates
from phextsync.errors import StoreDamagedError
from phextsync.index import (
    EMPTY_VERSION,
    EVERYTHING,
    Coordinate,
    CoordinateIndex,
    CoordinateRange,
    OpenText,
    plain_text,
    update_version,
)
from phextsync.replica.documents import Documents
from phextsync.replica.guests import Guests, without_guests
from phextsync.replica.pending import Pending, Where
from phextsync.replica.views import Range, as_range
from phextsync.store.contract import Store, StoredScroll


class Contents:
    """Texts, sizes, versions and fingerprints of one phext as they are now."""

    def __init__(
        self,
        phext: str,
        index: CoordinateIndex,
        pending: Pending,
        documents: Documents,
        store: Store,
        guests: Guests,
    ) -> None:
        self.fingerprinter = Fingerprinter(phext)
        self._phext = phext
        self._index = index
        self._pending = pending
        self._documents = documents
        self._store = store
        self._guests = guests

    # -- texts -----------------------------------------------------------------------------

    def stored_text(self, coordinate: Coordinate) -> str:
        """Return the text, "" when there is none, of a scroll that is closed and in the index as
        it is now, and keep it at hand. TypeError when it is no coordinate."""
        try:  # costs nothing where nothing is wrong
            key = coordinate.key
        except AttributeError:
            raise TypeError(f"expected a coordinate, found {type(coordinate).__name__}") from None
        text = self._store.text(self._phext, key)
        return self._documents.keep_text(coordinate, text) if text else self.text(coordinate)

    def text(self, coordinate: Coordinate) -> str:
        """Return the scroll's text, "" when there is none, and keep it at hand."""
        opened = self._documents.get(coordinate)
        if opened is None:
            stored = None
            if self._pending.where(coordinate) is Where.STORED:
                stored = self._documents.read_stored(coordinate)
                plain = _plain_text(stored)
                if plain:
                    return self._documents.keep_text(coordinate, plain.decode())
            opened = self._documents.open(coordinate, stored)
        if opened is None or not (text := opened.scroll.text):
            return ""
        opened.used = True
        opened.text = text
        return text

    def read(self, coordinate: Coordinate) -> str:
        """Return the scroll's text, "" when there is none. For passes over many: a scroll that is
        closed stays closed, unless it was edited, and one that is damaged, which is set aside and
        reported, does not end the pass."""
        kept: OpenText | None = self._index.get(coordinate)
        if kept is not None and kept.text is not None:
            return kept.text
        if self.is_closed(coordinate):
            text = self._store.text(self._phext, coordinate.key)
            if text is not None:
                return text
        try:
            state = self._plain_state(coordinate)
            plain = None if state is None else plain_text(state)
            return self.text(coordinate) if plain is None else plain.decode()
        except StoreDamagedError:
            return ""

    def glance(self, coordinate: Coordinate) -> str | None:
        """Return the text of a closed scroll, "" when it has none, without opening it.

        For any thread while another uses the phext, as long as the store stays open. None: only
        the phext's own thread can tell, since the scroll is open or on its way to the store.
        """
        moves = self._pending.moves
        if coordinate in self._pending or self._documents.is_open(coordinate):
            return None
        text = self._glanced(coordinate) if coordinate in self._index else ""
        return text if moves == self._pending.moves else None

    def _glanced(self, coordinate: Coordinate) -> str | None:
        text = self._store.text(self._phext, coordinate.key)
        if text is not None:
            return text
        try:
            stored = self._store.read(self._phext, coordinate.key)
        except StoreDamagedError:
            return None
        plain = None if stored is None else _plain_text(stored)
        return None if plain is None else plain.decode()

    def size(self, coordinate: Coordinate) -> int:
        """Return the bytes of the scroll's text in UTF-8, 0 when there is none. Opens nothing,
        unless the document of what is not yet durable was thrown away."""
        opened = self._documents.get(coordinate)
        if opened is None:
            latest = self._pending.latest(coordinate)
            if latest is None:
                return self._index.size_of(coordinate)
            if not latest.log:
                return latest.size
            opened = self._documents.open(coordinate)
        return 0 if opened is None else opened.scroll.size

    def count(self) -> int:
        """Return how many scrolls have text, guests not counted."""
        if self._guests:
            return sum(1 for _ in self.coordinates())
        unsettled = self._pending.coordinates()
        return self._index.filled + sum(
            (self.size(c) > 0) - (self._index.size_of(c) > 0) for c in unsettled
        )

    def coordinates(self, range_: Range = EVERYTHING) -> Iterator[Coordinate]:
        """Iterate in order over the coordinates in `range_` whose scroll has text and is no
        guest."""
        range_ = as_range(range_)
        unsettled = {c for c in self._pending.coordinates() if c in range_}
        settled = (c for c in self._index.coordinates(range_, filled=True) if c not in unsettled)
        both = heapq.merge(settled, sorted(c for c in unsettled if self.size(c)))
        return iter(without_guests(self._guests, self._phext, both))

    def scrolls(self, range_: Range) -> Iterator[tuple[Coordinate, str]]:
        """Iterate in order over the scrolls in `range_` that have text, as of the call."""
        for coordinate in list(self.coordinates(range_)):
            text = self.read(coordinate)
            if text:
                yield coordinate, text

    def near(
        self, at: Coordinate, count: int, range_: CoordinateRange, *, itself: bool
    ) -> list[tuple[int, Coordinate]]:
        """Return up to `count` (distance, coordinate) in a range whose scroll has text and is no
        guest, the nearest first."""
        unsettled = {c for c in self._pending.coordinates() if c in range_}
        wanted = count + len(unsettled)
        while True:
            found = self._index.nearest(at, wanted, range_, itself=itself)
            ours = [row for row in found if row[1] not in unsettled]
            if self._guests:
                ours = [row for row in ours if (self._phext, row[1]) not in self._guests]
            if len(ours) >= count or len(found) < wanted:
                break
            wanted *= 2  # guests took their places
        fresh = [c for c in unsettled if self.size(c) and (itself or c != at)]
        return (
            sorted([*ours, *((_apart(at, c), c) for c in fresh)])[:count] if fresh else ours[:count]
        )

    # -- what peers compare and need -------------------------------------------------------

    def version(self, coordinate: Coordinate) -> bytes:
        """Return the version of the scroll, `EMPTY_VERSION` when it is unknown."""
        state = self._plain_state(coordinate)
        if state is not None:
            return update_version(state)
        opened = self._documents.open(coordinate)
        return EMPTY_VERSION if opened is None else opened.scroll.version()

    def fingerprint(self, coordinate: Coordinate) -> bytes:
        """Return the fingerprint of the scroll; empty when it is unknown."""
        if self._documents.get(coordinate) is None:
            latest = self._pending.latest(coordinate)
            if latest is None:
                return self._index.fingerprint_of(coordinate) or b""
            if latest.is_plain:
                return latest.fingerprint
        opened = self._documents.open(coordinate)
        return b"" if opened is None else opened.scroll.fingerprint(self.fingerprinter)

    def difference(self, coordinate: Coordinate, version: bytes) -> bytes | None:
        """Return an update with all that `version` lacks, None when it lacks nothing.

        For the empty version it is what is stored, and no document is opened.
        """
        opened = self._documents.get(coordinate)
        if opened is None and version == EMPTY_VERSION:
            latest = self._pending.latest(coordinate)
            if latest is None:
                return self._stored_state(coordinate) if coordinate in self._index else None
            if latest.state is not None and latest.is_plain:
                return latest.state
        opened = opened or self._documents.open(coordinate)
        return None if opened is None else opened.scroll.difference(version)

    def is_closed(self, coordinate: Coordinate) -> bool:
        """Whether the store has the scroll as it is now, and it has no document."""
        is_stored = self._pending.where(coordinate) is Where.STORED
        return is_stored and self._documents.get(coordinate) is None

    def _plain_state(self, coordinate: Coordinate) -> bytes | None:
        """Return the state of a closed scroll that tells text and version without a document."""
        if self._documents.get(coordinate) is not None:
            return None
        state = self.difference(coordinate, EMPTY_VERSION)
        return None if state is None or plain_text(state) is None else state

    def _stored_state(self, coordinate: Coordinate) -> bytes:
        return merge_updates(self._documents.read_stored(coordinate).updates)


def _apart(one: Coordinate, other: Coordinate) -> int:
    """Return what the nine parts of two coordinates differ by in all."""
    return sum(abs(a - b) for a, b in zip(one.parts, other.parts, strict=True))


def _plain_text(stored: StoredScroll) -> bytes | None:
    """Return the text in UTF-8, None when it takes a document to tell."""
    updates = stored.updates
    text = plain_text(updates[0])
    return text if text is None or len(updates) == 1 else plain_text(merge_updates(updates))
