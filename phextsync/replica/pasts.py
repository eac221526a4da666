"""Pasts: finds what is kept of the past of scrolls, to be looked through in any thread."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from phextsync.crdt import client_clocks
from phextsync.errors import StoreDamagedError
from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.replica.contents import Contents
from phextsync.replica.documents import Documents
from phextsync.replica.past import DeletedScroll, Past, newest_first
from phextsync.replica.pending import Pending
from phextsync.replica.shared import Shared
from phextsync.replica.taking_back import Writer
from phextsync.store.contract import LogEntry

# What one step of a search for what was deleted looks at: some milliseconds.
_WALKED_MAX: Final = 1024
_PASTS_MAX: Final = 64
_PASTS_BYTES: Final = 1 << 20


class Pasts:
    """The past of each scroll of one phext: what is stored of it, and what is not yet."""

    def __init__(
        self,
        phext: str,
        index: CoordinateIndex,
        pending: Pending,
        documents: Documents,
        contents: Contents,
        shared: Shared,
    ) -> None:
        self._phext = phext
        self._index = index
        self._pending = pending
        self._documents = documents
        self._contents = contents
        self._store = shared.store
        self._now_ms = shared.author.now_ms
        self._clients = shared.clients

    def of(self, coordinate: Coordinate) -> Past:
        """Return what is kept of a scroll's past, with who wrote what."""
        state = self._contents.difference(coordinate, EMPTY_VERSION) or b""
        return self._past(coordinate, state, self._writers(state))

    def emptied(self, range_: CoordinateRange) -> tuple[list[Past], CoordinateRange | None]:
        """Return the pasts of the next few scrolls in a range that have no text any more, and what
        is left of the range. Looks at a bounded number of scrolls, and of bytes."""
        return self._few(range_, lambda size: not size, lambda _: {})

    def undeletable(self, range_: CoordinateRange) -> list[DeletedScroll]:
        """Return what was deleted in a range and is kept, newest first. Looks at all of it."""
        found: list[DeletedScroll] = []
        rest: CoordinateRange | None = range_
        while rest is not None:
            pasts, rest = self.emptied(rest)
            found += [deletion[0] for past in pasts if (deletion := past.deletion())]
        return newest_first(found)

    def few(self, range_: CoordinateRange) -> tuple[list[Past], CoordinateRange | None]:
        """Return the pasts of the next few scrolls in a range, with or without text, and what is
        left of the range. Looks at a bounded number of scrolls, and of bytes."""
        return self._few(range_, lambda size: True, self._writers)

    def _few(
        self,
        range_: CoordinateRange,
        is_wanted: Callable[[int], bool],
        writers_in: Callable[[bytes], dict[int, Writer]],
    ) -> tuple[list[Past], CoordinateRange | None]:
        entries = self._index.entries(range_, _WALKED_MAX)
        last = entries[-1][0] if len(entries) == _WALKED_MAX else None
        end = None if last is None else last.successor()
        part = range_ if end is None else CoordinateRange(range_.lower, end)
        unsettled = self._pending.coordinates()
        places = [place for place, _, size in entries if is_wanted(size)]
        places = [place for place in places if place not in unsettled]
        places += [c for c in unsettled if c in part and is_wanted(self._contents.size(c))]
        pasts: list[Past] = []
        size = 0
        for place in sorted(places):
            if len(pasts) == _PASTS_MAX or size > _PASTS_BYTES:
                return pasts, range_.intersect(CoordinateRange(place, None))
            with suppress(StoreDamagedError):  # it is set aside and reported
                state = self._contents.difference(place, EMPTY_VERSION) or b""
                pasts.append(self._past(place, state, writers_in(state)))
                size += pasts[-1].size
        return pasts, None if end is None else range_.intersect(CoordinateRange(end, None))

    def news(self, coordinate: Coordinate) -> list[LogEntry]:
        """Return what was written to a scroll and is not yet durable."""
        news: list[LogEntry] = []
        for layer in self._pending.layers(coordinate):
            news += [*([] if layer.entry is None else [layer.entry]), *layer.log]
        return news

    def _writers(self, state: bytes) -> dict[int, Writer]:
        clients = client_clocks(state) if state else ()
        writers = {client: self._clients.written_by(self._phext, client) for client in clients}
        return {client: Writer(*writer) for client, writer in writers.items() if writer}

    def _past(self, coordinate: Coordinate, state: bytes, writers: dict[int, Writer]) -> Past:
        news = self.news(coordinate)
        return Past(
            self._phext,
            coordinate,
            state,
            self._now_ms(),
            # In this order: a batch that is being written may fold the log into pieces.
            self._documents.read_stored(coordinate) if coordinate in self._index else None,
            news,
            self._store.pieces(self._phext, coordinate.key),
            self._store.history.of(self._phext, coordinate.key),
            writers,
        )
