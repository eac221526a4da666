"""Full text search over replicas: `search` holds the index, this brings it in step.

The index is derived data: it follows the durable text within a second, is compared with it by
fingerprints when it is opened, and is built again when it is missing or damaged; a write never
waits for it.
"""

import os
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from phextsync.boundaries import Boundary, one_line
from phextsync.errors import PhextsyncError, StoreDamagedError, StoreError
from phextsync.index import ORIGIN, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.phext_names import checked_name
from phextsync.replica.changes import ChangeFeed
from phextsync.replica.clients import CLIENTS
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.search import FILE_NAME, KEY_END, Hit, Row, SearchIndex
from phextsync.signals import Flag

_ROUND_S: Final = 0.25
_ROWS_AT_ONCE: Final = 256
_CHANGES_MAX: Final = 100_000  # about 20 MB; of more, all scrolls are compared
_HITS_MAX: Final = 10_000
_TRIES: Final = 3  # of a search that finds the index damaged


class Indexer:
    """Brings a search index in step with replicas. Used in their thread; SQLite has others."""

    def __init__(
        self,
        replicas: ReplicaSet,
        index: SearchIndex,
        window: int = 4096,
        *,
        changes_max: int = _CHANGES_MAX,
    ) -> None:
        """`window` is how many scrolls are compared at a time; when more than `changes_max` have
        changed since the last time, all of a phext are."""
        self._replicas = replicas
        self._index = index
        self._window = window
        self._changes_max = changes_max
        self._feeds: dict[str, ChangeFeed] = {}
        self._undurable: dict[str, dict[Coordinate, None]] = {}  # changed, when last looked at
        self._builds = index.builds  # of the file that has what was indexed so far

    def close(self) -> None:
        """Stop following."""
        for feed in self._feeds.values():
            feed.close()

    async def catch_up(self) -> None:
        """Index every durable text that is not indexed as it is, and forget what is gone."""
        indexed = await trio.to_thread.run_sync(self._index.phexts)
        for phext in sorted({*indexed} - {*self._replicas.names()}):
            await self._compare(phext, CoordinateIndex())
        await self.refresh()

    async def refresh(self) -> None:
        """Index what became durable since the last time; all of it where the file was damaged."""
        while True:
            builds = self._index.builds
            if builds != self._builds:
                for feed in self._feeds.values():
                    feed.miss()
            self._builds = builds
            await self._refresh()
            if self._index.builds == builds:
                return

    async def _refresh(self) -> None:
        for phext in sorted({*self._replicas.names()} - {CLIENTS, *self._feeds}):
            feed = self._replicas.open(phext).feed(coordinates_max=self._changes_max)
            self._feeds[phext] = feed
            self._undurable[phext] = {}
            feed.miss()
        for phext, feed in self._feeds.items():
            await self._take_changes(phext, feed)

    async def _take_changes(self, phext: str, feed: ChangeFeed) -> None:
        replica = self._replicas.open(phext)
        changed = self._undurable[phext]
        while (change := feed.take()) is not None:
            changed.update(dict.fromkeys(change.coordinates))
            if change.missed is not None:
                changed.update(dict.fromkeys(replica.uncommitted()))
                await self._compare(phext, replica.index)
        waiting = set(replica.uncommitted())
        durable = [coordinate for coordinate in changed if coordinate not in waiting]
        for coordinate in durable:
            del changed[coordinate]
        await self._put(phext, durable)

    async def _compare(self, phext: str, durable: CoordinateIndex) -> None:
        """Compare fingerprints, one window of coordinates after the other."""
        after, lower = b"", ORIGIN
        while True:
            entries = durable.entries(CoordinateRange(lower, None), self._window)
            following = entries[-1][0].successor() if len(entries) == self._window else None
            last = KEY_END if following is None else entries[-1][0].key
            indexed = await trio.to_thread.run_sync(self._index.fingerprints, phext, after, last)
            differing = [c for c, mark, size in entries if size and indexed.pop(c.key, b"") != mark]
            await self._put(phext, differing)
            await trio.to_thread.run_sync(self._index.remove, phext, list(indexed))
            if following is None:
                return
            after, lower = last, following

    async def _put(self, phext: str, coordinates: Sequence[Coordinate]) -> None:
        for start in range(0, len(coordinates), _ROWS_AT_ONCE):
            replica = self._replicas.open(phext)
            rows = [_row(replica, c) for c in coordinates[start : start + _ROWS_AT_ONCE]]
            await trio.to_thread.run_sync(self._index.put, phext, rows)


def _row(replica: Replica, coordinate: Coordinate) -> Row:
    try:
        text = replica.read(coordinate)
    except StoreDamagedError:
        text = ""  # set aside, and a change once a peer has sent it again
    return coordinate.key, replica.index.fingerprint_of(coordinate) or b"", text


@dataclass(slots=True)
class _Round:
    """One time that the index was brought up to date, for those who wait for it."""

    ended: trio.Event = field(default_factory=trio.Event)
    outcome: "SearchIndex | StoreError | None" = None

    def end(self, outcome: "SearchIndex | StoreError") -> None:
        self.outcome = outcome
        self.ended.set()


class Searcher:
    """Search over the replicas of a node.

    The index is opened when it is first wanted and follows every change from then on. When its
    file cannot be used, searches fail and nothing else does; the next one tries again.
    """

    def __init__(self, replicas: ReplicaSet, folder: Path, boundary: Boundary) -> None:
        self._replicas = replicas
        self._path = folder / FILE_NAME
        self._boundary = boundary
        self._wanted = Flag()
        self._hurry = Flag()
        self._next = _Round()

    def start(self) -> None:
        """Have the index from now on, without waiting for it."""
        self._wanted.set()

    async def find(
        self, text: str, phext: str, range_: CoordinateRange, *, limit: int
    ) -> list[Hit]:
        """Search as `SearchIndex.find` does in what was durable at the time of the call. The
        first search waits until everything is indexed."""
        _check_limit(limit)
        checked_name(phext)
        for _ in range(_TRIES):
            index = await self._refreshed()
            builds = index.builds
            hits = await trio.to_thread.run_sync(
                index.find, text, phext, range_, limit, abandon_on_cancel=True
            )
            if index.builds == builds:
                return hits
        raise _damaged()

    async def _refreshed(self) -> SearchIndex:
        """Return the index once it has what is durable now."""
        awaited = self._next
        self._wanted.set()
        self._hurry.set()
        await awaited.ended.wait()
        if not isinstance(awaited.outcome, SearchIndex):
            raise StoreError(str(awaited.outcome))
        return awaited.outcome

    async def run(self) -> None:
        """Keep the index while it is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            with self._boundary.around("searching texts") as outcome:
                await self._open_and_follow()
            if outcome.error is not None:
                self._wanted.lower()
                self._begin_round().end(_as_store_error(outcome.error))

    async def _open_and_follow(self) -> None:
        is_in_memory = not self._path.parent.is_dir()  # as the store is, then
        made = partial(SearchIndex, self._path, in_memory=is_in_memory)
        with closing(await trio.to_thread.run_sync(made)) as index:
            await self._follow(index)

    async def _follow(self, index: SearchIndex) -> None:
        with closing(Indexer(self._replicas, index)) as indexer:
            await indexer.catch_up()
            while True:
                self._hurry.lower()
                current = self._begin_round()
                try:
                    await indexer.refresh()
                except Exception as error:
                    current.end(_as_store_error(error))
                    raise
                current.end(index)
                with trio.move_on_after(_ROUND_S):
                    await self._hurry.wait()

    def _begin_round(self) -> _Round:
        """Return the round that begins; who asks from now on waits for the one after it."""
        current, self._next = self._next, _Round()
        return current


def find_alone(
    replicas: ReplicaSet,
    folder: Path,
    text: str,
    phext: str,
    range_: CoordinateRange,
    *,
    limit: int,
) -> list[Hit]:
    """Bring the index of a folder up to date and search, where no node runs and no trio. Where the
    index cannot be written, is written by others meanwhile, or there is nothing to be found, one in
    memory is."""
    _check_limit(limit)
    path = folder / FILE_NAME
    if os.access(folder, os.W_OK) and replicas.names():
        with suppress(StoreError):
            return _find_in(SearchIndex(path), replicas, text, phext, range_, limit)
    index = SearchIndex(path, in_memory=True)
    return _find_in(index, replicas, text, phext, range_, limit)


def _find_in(
    index: SearchIndex,
    replicas: ReplicaSet,
    text: str,
    phext: str,
    range_: CoordinateRange,
    limit: int,
) -> list[Hit]:
    with closing(index):
        for _ in range(_TRIES):
            version = index.version()
            with closing(Indexer(replicas, index)) as indexer:
                trio.run(indexer.catch_up)
            hits = index.find(text, phext, range_, limit)
            if index.version() == version:
                return hits
    raise StoreError("the search index does not keep what it is given: others write it, too")


def _damaged() -> StoreError:
    return StoreError("the search index is damaged again and again: the disk may be failing")


def _as_store_error(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(f"texts cannot be searched: {one_line(error)}")


def _check_limit(limit: int) -> None:
    """PhextsyncError when `limit` is not a number of results."""
    if not 1 <= limit <= _HITS_MAX:
        raise PhextsyncError(f"expected a limit from 1 to {_HITS_MAX}, found {limit}")
