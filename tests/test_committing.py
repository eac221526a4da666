"""The writer commits for whoever waits, in a thread or at once, and an error of it ends no wait."""

import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from phextsync.boundaries import Boundary
from phextsync.errors import StoreFullError
from phextsync.node.committing import Committing
from phextsync.node.surroundings import Committer
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.contract import Batch
from phextsync.store.memory import MemoryStore
from phextsync.sync.timing import DURABLE_WITHIN_S

_A = "1.1.1/1.1.1/1.1.1"


class _Store(MemoryStore):
    """A store whose commits take as long as it says, by a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.time_s = 0.0
        self.takes_s = 0.0
        self.threads: list[int] = []
        self.batches = 0

    def commit(self, batch: Batch) -> None:
        self.threads.append(threading.get_ident())
        self.time_s += self.takes_s
        self.batches += 1
        super().commit(batch)


def _replicas(store: MemoryStore) -> ReplicaSet:
    return ReplicaSet(store, node_id=bytes(16), random=Random(1), wall_time_ms=lambda: 0)


def _writer(replicas: ReplicaSet, commit: Callable[[Batch], Awaitable[None]]) -> Committing:
    boundary = Boundary(logging.getLogger())
    return Committing(replicas, commit, boundary, Path("/data"), promptly=lambda call: call())


async def _commit(committer: Committer, replicas: ReplicaSet, scrolls: int = 1) -> None:
    with replicas.open("memory").batch():
        for number in range(1, scrolls + 1):
            replicas.open("memory").append(f"1.1.1/1.1.1/1.1.{number}", "x")
    batch = replicas.durability.take()
    assert batch is not None
    await committer(batch)
    replicas.durability.written()


async def test_a_quick_disk_is_waited_for_and_a_slow_one_is_not() -> None:
    store, here = _Store(), threading.get_ident()
    replicas = _replicas(store)
    committer = Committer(store, clock=lambda: store.time_s)
    for _ in range(11):
        await _commit(committer, replicas)
    assert here not in store.threads[:10]
    assert store.threads[10] == here
    await _commit(committer, replicas, scrolls=65)
    assert store.threads[11] != here  # it is too much to wait for
    store.takes_s = 0.01
    await _commit(committer, replicas)
    await _commit(committer, replicas)
    assert (store.threads[12], store.threads[13] != here) == (here, True)


async def test_who_waits_for_the_disk_waits_for_no_pause(autojump_clock: trio.abc.Clock) -> None:
    store = _Store()
    replicas = _replicas(store)

    async def commit(batch: Batch) -> None:
        store.commit(batch)

    writer = _writer(replicas, commit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        began = trio.current_time()
        for _ in range(5):
            replicas.open("memory").append(_A, "x")
            await writer.durable()
        assert (store.batches, trio.current_time()) == (5, began)
        replicas.open("memory").append(_A, "nobody waits for this")
        await trio.sleep(0.05)
        assert store.batches == 6
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("interval_s", [0.004, 0.005, 0.0059])
async def test_changes_at_intervals_meet_no_commit(
    interval_s: float, autojump_clock: trio.abc.Clock
) -> None:
    store = _Store()
    replicas = _replicas(store)
    busy, told, log = list[bool](), trio.Event(), list[str]()
    is_committing = False

    async def commit(batch: Batch) -> None:
        nonlocal is_committing
        is_committing = True
        log.append("commit")
        await trio.sleep(0.003)
        store.commit(batch)
        is_committing = False

    async def tell() -> None:
        nonlocal told
        while True:
            await told.wait()
            told = trio.Event()
            log.append("told")

    writer = _writer(replicas, commit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        nursery.start_soon(tell)
        began = trio.current_time()
        for number in range(400):
            await trio.sleep_until(began + number * interval_s)
            busy.append(is_committing)
            log.append("change")
            replicas.open("memory").append(_A, "x")
            told.set()
        nursery.cancel_scope.cancel()
    first = log.index("commit")
    assert not any(busy[3:])  # the first commit waits for none of them
    after_changes = [
        log[i + 1] for i, what in enumerate(log[:-1]) if what == "change" and i > first
    ]
    assert set(after_changes) == {"told"}
    assert 400 * interval_s / 0.050 < store.batches < 400 * interval_s / 0.035


@given(st.lists(st.floats(0, 0.030), max_size=30), st.floats(0, DURABLE_WITHIN_S / 3))
def test_no_change_waits_too_long_for_the_disk(pauses_s: list[float], commit_s: float) -> None:
    async def change() -> None:
        store = _Store()
        replicas = _replicas(store)
        waiting, late = list[float](), list[float]()

        async def commit(batch: Batch) -> None:
            taken = waiting[:]
            waiting.clear()
            await trio.sleep(commit_s)
            store.commit(batch)
            late.extend(trio.current_time() - made for made in taken)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_writer(replicas, commit).run)
            for pause_s in pauses_s:
                await trio.sleep(pause_s)
                replicas.open("memory").append(_A, "x")
                waiting.append(trio.current_time())
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert len(late) == len(pauses_s)
        assert max(late, default=0) < DURABLE_WITHIN_S

    trio.run(change, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("after_s", [0.001, 0.01])
async def test_what_a_commit_that_somebody_waits_for_came_too_early_for_is_in_the_next(
    after_s: float, autojump_clock: trio.abc.Clock
) -> None:
    store = _Store()
    replicas = _replicas(store)

    async def commit(batch: Batch) -> None:
        await trio.sleep(0.02)
        store.commit(batch)

    writer = _writer(replicas, commit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        replicas.open("memory").append(_A, "x")
        nursery.start_soon(writer.durable)
        await trio.sleep(after_s)
        replicas.open("memory").append(_A, "nobody waits for this")
        await trio.sleep(1)
        assert (store.batches, replicas.durability.is_dirty) == (2, False)
        nursery.cancel_scope.cancel()


async def test_all_who_wait_during_a_commit_have_the_next_one_together() -> None:
    store = _Store()
    replicas = _replicas(store)
    may_go = trio.Event()

    async def commit(batch: Batch) -> None:
        if not store.batches:
            await may_go.wait()
        store.commit(batch)

    writer = _writer(replicas, commit)
    async with trio.open_nursery() as nursery:
        for name in range(4):
            replicas.open("memory").append(_A, f"{name}")
            nursery.start_soon(writer.durable)
            await trio.testing.wait_all_tasks_blocked()
        may_go.set()
    assert store.batches == 2


@pytest.mark.parametrize("error", [ZeroDivisionError, StoreFullError])
async def test_an_error_of_the_disk_is_told_and_the_change_is_kept(
    error: Callable[[str], Exception], autojump_clock: trio.abc.Clock
) -> None:
    store = _Store()
    replicas = _replicas(store)
    errors = [error("a bug")]

    async def commit(batch: Batch) -> None:
        if errors:
            raise errors.pop()
        store.commit(batch)

    writer = _writer(replicas, commit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        replicas.open("memory").append(_A, "x")
        with pytest.raises(StoreFullError, match="the store refused the last write"):
            await writer.durable()
        await trio.sleep(2)
        assert (store.batches, replicas.durability.is_dirty) == (1, False)
        nursery.cancel_scope.cancel()


async def test_a_stop_waits_for_the_commit_that_a_user_of_the_node_waits_for(
    autojump_clock: trio.abc.Clock,
) -> None:
    replicas = _replicas(_Store())

    async def commit(batch: Batch) -> None:
        await trio.sleep(60)  # on a machine that has no time for it
        replicas.store.commit(batch)

    writer = _writer(replicas, commit)
    replicas.open("memory").append(_A, "x")
    with trio.fail_after(100):
        async with trio.open_nursery() as users:
            users.start_soon(writer.durable)
            await trio.testing.wait_all_tasks_blocked()
            assert await writer.stop()
    assert not replicas.is_dirty
