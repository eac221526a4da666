"""Memory: nodes with a disk and without, and what of the latter is nowhere else."""

import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from phextsync.replica.replicas import ReplicaSet
from phextsync.store.fleeting import FleetingStore
from phextsync.store.lmdb_store import LmdbStore

_LOOK_S: Final = 0.5

_log = logging.getLogger("phextsync.node")


def opened_store(folder: Path, *, in_memory: bool) -> LmdbStore:
    """Open the store of a data folder, or an empty one in memory that ends with the process."""
    if in_memory:
        return FleetingStore(folder, clock=time.perf_counter)
    return LmdbStore(folder, progress=_log_progress, clock=time.perf_counter)


def _log_progress(done: int, of: int) -> None:
    _log.warning("rebuilding the store: %d of %d scrolls", done, of)


def unsent_warnings(replicas: ReplicaSet) -> list[str]:
    """Say of a node that keeps everything in memory which edits would end with it."""
    count = len(replicas.guests.unsent)
    if not replicas.store.is_fleeting or not count:
        return []
    what = "1 scroll has edits" if count == 1 else f"{count} scrolls have edits"
    return [f"{what} that are nowhere else: they are in the memory of this node"]


async def all_sent(
    replicas: ReplicaSet, progress: Callable[[], Awaitable[None]], within_s: float
) -> int:
    """Wait until others have all edits on their disks, so many seconds at most, looking again with
    each `progress`; return of how many scrolls they have not."""
    with trio.move_on_after(within_s):
        while replicas.guests.unsent:
            with trio.move_on_after(_LOOK_S):
                await progress()
    return len(replicas.guests.unsent)
