"""Committing: when what has changed goes to the disk, and who is told when it is there."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from phextsync.boundaries import Boundary, one_line
from phextsync.errors import StoreError
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.replicas import ReplicaSet
from phextsync.signals import Flag, Signal
from phextsync.store.contract import Batch
from phextsync.store.durations import Durations
from phextsync.sync.timing import BEHIND_S, GATHER_S, RETRY_S, commit_pause_s

_log = logging.getLogger("phextsync.node")


class Committing:
    """Commits batch after batch. `durations` has how long the node waited for each, with the turns
    of threads. `promptly(call)` calls something and sends what it makes the core say."""

    def __init__(
        self,
        replicas: ReplicaSet,
        commit: Callable[[Batch], Awaitable[None]],
        boundary: Boundary,
        folder: Path,
        *,
        promptly: Callable[[Callable[[], None]], None],
    ) -> None:
        self.durations = Durations()
        self._replicas = replicas
        self._durability = replicas.durability
        self._commit_batch = commit
        self._boundary = boundary
        self._folder = folder
        self._promptly = promptly
        self._commit_s = 0.0  # that the last one took
        self._dirty = Flag()
        self._is_committing = False
        self._settled = Signal()  # a commit has ended, well or badly
        replicas.listen(ReplicaListener(on_dirty=self._dirty.set, on_durable=self._settled.notify))

    async def durable(self) -> None:
        """Wait until every change made so far is on disk. StoreFullError when the disk refuses."""
        last = self._durability.last_batch
        while not self._durability.is_durable(last):
            is_well = await self._commit_or_wait()
            self._durability.check_writable()
            if not is_well:  # an error of this node: `run` tries again
                self._dirty.set()
                await self._settled.wait()

    async def run(self) -> None:
        """Run until cancelled; a store that refuses keeps its batch and is asked again."""
        while True:
            if self._dirty.is_set:
                await self._behind_a_change()
            else:
                await self._dirty.wait()
                await trio.sleep(GATHER_S)
            if await self._commit_or_wait():
                await trio.sleep(commit_pause_s(self._commit_s) - BEHIND_S)
            else:
                self._dirty.set()
                await trio.sleep(RETRY_S)

    async def _behind_a_change(self) -> None:
        """Wait a little for one more change, and for what is said of it."""
        change = trio.Event()
        with self._replicas.hearing(lambda _: change.set()), trio.move_on_after(BEHIND_S):
            await change.wait()
            await trio.lowlevel.checkpoint()

    async def _commit_or_wait(self) -> bool:
        """Commit what there is, or wait for the end of the commit that is under way: who waits for
        the disk does not wait for a task that commits. Say whether all went well."""
        if self._is_committing:
            await self._settled.wait()
            return self._durability.is_writable
        self._is_committing = True
        self._dirty.lower()  # not before: what comes after a batch was taken is for the next
        try:
            return await self._commit()
        except Exception as error:  # a boundary, without the cost of `around`
            self._boundary.note("writing to the disk", error)
            return False
        finally:
            self._is_committing = False

    async def _commit(self) -> bool:
        batch = self._durability.take()
        if batch is None:
            return True
        try:
            began = trio.current_time()
            # It cannot be cancelled: a batch that was taken has to end, well or badly.
            await self._commit_batch(batch)
        except StoreError as error:
            self._commit_failed(error)
            _log.error("cannot write to %s: %s", self._folder, error)
            return False
        except Exception as error:
            self._commit_failed(StoreError(f"cannot write to {self._folder}: {one_line(error)}"))
            raise
        self._commit_s = trio.current_time() - began
        self.durations.add(self._commit_s)
        self._promptly(self._durability.written)
        return True

    def _commit_failed(self, error: StoreError) -> None:
        self._durability.refused(error)
        self._dirty.set()
        self._settled.notify()

    async def stop(self) -> bool:
        """Write what is not yet durable, as long as the disk takes it and however slow it is; say
        whether all of it is."""
        with trio.CancelScope(shield=True):
            while self._durability.is_dirty:
                if not await self._commit_or_wait():  # a user of the node may be at it
                    return False
        return True
