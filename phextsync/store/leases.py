"""Leases in a data file: the client ids that a node may go on using, within a transaction."""

from collections.abc import Mapping

import lmdb

from phextsync.store.contract import Batch
from phextsync.store.records import META, seal


def put_leases(
    txn: lmdb.Transaction, database: "lmdb._Database", leases: Mapping[str, int], batch: Batch
) -> dict[str, int]:
    """Write the leases of a batch, and end those of phexts whose scrolls leave with it. Return
    those that hold then, of those that held before."""
    ended = sorted({phext for phext, write in batch.writes if write.leaves})
    for phext in ended:
        txn.delete(b"c" + phext.encode(), db=database)
    for phext, client_id in batch.leases:
        key = b"c" + phext.encode()
        txn.put(key, seal(META, key, client_id.to_bytes(8, "big")), db=database)
    kept = {phext: client_id for phext, client_id in leases.items() if phext not in ended}
    return {**kept, **dict(batch.leases)}
