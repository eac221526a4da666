"""Copies: on how many machines placed ranges are that can be reached, and who lacks one.

Of a range that this node holds, a linked peer has a copy when it holds all of it and has on its
disk all that is here. Of others it is believed what a peer told that it holds; a holder without a
link that is there counts as one that has its copy, since those who hold the same know better.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from phextsync.control.status import PlacedRow, ShortRow
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.placement.holders import Placement
from phextsync.placement.members import Member
from phextsync.ranges import Ranges, holds
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.synchronizer import Synchronizer

_SHOWN_MAX: Final = 20


def placed_row(
    placement: Placement, core: Synchronizer, here: Collection[bytes], taking: Ranges = ()
) -> PlacedRow:
    """Return how many copies there are of what is placed, by what this node knows: the nodes in
    `here` are there, and of the ranges in `taking` it has not all itself."""
    phext, wished = placement.policy.phext, placement.copies
    counts: list[int] = []
    short: list[ShortRow] = []
    move_bytes = 0
    for piece in placement.ranges(EVERYTHING):
        having = _having(placement, core, here, piece)
        if holds(taking, piece):
            having.discard(core.node_id)
        counts.append(len(having))
        if len(having) < wished:
            lacking = [m.name for m in placement.holders(piece.lower) if m.node_id not in having]
            short.append(ShortRow(range=str(piece), copies=len(having), lacking=tuple(lacking)))
            if core.node_id in having:
                move_bytes += about_bytes(core.replicas, phext, piece) * (wished - len(having))
    return PlacedRow(
        phext=phext,
        copies=wished,
        least=min(counts),
        ranges=len(counts),
        short=len(short),
        short_ranges=tuple(short[:_SHOWN_MAX]),
        move_bytes=move_bytes,
    )


def is_taken(
    core: Synchronizer,
    holders: Callable[[str, Coordinate], Sequence[Member]],
    phext: str,
    range_: CoordinateRange,
) -> bool:
    """Whether all is here that a linked peer has of a range; where none has it, whether no holder
    that is there could be linked."""
    linked = [link for link in core.links.values() if link.holds(phext, range_)]
    if not linked:
        here = core.presence.heard()
        return not any(member.node_id in here for member in holders(phext, range_.lower))
    return any(
        link.comparisons.has_come_to_an_end(phext)
        and not core.lacks.lacks_some(link, phext, range_)
        for link in linked
    )


def about_bytes(replicas: ReplicaSet, phext: str, range_: CoordinateRange) -> int:
    """Return about how many bytes the texts of a range have here: by their number."""
    index = replicas.phext(phext).index
    return index.text_bytes * index.count(range_) // max(1, len(index))


def _having(
    placement: Placement, core: Synchronizer, here: Collection[bytes], piece: CoordinateRange
) -> set[bytes]:
    """Return who has a copy of a range, by node id."""
    phext, own = placement.policy.phext, core.node_id
    is_here = holds(core.replicas.holding.of(phext), piece)
    linked = {link.peer_id for link in core.links.values() if link.is_ready}
    having = {
        link.peer_id
        for link in core.links.values()
        if link.holds(phext, piece)  # also while it gives it up: nobody else may have it yet
        and not (is_here and core.lacks.lacks_some(link, phext, piece))
    }
    holders = (member.node_id for member in placement.holders(piece.lower))
    having.update(i for i in holders if i in here and i not in linked)
    return having | {own} if is_here else having
