"""Store: what is on disk, in batches that are durable once they are written.

* `durations`: how long things took
* `retention`: where history is kept and for how long
* `contract`: what a store is given and gives
* `pages`: an LMDB file without LMDB, damaged or not
* `records`: databases, keys and checksums of a data folder
* `memory`: a store without a disk
* `rebuild`: a new data file from an old one
* `folder`: the files of a data folder
* `opening`: sees to it that there is a sound data file
* `cursors`: passes over a database of LMDB
* `aside`: damaged scrolls in a database of LMDB
* `history_table`: pieces of the past in a database of LMDB
* `leases`: client ids in a database of LMDB
* `lmdb_store`: a store on a disk
* `import_note`: a note that an import has begun
* `fleeting`: a store in memory, for a folder where none can be
* `snapshot`: what a folder holds at one moment, without a lock
"""

from phextsync.store.contract import Batch, LogEntry, Store, StoredScroll
from phextsync.store.lmdb_store import LmdbStore
from phextsync.store.memory import MemoryStore

__all__ = ["Batch", "LmdbStore", "LogEntry", "MemoryStore", "Store", "StoredScroll"]
