"""Change streams: changes as an asynchronous iterator for trio."""

from collections.abc import Awaitable, Callable

import trio

from phextsync.replica.changes import Change, ChangeFeed


class ChangeStream(trio.abc.ReceiveChannel[Change]):
    """What a feed holds, change by change: `async with stream: async for change in stream: ...`.

    However slow its reader is, the node is not: a feed coalesces and is bounded.
    """

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed
        self._is_closed = False
        self._readers = trio.lowlevel.ParkingLot()
        feed.on_ready = self._readers.unpark_all

    async def receive(self) -> Change:
        """Return the next change when there is one."""
        return await self.receive_when(trio.lowlevel.checkpoint)

    async def receive_when(self, ready: Callable[[], Awaitable[object]]) -> Change:
        """Return the next change when there is one and the reader is `ready` for it: until then it
        stays in the feed."""
        while True:
            await ready()
            if self._is_closed:
                raise trio.ClosedResourceError
            change = self._feed.take()
            if change is not None:
                return change
            await self._readers.park()

    def close(self) -> None:
        """End the subscription; a task that waits for a change gets a ClosedResourceError."""
        self._is_closed = True
        self._feed.close()
        self._readers.unpark_all()

    async def aclose(self) -> None:
        """End the subscription."""
        self.close()
        await trio.lowlevel.checkpoint()
