"""Budget: how much memory open scrolls may take, and which are closed when it is exceeded."""

from collections import deque
from typing import Final, Protocol

from phextsync.index import Coordinate, OpenText

# Who opens a scroll looks at no more scrolls that cannot be closed: all may be such.
_PINNED_MAX: Final = 8


class Holder(Protocol):
    """Who has open scrolls: the documents of one phext."""

    def close_if_unpinned(self, coordinate: Coordinate, opened: OpenText) -> bool:
        """Close an open scroll, if it can be made again; say whether it is closed."""


class Budget:
    """The open scrolls of all phexts of a node, in the order in which they are looked at.

    `bytes` may exceed `bytes_max` when no more scrolls can be closed. `evictions` counts those
    that were closed to save memory.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self.scrolls = 0
        self.evictions = 0
        self._open: deque[tuple[Holder, Coordinate, OpenText]] = deque()

    def add(self, holder: Holder, coordinate: Coordinate, opened: OpenText, cost: int) -> None:
        """Count an open scroll, and close others when the budget is exceeded."""
        if self.bytes > self.bytes_max:
            self._close_some(_PINNED_MAX)  # before it joins: its opener is about to use it
        opened.cost = cost
        self.bytes += cost
        self.scrolls += 1
        self._open.append((holder, coordinate, opened))

    def resize(self, opened: OpenText, cost: int) -> None:
        """Count what an open scroll costs now, if it is counted."""
        if opened.cost:
            self.bytes += cost - opened.cost
            opened.cost = cost

    def remove(self, opened: OpenText) -> None:
        """Count a scroll no more that is closed, if it was counted."""
        self.bytes -= opened.cost
        self.scrolls -= opened.cost > 0
        opened.cost = 0

    def close_unpinned(self, holder: Holder) -> None:
        """Close all scrolls of one holder that can be closed."""
        kept: deque[tuple[Holder, Coordinate, OpenText]] = deque()
        for entry in self._open:
            if entry[2].cost == 0:
                continue  # already thrown away
            if entry[0] is holder and holder.close_if_unpinned(entry[1], entry[2]):
                self.remove(entry[2])
            else:
                kept.append(entry)
        self._open = kept

    def keep(self) -> None:
        """Close scrolls until the budget holds, or none can be closed."""
        self._close_some(len(self._open))

    def _close_some(self, pinned_max: int) -> None:
        """Close scrolls that were not used since the last look, oldest first (second chance),
        until the budget holds or `pinned_max` could not be closed."""
        while self.bytes > self.bytes_max and pinned_max > 0:
            holder, coordinate, opened = entry = self._open.popleft()
            if opened.cost == 0:
                continue  # already thrown away
            if opened.used:
                opened.used = False
                self._open.append(entry)
            elif holder.close_if_unpinned(coordinate, opened):
                self.remove(opened)
                self.evictions += 1
            else:
                pinned_max -= 1
                self._open.append(entry)
