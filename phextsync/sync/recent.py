"""Recent updates: what took effect last, for peers that are in step."""

from collections import deque
from math import inf
from typing import Final

from phextsync.store.contract import LogEntry
from phextsync.sync.messages import ScrollId

KEPT_S: Final = 60.0
"""So long an update is at hand at least, if there is room. Who has not got it by then is offered
its scroll."""

_ENTRY_BYTES: Final = 400  # what an update takes in memory beside its bytes
_MARK_S: Final = 1.0


class RecentUpdates:
    """The latest updates by scroll, for a minute, at most `bytes_max` of them.

    Every update that takes effect has a sequence number. Those that some peer is to get are kept.
    """

    def __init__(self, bytes_max: int) -> None:
        self.sequence = 1
        self.floor = 1
        self._bytes_max = bytes_max
        self._bytes = 0
        self._order: deque[tuple[int, ScrollId, int]] = deque()
        self._of: dict[ScrollId, deque[tuple[int, LogEntry, int | None]]] = {}
        self._marks: deque[tuple[float, int]] = deque([(-inf, 1)])  # up to which number, by when

    def advance(self) -> int:
        """Return the number of an update that takes effect now."""
        self.sequence += 1
        return self.sequence

    def add(self, scroll: ScrollId, entry: LogEntry, source: int | None) -> None:
        """Keep the update that took effect last; `source` is the link that brought it."""
        size = len(entry.update) + _ENTRY_BYTES
        self._of.setdefault(scroll, deque()).append((self.sequence, entry, source))
        self._order.append((self.sequence, scroll, size))
        self._bytes += size
        while self._bytes > self._bytes_max:
            self._forget_oldest()

    def tick(self, now: float) -> None:
        """Forget what was kept for long enough."""
        if now < self._marks[-1][0] + _MARK_S:
            return
        self._marks.append((now, self.sequence))
        while self._marks[0][0] <= now - KEPT_S:
            _, last = self._marks.popleft()
            while self._order and self._order[0][0] <= last:
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        sequence, scroll, size = self._order.popleft()
        self._bytes -= size
        self.floor = sequence + 1
        updates = self._of[scroll]
        updates.popleft()
        if not updates:
            del self._of[scroll]

    def has_since(self, first: int) -> bool:
        """Whether every kept update from sequence number `first` on is still here."""
        return first >= self.floor

    def since(self, scroll: ScrollId, first: int, link: int) -> list[LogEntry]:
        """Return the updates of a scroll from sequence number `first` on, without those that `link`
        brought. Costs nothing for what is older."""
        found: list[LogEntry] = []
        for sequence, entry, source in reversed(self._of.get(scroll, ())):
            if sequence < first:
                break
            if source != link:
                found.append(entry)
        found.reverse()
        return found
