"""Full text search over replicas: an SQLite FTS5 index of their texts beside the store.

`words` says what is indexed of a text. The index is derived data: it follows the durable text
within a second, is compared with it by fingerprints when it is opened, and is built again when it
is missing, damaged, or was made by other rules; a write never waits for it. Results are ranked by
BM25 (Robertson and Zaragoza 2009) as FTS5 computes it.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import trio

from phextsync import words
from phextsync.boundaries import Boundary, one_line
from phextsync.errors import PhextsyncError, StoreDamagedError, StoreError
from phextsync.index import EVERYTHING, ORIGIN, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.phext_names import checked_name
from phextsync.replica.changes import ChangeFeed
from phextsync.replica.clients import CLIENTS
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.signals import Flag

FILE_NAME: Final = "search.sqlite"

_SCHEMA_VERSION: Final = 2_000_000 + words.RULES
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS scrolls (
  id INTEGER PRIMARY KEY, phext TEXT NOT NULL, key BLOB NOT NULL, fingerprint BLOB NOT NULL,
  text TEXT NOT NULL, UNIQUE (phext, key)
);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(words, content = "", tokenize = "ascii");
PRAGMA user_version = {_SCHEMA_VERSION};
COMMIT;
"""
# Of a frequent word, most of the time goes to rows of `scrolls`: so the best are taken first, from
# all phexts and ranges, and only of them is it asked where they are.
_BEST: Final = """
SELECT mark, key, id, phext = ? AND key >= ? AND key < ?
FROM (SELECT rowid AS number, rank AS mark FROM texts WHERE texts MATCH ? ORDER BY +mark LIMIT ?)
CROSS JOIN scrolls ON id = number
"""
_FIND: Final = """
SELECT rank AS mark, key, id FROM texts CROSS JOIN scrolls ON id = texts.rowid
WHERE phext = ? AND key >= ? AND key < ? AND texts MATCH ? ORDER BY mark, key LIMIT ?
"""
_BEST_MIN: Final = 64
_BEST_PER_HIT: Final = 4
# Apart from the search, which would carry every text that it then sorts.
_TEXT: Final = "SELECT text FROM scrolls WHERE id = ?"
_FORGET: Final = "INSERT INTO texts (texts, rowid, words) VALUES ('delete', ?, ?)"
_KEY_END: Final = b"\xff" * 13
_ROUND_S: Final = 0.25
_BUSY_S: Final = 60.0  # while others write the file, each on a machine that may be slow
_ROWS_AT_ONCE: Final = 256
_CHANGES_MAX: Final = 100_000  # about 20 MB; of more, all scrolls are compared
_HITS_MAX: Final = 10_000
_TRIES: Final = 3  # of a search that finds the index damaged

_log = logging.getLogger("phextsync.search")

Row = tuple[bytes, bytes, str]
"""Key, fingerprint and text of a scroll; an empty text removes it."""
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Hit:
    """A scroll that was found, the place in its text with the words in brackets, and its score:
    the greater the better, comparable within one search."""

    coordinate: Coordinate
    snippet: str
    score: float


class SearchIndex:
    """The index in one file, or, `in_memory`, a copy of it that is as good as the file can be read.
    Usable from any thread, and by any process; calls wait for one another."""

    def __init__(self, path: Path, *, in_memory: bool = False) -> None:
        """Open the index, or make it. StoreError when the folder does not take the file."""
        self.builds = 0
        """How often it was damaged since, and began empty again."""
        self._path = path
        self._is_in_memory = in_memory
        self._lock = threading.Lock()
        self._is_closed = False
        self._connection = self._opened()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._is_closed = True
            self._connection.close()

    def put(self, phext: str, rows: Iterable[Row]) -> None:
        """Take the texts of scrolls, all or none of them."""

        taken = list(rows)

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute("BEGIN IMMEDIATE")  # another process may put the same
                for key, fingerprint, text in taken:
                    _put_row(connection, phext, key, fingerprint, text)

        if taken:
            self._do(write)

    def remove(self, phext: str, keys: Iterable[bytes]) -> None:
        """Forget scrolls."""
        self.put(phext, ((key, b"", "") for key in keys))

    def phexts(self) -> list[str]:
        """Return the names of the phexts that have scrolls here, sorted."""
        query = "SELECT DISTINCT phext FROM scrolls ORDER BY phext"
        return self._do(lambda connection: [row[0] for row in connection.execute(query)])

    def version(self) -> tuple[int, int]:
        """Return what is the same again as long as nobody else has written, who may have taken out
        what was put in: another process can have read an older store."""
        (others,) = self._do(lambda c: c.execute("PRAGMA data_version").fetchone())
        return self.builds, others

    def fingerprints(self, phext: str, after: bytes, last: bytes) -> dict[bytes, bytes]:
        """Return the fingerprints of the indexed texts for keys after `after`, up to `last`."""
        query = "SELECT key, fingerprint FROM scrolls WHERE phext = ? AND key > ? AND key <= ?"
        return self._do(lambda c: dict(c.execute(query, (phext, after, last))))

    def find(
        self, text: str, phext: str, range_: CoordinateRange = EVERYTHING, limit: int = 20
    ) -> list[Hit]:
        """Return the best scrolls in `range_` that have all the words, the best first.

        Words are separated by white space and punctuation, without regard to case and accents;
        `"several words"` have to follow each other, `wor*` is the beginning of one. Of words with
        `|` between them those on one side are enough. A word of a script without blanks between
        words is found anywhere in it. PhextsyncError for more words than anybody asks for.
        """
        asked = words.query(text)
        if not asked.match:
            return []
        lower, upper = range_.to_keys()
        place = (phext, lower, upper or _KEY_END)

        def read(connection: sqlite3.Connection) -> list[tuple[bytes, str, float]]:
            with connection:
                connection.execute("BEGIN")  # others may write between the queries
                return [
                    (key, connection.execute(_TEXT, (number,)).fetchone()[0], -mark)
                    for mark, key, number in _ranked(connection, asked.match, place, limit)
                ]

        return [
            Hit(Coordinate.from_key(key), words.snippet(found, asked), score)
            for key, found, score in self._do(read)
        ]

    def _do(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        """Carry something out; once more on a new file when this one is damaged."""
        with self._lock:
            if self._is_closed:
                raise StoreError("the search index was closed")
            try:
                return call(self._connection)
            except sqlite3.OperationalError as error:
                raise StoreError(f"the search index cannot be used: {error}") from error
            except sqlite3.DatabaseError as error:
                _log.warning("%s is damaged (%s); it is built again", self._path, error)
                self._connection.close()
                self._delete()
                self._connection = self._opened()
                self.builds += 1
                return call(self._connection)

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError as error:
            raise StoreError(f"the search index cannot be opened: {error}") from error
        except OSError as error:  # of which the path is left out, for who asks from elsewhere
            raise StoreError(f"the search index cannot be opened: {error.strerror}") from error
        except sqlite3.DatabaseError as error:
            _log.warning("%s cannot be used (%s); it is built again", self._path, error)
            self._delete()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self._is_in_memory:
            connection = _copied(self._path)
        else:
            self._path.touch(mode=0o600)
            connection = sqlite3.connect(self._path, timeout=_BUSY_S, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"its schema is {version}, not {_SCHEMA_VERSION}")
            if version == 0:
                connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def _delete(self) -> None:
        if self._is_in_memory:
            self._path = Path(os.devnull)  # which is copied as nothing
            return
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _ranked(
    connection: sqlite3.Connection, match: str, place: tuple[str, bytes, bytes], limit: int
) -> list[tuple[float, bytes, int]]:
    """Return mark, key and number of the best scrolls in a place: by mark, the best has the least,
    then by key."""
    most = max(_BEST_MIN, _BEST_PER_HIT * limit)
    best = connection.execute(_BEST, (*place, match, most)).fetchall()
    found = sorted(row[:3] for row in best if row[3])
    if len(best) == most:  # there may be more that are as good as the last
        last = max(row[0] for row in best)
        found = [row for row in found if row[0] < last]
        if len(found) < limit:
            found = connection.execute(_FIND, (*place, match, limit)).fetchall()
    return found[:limit]


def _copied(path: Path) -> sqlite3.Connection:
    """Return a copy in memory of what can be read of a file; what is missing, the indexer adds."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    if os.access(path, os.R_OK):
        source = f"file:{quote(os.fspath(path))}?mode=ro&immutable=1"
        with suppress(sqlite3.Error), closing(sqlite3.connect(source, uri=True)) as file:
            file.backup(connection)
    return connection


def _put_row(
    connection: sqlite3.Connection, phext: str, key: bytes, fingerprint: bytes, text: str
) -> None:
    found = connection.execute(
        "SELECT id, text FROM scrolls WHERE phext = ? AND key = ?", (phext, key)
    ).fetchone()
    if found is not None:
        number, before = found
        connection.execute(_FORGET, (number, words.indexed(before)))
        connection.execute("DELETE FROM scrolls WHERE id = ?", (number,))
    if text:
        cursor = connection.execute(
            "INSERT INTO scrolls (phext, key, fingerprint, text) VALUES (?, ?, ?, ?)",
            (phext, key, fingerprint, text),
        )
        connection.execute(
            "INSERT INTO texts (rowid, words) VALUES (?, ?)",
            (cursor.lastrowid, words.indexed(text)),
        )


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
            last = _KEY_END if following is None else entries[-1][0].key
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
