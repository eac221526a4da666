"""Store: what is on disk, and when it is durable.

* `durations`: how long things took
* `retention`: where history is kept and for how long
* `pages`: an LMDB file without LMDB, damaged or not
* `records`: databases, keys and checksums of a data folder
* `rebuild`: a new data file from an old one
* `folder`: the files of a data folder
* `stores`: the contract of a store, in memory and in LMDB
* `snapshot`: what a folder holds at one moment, without a lock
* `import_note`: a note that an import has begun
"""

from phextsync.store.stores import Batch, LmdbStore, LogEntry, MemoryStore, Store, StoredScroll

__all__ = ["Batch", "LmdbStore", "LogEntry", "MemoryStore", "Store", "StoredScroll"]
