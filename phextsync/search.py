"""The index of full text search: one SQLite FTS5 file of texts beside the store.

`words` says what is indexed of a text. The file is begun again when it is damaged, or was made by
other rules; `searching` brings it in step with replicas. Results are ranked by BM25 (Robertson and
Zaragoza 2009) as FTS5 computes it.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from phextsync import words
from phextsync.errors import StoreError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.ranking import Place, Ranked, Ranking

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
# Apart from the search, which would carry every text that it then sorts.
_TEXT: Final = "SELECT text FROM scrolls WHERE id = ?"
_FORGET: Final = "INSERT INTO texts (texts, rowid, words) VALUES ('delete', ?, ?)"
KEY_END: Final = b"\xff" * 13
_BUSY_S: Final = 60.0  # while others write the file, each on a machine that may be slow

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
        self._ranking = Ranking()
        self._others = -1  # changes whenever others write
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
                self._ranking.note(len(taken))
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
        return self.builds, self._do(_data_version)

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
        `|` between them those on one side are enough; `~` asks for a rough answer, as
        `Ranking.best` has it. A word of a script without blanks between words is found anywhere in
        it. PhextsyncError for more words than anybody asks for.
        """
        asked = words.query(text)
        if not asked.match:
            return []
        lower, upper = range_.to_keys()
        place = (phext, lower, upper or KEY_END)

        def read(connection: sqlite3.Connection) -> list[tuple[bytes, str, float]]:
            with connection:
                connection.execute("BEGIN")  # others may write between the queries
                return [
                    (key, connection.execute(_TEXT, (number,)).fetchone()[0], -mark)
                    for mark, key, number in self._ranked(connection, asked, place, limit)
                ]

        return [
            Hit(Coordinate.from_key(key), words.snippet(found, asked), score)
            for key, found, score in self._do(read)
        ]

    def _ranked(
        self, connection: sqlite3.Connection, asked: words.Query, place: Place, limit: int
    ) -> list[Ranked]:
        others = _data_version(connection)
        if others != self._others:
            self._ranking = Ranking()
        self._others = others
        return self._ranking.best(connection, asked, place, limit)

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
                self._ranking = Ranking()
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


def _data_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


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
