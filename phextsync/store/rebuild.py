"""Rebuild: a new data file from what an old one holds: upgrades, compaction, after damage."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Self, TypeVar

import lmdb

from phextsync.store.records import (
    DAMAGED,
    DATABASES,
    FORMAT_VERSION,
    HEADS,
    HISTORY,
    LOGS,
    META,
    NAMES,
    NOTES,
    STATE_SUFFIX,
    STATES,
    Records,
    Stored,
    seal,
)
from phextsync.systems.resources import MAP_BYTES

_SCROLLS_AT_ONCE: Final = 5000
_PUTS_AT_ONCE: Final = 10_000

T = TypeVar("T")
Databases = dict[bytes, "lmdb._Database"]
Progress = Callable[[int, int], None]
"""Told of how many scrolls are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came over: scrolls that have text, and `others`, which are deleted or the library's own;
    the names and problems of those that did not come; `unnamed` is how many more there were of
    which nothing could be read, None when that cannot be known."""

    scrolls: int
    others: int
    lost: tuple[str, ...]
    unnamed: int | None


def create(path: Path, *, is_durable: bool) -> tuple["lmdb.Environment", Databases]:
    """Make an empty data file for one process. One that is not durable is so after `sync`."""
    path.mkdir(mode=0o700)
    environment = lmdb.open(
        os.fsencode(path), map_size=MAP_BYTES, max_dbs=8, mode=0o600, sync=is_durable, lock=False
    )
    with environment.begin(write=True) as txn:
        databases = {name: environment.open_db(name, txn=txn) for name in DATABASES}
        version = b"%d" % FORMAT_VERSION
        txn.put(b"version", seal(META, b"version", version), db=databases[META])
    return environment, databases


def rebuild(records: Records, path: Path, progress: Progress | None) -> Rebuilt:
    """Copy every sound scroll into a new file in the folder `path`; set the others aside there.

    Client ids do not come over. The file is durable at the end, its name is not.
    """
    environment, databases = create(path, is_durable=False)
    try:
        with _Writes(environment) as writes:
            for number, name in sorted(records.names.items()):
                key = b"n" + name.encode()
                writes.put(key, seal(META, key, number), db=databases[META])
                writes.put(number, seal(NAMES, number, name.encode()), db=databases[NAMES])
            for key, receipt in records.receipts.items():
                writes.put(key, seal(META, key, receipt), db=databases[META])
            for key, body in records.retention.items():
                writes.put(key, seal(META, key, body), db=databases[META])
            for key, value in records.set_aside():
                writes.put(key, value, db=databases[DAMAGED])
            rebuilt = _copy(records, writes, databases, progress)
            _copy_history(records, writes, databases[HISTORY])
            for key, value in records.notes():
                writes.put(key, value, db=databases[NOTES])
        environment.sync(True)
    finally:
        environment.close()
    return rebuilt


class _Writes:
    """Puts into a new file, thousands in a transaction: each one leaves pages that are free."""

    def __init__(self, environment: "lmdb.Environment") -> None:
        self._environment = environment
        self._txn = environment.begin(write=True)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            self._txn.commit()
        else:
            self._txn.abort()

    def put(self, key: bytes, value: bytes, *, db: "lmdb._Database", append: bool = False) -> None:
        """Put one entry."""
        if self._count == _PUTS_AT_ONCE:
            self._txn.commit()
            self._txn, self._count = self._environment.begin(write=True), 0
        self._txn.put(key, value, db=db, append=append)
        self._count += 1


def _copy(
    records: Records, writes: _Writes, databases: Databases, progress: Progress | None
) -> Rebuilt:
    counts: dict[bytes, int] = dict.fromkeys(records.names, 0)
    lost: list[str] = []
    done, of, others = 0, records.expected, 0
    for some in _pieces(records.scrolls()):
        for stored in some:
            if stored.number not in records.names:
                lost.append(f"{records.name(stored)}: the name of its phext is lost")
            elif stored.problem:
                _set_aside(writes, databases[DAMAGED], stored)
                lost.append(f"{records.name(stored)}: {stored.problem}")
            else:
                _put(writes, databases, stored)
                counts[stored.number] += 1
                others += not records.is_users(stored)
        done += len(some)
        if progress is not None:
            progress(done, max(done, of))
    for number, count in counts.items():
        key = b"k" + number
        writes.put(key, seal(META, key, count.to_bytes(8, "big")), db=databases[META])
    kept = sum(counts.values())
    unnamed = max(0, of - kept - len(lost)) if records.is_count_known else None
    return Rebuilt(kept - others, others, tuple(lost), unnamed)


def _copy_history(records: Records, writes: _Writes, database: "lmdb._Database") -> None:
    """Copy what is sound; an empty piece says where something is missing."""
    for key, value in records.histories():
        if key[:4] in records.names:
            writes.put(key, value or seal(HISTORY, key, b""), db=database)


def _put(writes: _Writes, databases: Databases, stored: Stored) -> None:
    assert stored.head is not None
    writes.put(stored.place, stored.head, db=databases[HEADS], append=True)
    if stored.state is not None:
        writes.put(stored.place, stored.state, db=databases[STATES], append=True)
    for key, value in stored.log:
        writes.put(key, value, db=databases[LOGS], append=True)


def _set_aside(writes: _Writes, database: "lmdb._Database", stored: Stored) -> None:
    writes.put(stored.place, seal(DAMAGED, stored.place, b""), db=database)
    if stored.state is not None:
        writes.put(stored.place + STATE_SUFFIX, stored.state, db=database)
    for key, value in stored.log:
        writes.put(key, value, db=database)


def _pieces(things: Iterable[T]) -> Iterator[list[T]]:
    source = iter(things)
    while some := list(islice(source, _SCROLLS_AT_ONCE)):
        yield some
