"""Lazy push: what a peer gets from others in place of us, until it is known to have it.

Leitao 2007 (Plumtree): an update is pushed along some links only. Here it is not relayed to a peer
that is linked with the node that wrote it.
"""

from collections.abc import Iterable, Iterator

from phextsync.index import Coordinate, contains
from phextsync.ranges import Ranges
from phextsync.sync.branch import overdue
from phextsync.sync.messages import ScrollId
from phextsync.sync.scope import forget_outside


class LazyPush:
    """Of one link: whom its peer is linked with, and which scrolls it is believed to have newer
    than what it told us. A comparison confirms them, if nothing came since it began.

    `left`: scrolls not relayed, since their writer sends them or we may not; at most `left_max`.
    `written`: scrolls that the peer wrote and others told us, perhaps before they were on its disk.
    Both say since when.
    """

    def __init__(self, *, left_max: int) -> None:
        self.neighbours: frozenset[bytes] = frozenset()
        self.left: dict[ScrollId, float] = {}
        self.written: dict[ScrollId, float] = {}
        self._left_max = left_max
        self._seen: dict[str, dict[ScrollId, None]] = {}  # by comparisons that are under way

    def has_room(self, scroll: ScrollId) -> bool:
        """Whether there is room to note that a scroll is left to others."""
        return scroll in self.left or len(self.left) < self._left_max

    def leave(self, now: float, scroll: ScrollId) -> None:
        """An update is not relayed: others send it."""
        self.left.setdefault(scroll, now)
        self._forget_seen(scroll)

    def note_written(self, now: float, scroll: ScrollId) -> None:
        """Others told an update that the peer wrote."""
        self.written.setdefault(scroll, now)
        self._forget_seen(scroll)

    def hear(self, scroll: ScrollId) -> None:
        """The peer told us of the scroll itself: its acknowledgement tells when it is durable."""
        self.written.pop(scroll, None)

    def meet(self, neighbours: Iterable[bytes]) -> bool:
        """The peer is linked with these nodes now. Return whether it has lost one."""
        before, self.neighbours = self.neighbours, frozenset(neighbours)
        return bool(before - self.neighbours)

    def offer(
        self, phext: str, ranges: Ranges, unsettled: Iterable[Coordinate]
    ) -> Iterator[ScrollId]:
        """Iterate over what was left of ranges, without what is `unsettled`; it no longer is."""
        wait = set(unsettled)
        for scroll in list(self.left):
            if scroll[0] == phext and contains(ranges, scroll[1]) and scroll[1] not in wait:
                del self.left[scroll]
                yield scroll

    def phexts_left(self) -> Iterable[str]:
        """Return the phexts of which something was left, in order."""
        return dict.fromkeys(phext for phext, _ in self.left)

    def overdue_written(self, now: float, within_s: float) -> dict[str, None]:
        """Return the phexts of which the peer wrote something so long ago and has not told of."""
        return overdue(self.written.items(), now, within_s)

    def is_overdue(self, now: float, within_s: float) -> bool:
        """Whether more was left than there is room for, or too long ago."""
        if not self.left:
            return False
        return len(self.left) >= self._left_max or now - next(iter(self.left.values())) >= within_s

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""
        for noted in (self.left, self.written):
            forget_outside(noted, phext, scope)

    # -- comparisons -----------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing for a comparison to confirm."""
        return not self.left and not self.written

    def begin(self, phext: str, unsettled: Iterable[Coordinate]) -> None:
        """A comparison of the phext begins: it sees what is noted and not `unsettled`."""
        if self.is_empty:
            self._seen.pop(phext, None)
            return
        wait = set(unsettled)
        both = (*self.written, *self.left)
        self._seen[phext] = {s: None for s in both if s[0] == phext and s[1] not in wait}

    def confirm(self, phext: str) -> None:
        """The comparison has ended: the peer has what it saw, or will be sent it."""
        for scroll in self._seen.get(phext, ()):
            self.written.pop(scroll, None)
            self.left.pop(scroll, None)

    def _forget_seen(self, scroll: ScrollId) -> None:
        seen = self._seen.get(scroll[0])
        if seen is not None:
            seen.pop(scroll, None)
