"""The scrolls of a phext in a range, for asyncio."""

from collections.abc import AsyncIterator
from typing import Protocol

from phextsync.index import Coordinate, CoordinateRange
from phextsync.replica.views import Range


class Whole(Protocol):
    """What a range is a part of."""

    async def count(self, range_: Range) -> int: ...

    def keys(self, range_: Range) -> AsyncIterator[Coordinate]: ...

    def values(self, range_: Range) -> AsyncIterator[str]: ...

    def items(self, range_: Range) -> AsyncIterator[tuple[Coordinate, str]]: ...

    async def clear(self, range_: Range) -> None: ...


class AsyncRange:
    """The scrolls of a phext in a range; see `AsyncPhext.within`."""

    def __init__(self, whole: Whole, range_: CoordinateRange) -> None:
        self.range = range_
        self._whole = whole

    async def count(self) -> int:
        """Return how many scrolls have text."""
        return await self._whole.count(self.range)

    def keys(self) -> AsyncIterator[Coordinate]:
        """Iterate in order over the coordinates whose scroll has text."""
        return self._whole.keys(self.range)

    def values(self) -> AsyncIterator[str]:
        """Iterate in order over the texts."""
        return self._whole.values(self.range)

    def items(self) -> AsyncIterator[tuple[Coordinate, str]]:
        """Iterate in order over the scrolls that have text."""
        return self._whole.items(self.range)

    async def clear(self) -> None:
        """Delete every scroll: one commit, one event."""
        await self._whole.clear(self.range)
