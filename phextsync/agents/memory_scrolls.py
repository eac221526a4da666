"""Memory scrolls: what memory files ask of the scrolls of a range, over handles of each kind.

The calls are awaited; those of a blocking handle and of a replica never wait for a loop, so that
`run_now` can run what is made of them.
"""

from collections.abc import Collection, Coroutine, Iterable, Mapping
from typing import Protocol, TypeVar

from phextsync.aio import AsyncHandle
from phextsync.errors import ConflictError
from phextsync.handles.blocking import Handle
from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.replica import Replica

T = TypeVar("T")


class Scrolls(Protocol):
    """The scrolls of one range."""

    @property
    def range(self) -> CoordinateRange: ...

    async def text(self, place: Coordinate) -> str:
        """Return a text, "" for none."""

    async def present(self) -> Collection[Coordinate]:
        """Return the coordinates that have text."""

    async def sizes(self) -> Mapping[Coordinate, int]:
        """Return the bytes of each text."""

    async def edit(self, place: Coordinate, text: str, seen: str) -> None:
        """Make `text` that of a scroll. ConflictError when it has another than `seen` by now."""

    async def begin(self, place: Coordinate, text: str) -> bool:
        """Make `text` that of a scroll that has none; return whether it had none."""

    async def clear(self, places: Iterable[Coordinate]) -> None:
        """Delete texts: one commit."""

    async def settle(self) -> None:
        """Wait until all that was written is on the disk."""


class BlockingScrolls:
    """Over a handle for threads."""

    def __init__(self, handle: Handle, phext: str, range_: CoordinateRange) -> None:
        self.range = range_
        self._handle = handle
        self._phext = handle.phext(phext)

    async def text(self, place: Coordinate) -> str:
        return self._phext.get(place) or ""

    async def present(self) -> Collection[Coordinate]:
        return [*self._phext.coordinates(self.range)]

    async def sizes(self) -> Mapping[Coordinate, int]:
        return {row.coordinate: row.size for row in self._phext.listed(self.range)}

    async def edit(self, place: Coordinate, text: str, seen: str) -> None:
        self._phext.edit(place, text, seen=seen)

    async def begin(self, place: Coordinate, text: str) -> bool:
        return bool(self._phext.import_texts([(place, text)], keep=True))

    async def clear(self, places: Iterable[Coordinate]) -> None:
        with self._phext.batch() as batch:
            for place in places:
                del batch[place]

    async def settle(self) -> None:
        self._handle.durable()


class AsyncScrolls:
    """Over a handle for asyncio."""

    def __init__(self, handle: AsyncHandle, phext: str, range_: CoordinateRange) -> None:
        self.range = range_
        self._handle = handle
        self._phext = handle.phext(phext)

    async def text(self, place: Coordinate) -> str:
        return await self._phext.get(place) or ""

    async def present(self) -> Collection[Coordinate]:
        return [place async for place in self._phext.coordinates(self.range)]

    async def sizes(self) -> Mapping[Coordinate, int]:
        return {row.coordinate: row.size async for row in self._phext.listed(self.range)}

    async def edit(self, place: Coordinate, text: str, seen: str) -> None:
        await self._phext.edit(place, text, seen=seen)

    async def begin(self, place: Coordinate, text: str) -> bool:
        return bool(await self._phext.import_texts([(place, text)], keep=True))

    async def clear(self, places: Iterable[Coordinate]) -> None:
        async with self._phext.batch() as batch:
            for place in places:
                del batch[place]

    async def settle(self) -> None:
        await self._handle.durable()


class ReplicaScrolls:
    """Over a replica, in the thread of its node. Nobody waits for the disk here."""

    def __init__(self, replica: Replica, range_: CoordinateRange) -> None:
        self.range = range_
        self._replica = replica

    async def text(self, place: Coordinate) -> str:
        return self._replica.get(place, "")

    async def present(self) -> Collection[Coordinate]:
        return [*self._replica.coordinates(self.range)]

    async def sizes(self) -> Mapping[Coordinate, int]:
        return {place: self._replica.size(place) for place in self._replica.coordinates(self.range)}

    async def edit(self, place: Coordinate, text: str, seen: str) -> None:
        if self._replica.get(place, "") != seen:
            raise ConflictError(f"{self._replica.name} {place} has changed since it was read")
        self._replica.edit(place, text)

    async def begin(self, place: Coordinate, text: str) -> bool:
        if place in self._replica:
            return False
        self._replica.import_text(place, text)
        return True

    async def clear(self, places: Iterable[Coordinate]) -> None:
        with self._replica.batch():
            for place in places:
                self._replica.clear_scroll(place)

    async def settle(self) -> None:
        pass


def run_now(made: Coroutine[None, None, T]) -> T:
    """Run what waits for nothing, and return what comes out."""
    try:
        made.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    made.close()
    raise AssertionError("expected what waits for nothing, found what waits")
