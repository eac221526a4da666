"""Fleeting: a store in memory, for a data folder that lies where none can be.

The data folder has the key, settings and a note, `in-memory`, that says where in memory the store
of the process is that runs there. It begins empty with each process, and ends with it.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from phextsync.durable_files import write_whole
from phextsync.errors import StoreError
from phextsync.mounts import is_memory, kind_of
from phextsync.store.folder import IN_MEMORY, has_store, lock_folder, place_in_memory
from phextsync.store.import_note import forget_imports
from phextsync.store.lmdb_store import LmdbStore

MEMORY: Final = Path("/dev/shm")
"""Where Linux has a file system in memory for all."""

_PREFIX: Final = "phextsync-"


class FleetingStore(LmdbStore):
    """An empty store in memory, in a folder of its own, for the data folder `owned`, which is
    locked as long. StoreError when the data folder has a store on its disk, or there is no file
    system in memory."""

    is_fleeting = True

    def __init__(self, owned: Path, *, clock: Callable[[], float] | None = None) -> None:
        self._owned = lock_folder(owned)
        try:
            super().__init__(_new_place(owned), clock=clock)
        except BaseException:
            os.close(self._owned)
            raise

    def let_go(self) -> None:
        super().let_go()
        os.close(self._owned)

    def close(self, *, clean: bool) -> None:
        super().close(clean=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._owned)


def check_no_store(owned: Path) -> None:
    """StoreError for a data folder that has a store on its disk."""
    if has_store(owned):
        raise StoreError(
            f"expected a data folder without a store, found one in {owned}: it stays on its disk; "
            "start without --data-in-memory, or name another folder"
        )


def _new_place(owned: Path) -> Path:
    """Make a folder in memory, note it, and remove that of a process that was killed."""
    check_no_store(owned)
    kind = kind_of(MEMORY) if MEMORY.is_dir() else ""
    if not is_memory(kind):
        raise StoreError(f"expected a file system in memory at {MEMORY}, found {kind or 'none'}")
    before = place_in_memory(owned)
    if before is not None and before.parent == MEMORY and before.name.startswith(_PREFIX):
        shutil.rmtree(before, ignore_errors=True)
    forget_imports(owned)  # what had come of it is gone
    place = Path(mkdtemp(prefix=_PREFIX, dir=MEMORY))
    write_whole(owned / IN_MEMORY, os.fsencode(place))
    return place
