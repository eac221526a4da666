"""What was set aside in a data file: damaged scrolls, until a peer has sent them again."""

import lmdb

from phextsync.errors import StoreDamagedError
from phextsync.store.cursors import get, scan
from phextsync.store.rebuild import Databases
from phextsync.store.records import (
    DAMAGED,
    HEADS,
    LOGS,
    PLACE_BYTES,
    STATE_SUFFIX,
    STATES,
    read_entry,
    seal,
    unseal,
)


def move(txn: lmdb.Transaction, databases: Databases, place: bytes) -> bool:
    """Set aside what lies at a place; say whether it had a head."""
    state = get(txn, place, databases[STATES])
    logged = list(scan(txn.cursor(db=databases[LOGS]), place))
    moved = [(place, seal(DAMAGED, place, b"")), (place + STATE_SUFFIX, state), *logged]
    for key, value in moved:
        if value is not None:
            txn.put(key, value, db=databases[DAMAGED])
    return _remove(txn, databases, place)


def take_out(txn: lmdb.Transaction, databases: Databases, place: bytes) -> bool:
    """Remove all that lies at a place, and what was set aside of it; say whether it had a head."""
    drop(txn, databases, place)
    return _remove(txn, databases, place)


def _remove(txn: lmdb.Transaction, databases: Databases, place: bytes) -> bool:
    for key, _ in list(scan(txn.cursor(db=databases[LOGS]), place)):
        txn.delete(key, db=databases[LOGS])
    txn.delete(place, db=databases[STATES])
    return txn.delete(place, db=databases[HEADS])


def missing(txn: lmdb.Transaction, databases: Databases) -> list[bytes]:
    """Return the places at which something was set aside and nothing lies since."""
    pairs = scan(txn.cursor(db=databases[DAMAGED]), b"")
    places = dict.fromkeys(key[:PLACE_BYTES] for key, _ in pairs)
    return [place for place in places if get(txn, place, databases[HEADS]) is None]


def content(
    txn: lmdb.Transaction, databases: Databases
) -> dict[bytes, tuple[tuple[bytes, ...], bool]]:
    """Return what was set aside at each place: the updates whose checksum is good, and whether
    that is every one that was there."""
    found: dict[bytes, list[bytes]] = {}
    cut: set[bytes] = set()
    for key, value in scan(txn.cursor(db=databases[DAMAGED]), b""):
        place = key[:PLACE_BYTES]
        updates = found.setdefault(place, [])
        if key == place:
            continue
        try:
            if key[PLACE_BYTES:] == STATE_SUFFIX:
                updates.insert(0, unseal(STATES, place, value))
            else:
                updates.append(read_entry(unseal(LOGS, key, value)).update)
        except StoreDamagedError:
            cut.add(place)
    return {place: (tuple(updates), place not in cut) for place, updates in found.items()}


def drop(txn: lmdb.Transaction, databases: Databases, place: bytes) -> None:
    """Throw away what was set aside at a place."""
    for key, _ in list(scan(txn.cursor(db=databases[DAMAGED]), place)):
        txn.delete(key, db=databases[DAMAGED])
