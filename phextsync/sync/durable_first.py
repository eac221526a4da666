"""Durable first: changes of this node that peers hear of when they are on its disk."""

from collections import Counter, deque
from collections.abc import Iterator

from phextsync.replica.listener import NewUpdate
from phextsync.sync.messages import ScrollId


class DurableFirst:
    """Updates that are `durable_first`, and those made after them at the same scrolls, which build
    on them."""

    def __init__(self) -> None:
        self._fresh: list[NewUpdate] = []
        self._committing: deque[NewUpdate] = deque()
        self._scrolls: Counter[ScrollId] = Counter()

    def __contains__(self, scroll: object) -> bool:
        """Whether the scroll has something that nobody may hear yet."""
        return scroll in self._scrolls

    def take(self, new: NewUpdate) -> bool:
        """Keep an update, if it has to wait; return whether it has."""
        scroll = (new.phext, new.coordinate)
        waits = new.source is None and (new.durable_first or scroll in self._scrolls)
        if waits:
            self._fresh.append(new)
            self._scrolls[scroll] += 1
        return waits

    def committing(self) -> None:
        """A batch was taken. What was in one that was refused is in it too."""
        self._committing += self._fresh
        self._fresh = []

    def committed(self) -> Iterator[NewUpdate]:
        """The batch is durable: give what was in it, in the order in which it took effect."""
        while self._committing:
            new = self._committing.popleft()
            scroll = (new.phext, new.coordinate)
            self._scrolls[scroll] -= 1
            if not self._scrolls[scroll]:
                del self._scrolls[scroll]
            yield new
