"""Cursors: passes over a database of LMDB. No transaction here gives out buffers."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, cast

import lmdb

PAIRS_AT_ONCE: Final = 1024


def scan(
    cursor: lmdb.Cursor, prefix: bytes, start: bytes | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over what begins with `prefix`, from `start` on."""
    for key, value in _from(cursor, start or prefix):
        if not key.startswith(prefix):
            return
        yield key, value


def batches(cursor: lmdb.Cursor, prefix: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
    """Iterate over what begins with `prefix`, many pairs at once: for passes over a million."""
    pairs = _from(cursor, prefix)
    while some := list(islice(pairs, PAIRS_AT_ONCE)):
        if not some[-1][0].startswith(prefix):
            yield [pair for pair in some if pair[0].startswith(prefix)]
            return
        yield some


def _from(cursor: lmdb.Cursor, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    pairs = iter(cursor) if cursor.set_range(start) else iter(())
    return cast("Iterator[tuple[bytes, bytes]]", pairs)  # which are buffers elsewhere


def get(txn: "lmdb.Transaction", key: bytes, database: "lmdb._Database") -> bytes | None:
    """Return the value of a key, None when it has none."""
    return cast("bytes | None", txn.get(key, db=database))  # which is a buffer elsewhere


def next_number(cursor: lmdb.Cursor, place: bytes) -> int:
    """Return the number behind those that what lies at a place has; they begin at 0."""
    is_behind = cursor.set_range(place + b"\xff\xff\xff\xff")
    found = cursor.prev() if is_behind else cursor.last()
    if not found or not bytes(cursor.key()).startswith(place):
        return 0
    return int.from_bytes(bytes(cursor.key())[16:], "big") + 1
