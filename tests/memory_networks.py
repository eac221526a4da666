"""Networks in memory by trio's clock, for tests of what runs over them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import trio

from phextsync.testing.network import MemoryNetwork
from phextsync.testing.paths import Paths
from phextsync.testing.trio_time import TrioTimeline


@asynccontextmanager
async def memory_network(count: int) -> AsyncIterator[MemoryNetwork]:
    """Connect so many hosts with each other for as long as the block lasts."""
    timeline = TrioTimeline()
    pairs = [(a, b) for b in range(count) for a in range(b)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timeline.run)
        yield MemoryNetwork(timeline, Paths(timeline, Random(0), pairs), count, lambda *_: None)
        nursery.cancel_scope.cancel()
