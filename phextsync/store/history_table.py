"""History in a data file: the pieces that are kept of each scroll's past, within a transaction."""

from collections.abc import Mapping
from itertools import islice
from typing import Final

import lmdb

from phextsync.errors import StoreDamagedError
from phextsync.store.contract import Batch
from phextsync.store.cursors import scan
from phextsync.store.rebuild import Databases
from phextsync.store.records import (
    HISTORY,
    HISTORY_KEPT,
    HISTORY_RANGES,
    KEPT,
    META,
    PLACE_BYTES,
    seal,
    unseal,
)
from phextsync.store.retention import Retention

_BEHIND: Final = b"\xff" * 5  # after a place: behind all that is there


def read_pieces(
    txn: lmdb.Transaction, database: "lmdb._Database", place: bytes, oldest: int | None
) -> dict[int, bytes]:
    """Return the pieces at a place by number, ascending, damaged ones empty."""
    pieces: dict[int, bytes] = {}
    for key, value in islice(scan(txn.cursor(db=database), place), oldest):
        number = int.from_bytes(key[PLACE_BYTES:], "big")
        try:
            pieces[number] = unseal(HISTORY, key, value)
        except StoreDamagedError:
            pieces[number] = b""
    return pieces


def places_behind(
    txn: lmdb.Transaction, database: "lmdb._Database", after: bytes | None, count: int
) -> list[bytes]:
    """Return `count` places that have pieces, behind one of them; fewer at the end."""
    start = b"" if after is None else after + _BEHIND
    places: list[bytes] = []
    cursor = txn.cursor(db=database)
    while len(places) < count and cursor.set_range(start):
        places.append(bytes(cursor.key())[:PLACE_BYTES])
        start = places[-1] + _BEHIND
    return places


def put_history(
    txn: lmdb.Transaction,
    databases: Databases,
    numbers: Mapping[str, bytes],
    batch: Batch,
    before: Retention,
) -> None:
    """Write what a batch has of history: settings, in the place of those `before`, and pieces."""
    kept, database = batch.kept or before, databases[HISTORY]
    if batch.kept is not None:
        body = KEPT.pack(kept.kept_ms, kept.began_ms)
        for key, data in ((HISTORY_KEPT, body), (HISTORY_RANGES, kept.encode_ranges())):
            txn.put(key, seal(META, key, data), db=databases[META])
        _forget(txn, database, numbers, kept)
    for piece in batch.history:
        if not kept.of(piece.phext, piece.key).kept_ms:
            continue
        place = numbers[piece.phext] + piece.key
        if piece.number is None:
            for key, _ in list(scan(txn.cursor(db=database), place)):
                txn.delete(key, db=database)
            continue
        key = place + piece.number.to_bytes(4, "big")
        if piece.data:
            txn.put(key, seal(HISTORY, key, piece.data), db=database)
        else:
            txn.delete(key, db=database)


def _forget(
    txn: lmdb.Transaction,
    database: "lmdb._Database",
    numbers: Mapping[str, bytes],
    kept: Retention,
) -> None:
    """Remove what is stored where nothing is kept."""
    if not kept.is_kept:
        txn.drop(database, delete=False)
        return
    cursor = txn.cursor(db=database)
    for phext, number in numbers.items():
        for lower, upper in kept.gaps(phext):
            is_there = cursor.set_range(number + lower)
            while is_there:
                place = bytes(cursor.key())
                if place[:4] != number or (upper is not None and place[4:] >= upper):
                    break
                is_there = cursor.delete()
