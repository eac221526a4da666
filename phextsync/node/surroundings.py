"""Surroundings: what a node touches outside of itself, so that a simulator can take its place."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import trio

from phextsync import discovery, transport
from phextsync.boundaries import Boundary, Errors
from phextsync.store.contract import Batch, Store
from phextsync.trust.known_peers import KnownPeers

_QUICK_S: Final = 0.001
_QUICK_IN_A_ROW: Final = 10
_SMALL_WRITES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a node touches outside of itself.

    `commit` does what `store.commit` does, where it does not hold up the node, and cannot be
    cancelled; `folder` is for people to read; the search index is in `index_folder`.
    """

    folder: Path
    index_folder: Path
    store: Store
    commit: Callable[[Batch], Awaitable[None]]
    network: transport.Network
    discoveries: Sequence[discovery.Discovery]
    remembered: discovery.RememberedPeers
    known: KnownPeers = field(default_factory=KnownPeers)
    random: Random
    wall_time_s: Callable[[], float] = time.time
    alone_s: float = 0.0
    """So long after its start the node meets nobody unless its links' gate is opened."""
    on_error: Callable[[Exception], object] | None = None
    """Told every error that ended a part of the node."""

    def boundary(self, logger: logging.Logger) -> Boundary:
        """Return a boundary for the parts of the node."""
        return Boundary(logger, on_error=self.on_error, errors=Errors(self.wall_time_s))


class Committer:
    """Does what `store.commit` does: in a thread, so that a slow disk holds nothing up; or at once,
    while the disk takes less than a change of threads and back may, and the batch is small."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.perf_counter) -> None:
        self._store = store
        self._clock = clock
        self._quick_in_a_row = 0

    async def __call__(self, batch: Batch) -> None:
        """Commit a batch. StoreError when the store refuses it."""
        if self._quick_in_a_row >= _QUICK_IN_A_ROW and len(batch.writes) <= _SMALL_WRITES:
            self._commit(batch)
            return
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
        # As `trio.to_thread.run_sync` does, less the turns of the scheduler that its limits take.
        try:
            trio.lowlevel.start_thread_soon(
                lambda: self._commit(batch),
                lambda result: token.run_sync_soon(trio.lowlevel.reschedule, task, result),
            )
        except RuntimeError:  # an interpreter that is ending starts no threads
            self._commit(batch)
        else:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    def _commit(self, batch: Batch) -> None:
        began = self._clock()
        self._store.commit(batch)
        is_quick = self._clock() - began < _QUICK_S
        self._quick_in_a_row = self._quick_in_a_row + 1 if is_quick else 0
