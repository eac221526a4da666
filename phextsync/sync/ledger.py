"""Ledger: which frames of updates on a link are on whose disk.

Frames of updates are numbered in each direction, from 1. A side tells two numbers: up to which of
the frames that it received, and up to which of those that it sent, everything is on its own disk.
The peer waits for the first; where edits follow each other, the second goes along with the next
frame of updates, which costs the peer no wake-up.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate
from phextsync.ranges import Ranges
from phextsync.sync.messages import Acknowledge, ScrollId
from phextsync.sync.scope import forget_outside


class Frame(NamedTuple):
    """A frame of updates: its number, and which scrolls it is about."""

    number: int
    phext: str
    coordinates: tuple[Coordinate, ...]


class Ledger:
    """The frames of one link. At most `scrolls_max` scrolls are noted by name of what the peer
    sent and has not on its disk; of the rest only the phext. At most `gaps_max` scrolls may lack
    something that the peer's updates build on."""

    def __init__(self, *, scrolls_max: int, gaps_max: int) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.received = 0
        self.durable = 0  # of what was received
        self.own_durable = 0  # of what was sent
        self.gaps: dict[ScrollId, int] = {}  # scrolls that lack something, since which frame
        self._scrolls_max = scrolls_max
        self._gaps_max = gaps_max
        self._taken = 0  # what will be durable with the batch that was taken
        self._own_taken = 0
        self._durable_told = 0
        self._own_durable_told = 0
        self._is_own_due = False  # that more of what was sent is durable is to be told now
        self._unacknowledged: deque[Frame] = deque()
        self._unacknowledged_scrolls = 0
        self._unsettled: deque[Frame] = deque()  # from the peer, and not on its disk
        self._unsettled_scrolls = 0
        self._unsettled_phexts: dict[str, int] = {}  # the last frame that was dropped, by phext

    # -- frames ----------------------------------------------------------------------------

    def send(self, phext: str, coordinates: tuple[Coordinate, ...], *, is_durable: bool) -> None:
        """A frame of updates goes out; `is_durable` says whether all that is here is on disk."""
        self.sent += 1
        if is_durable:
            self.own_durable = self.sent
        self._is_own_due = self.own_durable > self._own_durable_told
        self._unacknowledged.append(Frame(self.sent, phext, coordinates))
        self._unacknowledged_scrolls += len(coordinates)

    def receive(self, phext: str, coordinates: tuple[Coordinate, ...]) -> None:
        """A frame of updates came in."""
        self.received += 1
        self._unsettled.append(Frame(self.received, phext, coordinates))
        self._unsettled_scrolls += len(coordinates)
        while self._unsettled_scrolls > self._scrolls_max:
            dropped = self._unsettled.popleft()
            self._unsettled_scrolls -= len(dropped.coordinates)
            self._unsettled_phexts[dropped.phext] = dropped.number

    def miss(self, scroll: ScrollId) -> None:
        """The frame received last builds on something of the scroll that is not here."""
        self.gaps.setdefault(scroll, self.received)
        if len(self.gaps) > self._gaps_max:
            raise ProtocolError(
                f"expected updates of what is here, found {len(self.gaps)} of what is not"
            )

    def fill(self, scroll: ScrollId) -> None:
        """Nothing is missing of the scroll any more."""
        self.gaps.pop(scroll, None)

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what scrolls of a phext lack outside of a scope: nobody fills it here."""
        forget_outside(self.gaps, phext, scope)

    @property
    def complete(self) -> int:
        """The last frame up to which nothing that was received is incomplete."""
        return min(self.gaps.values()) - 1 if self.gaps else self.received

    # -- our disk --------------------------------------------------------------------------

    def committing(self) -> None:
        """A batch was taken: what has arrived so far will be durable with it."""
        self._taken, self._own_taken = self.complete, self.sent

    def committed(self, *, is_dirty: bool) -> bool:
        """The batch is durable; `is_dirty` says that more has come since. Return whether there is
        something to acknowledge now: what we sent waits for one more batch, if there will be one,
        or for the next frame of updates."""
        is_late = self.own_durable > self._own_durable_told
        durable = self._taken if is_dirty else self.complete
        own = self._own_taken if is_dirty else self.sent
        self.durable, self.own_durable = max(durable, self.durable), max(own, self.own_durable)
        if is_late or not is_dirty:
            self._is_own_due = self.own_durable > self._own_durable_told
        return self.has_news

    def is_on_disk(self) -> None:
        """All that was received is on disk, as far as it is complete."""
        self.durable = max(self.durable, self.complete)

    # -- acknowledgements ------------------------------------------------------------------

    @property
    def has_to_acknowledge(self) -> bool:
        """Whether the peer waits to hear that what it sent is durable."""
        return self.durable > self._durable_told

    @property
    def has_own_to_acknowledge(self) -> bool:
        """Whether more of what we sent is durable than we have said, and it is time to say so."""
        return self._is_own_due

    @property
    def has_news(self) -> bool:
        """Whether either of the two is so."""
        return self._is_own_due or self.durable > self._durable_told

    def acknowledge(self) -> Acknowledge:
        """Return what to tell the peer of our disk."""
        self._durable_told, self._own_durable_told = self.durable, self.own_durable
        self._is_own_due = False
        return Acknowledge(self.durable, self.own_durable)

    def note(self, acknowledged: Acknowledge) -> None:
        """Note what the peer tells of its disk."""
        received, sent = acknowledged.received, acknowledged.sent
        if received > self.sent or sent > self.received:
            raise ProtocolError(
                f"expected an acknowledgement up to {self.sent} and {self.received}, "
                f"found {received} and {sent}"
            )
        self.acknowledged = max(self.acknowledged, received)
        while self._unacknowledged and self._unacknowledged[0].number <= received:
            self._unacknowledged_scrolls -= len(self._unacknowledged.popleft().coordinates)
        while self._unsettled and self._unsettled[0].number <= sent:
            self._unsettled_scrolls -= len(self._unsettled.popleft().coordinates)
        if self._unsettled_phexts:
            left = {p: last for p, last in self._unsettled_phexts.items() if last > sent}
            self._unsettled_phexts = left

    # -- the peer's disk -------------------------------------------------------------------

    @property
    def is_acknowledged(self) -> bool:
        """Whether all that we sent is on the peer's disk."""
        return not self._unacknowledged

    def lacks_some(self, phext: str) -> bool:
        """Whether the peer has not on its disk what it sent of the phext, too much to be noted."""
        return phext in self._unsettled_phexts

    def under_way(self, phext: str) -> Iterator[Coordinate]:
        """Iterate over the scrolls that are noted and not known to be on the peer's disk."""
        for frame in chain(self._unacknowledged, self._unsettled):
            if frame.phext == phext:
                yield from frame.coordinates

    def is_unacknowledged(self, scroll: ScrollId) -> bool:
        """Whether the peer is not known to have on its disk what we sent it of a scroll."""
        phext, coordinate = scroll
        frames = self._unacknowledged
        return any(coordinate in frame.coordinates for frame in frames if frame.phext == phext)

    def is_quiet(self, phext: str) -> bool:
        """Whether no frame of the phext is under way."""
        frames = chain(self._unacknowledged, self._unsettled)
        return phext not in self._unsettled_phexts and all(f.phext != phext for f in frames)

    @property
    def frames(self) -> int:
        """How many frames are noted."""
        return len(self._unacknowledged) + len(self._unsettled)

    @property
    def scrolls(self) -> int:
        """How many scrolls are noted, more than once in different frames."""
        return self._unacknowledged_scrolls + self._unsettled_scrolls

    def check(self) -> None:
        """Check that the counts are those of what is noted."""
        for frames, count in (
            (self._unacknowledged, self._unacknowledged_scrolls),
            (self._unsettled, self._unsettled_scrolls),
        ):
            assert sum(len(frame.coordinates) for frame in frames) == count
        assert self._unsettled_scrolls <= self._scrolls_max
        assert self.durable <= self.complete <= self.received
        assert self.acknowledged <= self.sent
        assert self.own_durable <= self.sent
        assert self.own_durable > self._own_durable_told or not self._is_own_due
