"""Changes come one by one to whoever awaits them, and a slow reader holds up nobody."""

from random import Random

import pytest
import trio
import trio.testing

from phextsync.change_streams import ChangeStream
from phextsync.index import Coordinate
from phextsync.replica.changes import Change
from phextsync.replica.replica import Replica
from phextsync.replica.replicas import ReplicaSet
from phextsync.store.memory import MemoryStore

_A, _B = (Coordinate(1, 1, 1, 1, 1, 1, 1, 1, i) for i in (1, 2))


@pytest.fixture
def replica() -> Replica:
    replicas = ReplicaSet(
        MemoryStore(), node_id=b"n" * 16, random=Random(0), wall_time_ms=lambda: 0
    )
    return replicas.open("memory")


async def test_each_change_comes_once_and_many_at_once_come_together(replica: Replica) -> None:
    seen: list[tuple[Coordinate, ...]] = []
    async with ChangeStream(replica.feed("1.*")) as changes, trio.open_nursery() as nursery:

        async def follow() -> None:
            async for change in changes:
                seen.append(change.coordinates)

        nursery.start_soon(follow)
        replica[_A] = "one"
        await trio.testing.wait_all_tasks_blocked()
        for i in range(100):
            replica.append(_A, f"{i}\n")
            replica.append(_B, f"{i}\n")
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [(_A,), (_A, _B)]
        nursery.cancel_scope.cancel()


async def test_what_changed_before_anybody_waits_is_there(replica: Replica) -> None:
    async with ChangeStream(replica.feed()) as changes:
        replica[_A] = "one"
        assert await changes.receive() == Change("memory", (_A,))


async def test_a_closed_stream_ends_its_subscription_and_its_readers(replica: Replica) -> None:
    changes = ChangeStream(replica.feed())
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await changes.receive()

        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await changes.aclose()
    replica[_A] = "after"
    assert not replica.statistics().subscribers
