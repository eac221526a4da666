"""Growth: cuts ranges that have become large, and notes how many slots there are. No IO, no clock.

A range is cut in its middle; the part below keeps its holders. Of the holders that are here the
first does it. Two that do it at once leave two boundaries, which is harmless. Slots are noted when
there are more members than before, and never taken back: that there are more than are needed costs
time and evens out, while halving them would move half of all that is held.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from phextsync.control.placing import add_boundaries, note_slots
from phextsync.index import EVERYTHING, Coordinate, CoordinateIndex, CoordinateRange
from phextsync.placement.holders import Placement
from phextsync.ranges import holds
from phextsync.replica.holding import WANTED_MAX
from phextsync.replica.replicas import ReplicaSet

SCROLLS_MAX: Final = 8192
"""Scrolls of a range, beyond which it is cut."""
BYTES_MAX: Final = 16 << 20
"""Bytes of its texts, beyond which a range is cut."""

_RANGES_MIN: Final = 16
_SPREAD: Final = 4  # of 500 members with 6 ranges each on average one has 15

_Sizes: TypeAlias = dict[CoordinateRange, tuple[bytes, int]]  # fingerprint, bytes of texts


class Growth:
    """What this node does about placed phexts that grow."""

    def __init__(
        self,
        replicas: ReplicaSet,
        *,
        scrolls_max: int = SCROLLS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._replicas = replicas
        self._scrolls_max = scrolls_max
        self._bytes_max = bytes_max
        self._sizes: dict[str, _Sizes] = {}

    def look(self, placement: Placement, is_here: Callable[[bytes], bool]) -> None:
        """Do what is to be done of one phext, where the nodes are there of which `is_here` says
        so; this one is."""
        phext, own = placement.policy.phext, self._replicas.node_id
        here = (node_id for node_id in placement.node_ids if node_id == own or is_here(node_id))
        if placement.policy.slots < placement.slots and next(here, None) == own:
            note_slots(self._replicas, phext, placement.slots)
        if cuts := list(self._cuts(placement, is_here)):
            add_boundaries(self._replicas, phext, cuts)

    def _cuts(self, placement: Placement, is_here: Callable[[bytes], bool]) -> Iterator[Coordinate]:
        phext, own = placement.policy.phext, self._replicas.node_id
        held = self._replicas.holding.of(phext)
        index = self._replicas.phext(phext).index
        pieces = list(placement.ranges(EVERYTHING))
        known = self._sizes.get(phext, {})
        sizes = self._sizes[phext] = {piece: known[piece] for piece in pieces if piece in known}
        room = ranges_max(len(placement.members), placement.copies) - len(pieces)
        for piece in pieces:
            if room > 0 and holds(held, piece) and self._is_large(index, piece, sizes):
                holders = (member.node_id for member in placement.holders(piece.lower))
                if next((i for i in holders if i == own or is_here(i)), None) == own:
                    room -= 1
                    yield index.select(index.rank(piece.lower) + index.count(piece) // 2)

    def _is_large(self, index: CoordinateIndex, piece: CoordinateRange, sizes: _Sizes) -> bool:
        count, digest = index.fingerprint(piece)
        if count > self._scrolls_max or count < 2 or index.text_bytes <= self._bytes_max:
            return count > self._scrolls_max
        if piece not in sizes or sizes[piece][0] != digest:
            sizes[piece] = digest, sum(size for _, _, size in index.entries(piece))
        return sizes[piece][1] > self._bytes_max


def ranges_max(members: int, copies: int) -> int:
    """Return into how many ranges a phext is cut at most: as many as members can tell that they
    hold, also one that has some times as many as others: they fall where their digests say."""
    return max(_RANGES_MIN, WANTED_MAX * members // (_SPREAD * max(1, copies)))
