"""Agreement: whether simulated nodes have what others have that hold the same, and know it."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from phextsync.control.placing import PLACEMENT, member_of, placement_of
from phextsync.index import EVERYTHING, ORIGIN, Coordinate, CoordinateRange, contains, covers
from phextsync.placement.holders import Placement
from phextsync.ranges import Ranges, holds
from phextsync.replica.holding import WANTED_MAX
from phextsync.sync.lacks import Lack
from phextsync.sync.reconcile import scope_digest
from phextsync.testing.mesh import PHEXT
from phextsync.testing.simulated_node import SimulatedNode
from phextsync.testing.wires import Wires

_Pieces: TypeAlias = list[tuple[CoordinateRange, list[SimulatedNode]]]


class Agreement:
    """Asks all nodes of a run, which must be awake."""

    def __init__(self, nodes: Sequence[SimulatedNode], wires: Wires) -> None:
        self._nodes = nodes
        self._wires = wires
        self._known: tuple[object, Placement] | None = None
        self._expectations: dict[int, Ranges] = {}  # by the number of a node, of what is known
        self._cut: tuple[object, _Pieces] = (None, [])

    def __str__(self) -> str:
        """Say what is in the way of it."""
        if not all(node.is_awake and not node.replicas.is_dirty for node in self._nodes):
            return "somebody sleeps or has not written"
        unlike = [
            f"{piece} on {', '.join(node.name for node in holders)}"
            for piece, holders in self._pieces()
            if not _is_equal(holders, piece)
        ]
        if unlike:
            return f"not equal: {'; '.join(unlike)}"
        if not self._is_placed_alike():
            return "not all know the same of what is placed"
        if not self.is_followed():
            return f"not followed by {', '.join(node.name for node in self._deviant())}"
        return f"{self.lacks() or [*map(str, self._to_give_up())]}"

    def is_equal(self) -> bool:
        """Whether nodes that hold the same range have the same in it, and all know the same of
        what is placed. One that may not write there may have more: nobody takes that from it."""
        are_equal = all(_is_equal(holders, piece) for piece, holders in self._pieces())
        return are_equal and self._is_placed_alike()

    def lacks(self) -> list[Lack]:
        """Return what nodes do not know of their peers to have. All are asked at once: to be asked
        makes a node find out. One that may not write everything knows less of its peers."""
        held: dict[int, list[CoordinateRange]] = {node.number: [] for node in self._nodes}
        for piece, holders in self._pieces():
            for node in _writers(holders, EVERYTHING):
                held[node.number].append(piece)
        return [
            lack
            for node in self._nodes
            for piece in held[node.number]
            for lack in node.core.lacking(PHEXT, piece)[1]
        ]

    def is_followed(self) -> bool:
        """Whether who follows placement holds what it says, and nobody is about to look again."""
        if any(node.is_following_later for node in self._nodes):
            return False
        return next(self._deviant(), None) is None

    def may_give_up(self) -> bool:
        """Whether a node still has what it need not keep: enough others hold it for good."""
        return next(self._to_give_up(), None) is not None

    # -- inside ----------------------------------------------------------------------------

    def _pieces(self) -> _Pieces:
        """Return the ranges between the bounds of all that nodes hold, with their holders; worked
        out once as long as nobody holds something else."""
        held = [node.held for node in self._nodes]
        firm = [node.replicas.holding.hold(PHEXT).firm for node in self._nodes]
        writable = [node.permissions.writable(PHEXT) for node in self._nodes]
        key = held, firm, writable
        if self._cut[0] != key:
            ranges = [range_ for some in (*held, *firm, *writable) for range_ in some]
            self._cut = key, self._between(sorted(_bounds(ranges)), held)
        return self._cut[1]

    def _between(self, bounds: Sequence[Coordinate], held: Sequence[Ranges]) -> _Pieces:
        """Return the ranges between bounds, with those of the nodes that hold them."""
        holders: list[list[SimulatedNode]] = [[] for _ in bounds]
        for node, ranges in zip(self._nodes, held, strict=True):
            for range_ in ranges:
                lower = bisect_left(bounds, range_.lower)
                upper = None if range_.upper is None else bisect_left(bounds, range_.upper)
                for some in holders[lower:upper]:
                    some.append(node)
        pieces = (CoordinateRange(*both) for both in pairwise([*bounds, None]))
        return [(piece, some) for piece, some in zip(pieces, holders, strict=True) if some]

    def _is_placed_alike(self) -> bool:
        placed = [
            node
            for node in self._nodes
            if node.replicas.known(PLACEMENT) is not None
            and node.permissions.readable(PLACEMENT) == (EVERYTHING,)
        ]
        return _are_equal(placed, PLACEMENT, EVERYTHING)

    def _deviant(self) -> Iterator[SimulatedNode]:
        """Iterate over the nodes that follow placement and want something else than it says."""
        for node in self._nodes:
            hold = node.replicas.holding.hold(PHEXT)
            if hold.follows and hold.wanted != self._expected(node):
                yield node

    def _expected(self, node: SimulatedNode) -> Ranges:
        """Return what placement says that a node holds, by what it knows of it; worked out once as
        long as all know the same."""
        state = scope_digest(node.replicas.open(PLACEMENT).index, [EVERYTHING])
        if self._known is None or self._known[0] != state:
            self._known = state, placement_of(node.replicas, PHEXT)
            self._expectations.clear()
        if node.number not in self._expectations:
            self._expectations[node.number] = _placed_on(node, self._known[1])
        return self._expectations[node.number]

    def _to_give_up(self) -> Iterator[CoordinateRange]:
        for node in self._nodes:
            hold = node.replicas.holding.hold(PHEXT)
            yield from hold.dropping
            for piece, holders in self._pieces() if hold.leaving else ():
                if contains(hold.leaving, piece.lower) and _writers([node], EVERYTHING):
                    keepers = [other for other in holders if self._keeps(node, other, piece)]
                    if len(keepers) >= (hold.copies or 1):
                        yield piece

    def _keeps(self, node: SimulatedNode, other: SimulatedNode, piece: CoordinateRange) -> bool:
        return (
            other is not node
            and self._wires.are_linked(node.number, other.number)
            and holds(other.replicas.holding.hold(PHEXT).firm, piece)
            and bool(_writers([other], piece))
        )


def _bounds(ranges: Iterable[CoordinateRange]) -> set[Coordinate]:
    bounds = {ORIGIN}
    for range_ in ranges:
        bounds.add(range_.lower)
        if range_.upper is not None:
            bounds.add(range_.upper)
    return bounds


def _placed_on(node: SimulatedNode, placement: Placement) -> Ranges:
    """Return what a node that follows placement wants to hold."""
    if node.node_id in placement.node_ids:
        placed = placement.of(node.node_id)
        return placed if len(placed) <= WANTED_MAX else (EVERYTHING,)
    member = member_of(node.replicas, node.node_id)
    return () if member is not None and member.has_left else (EVERYTHING,)


def _is_equal(holders: Sequence[SimulatedNode], piece: CoordinateRange) -> bool:
    writers = _writers(holders, piece)
    if not _are_equal(writers, PHEXT, piece):
        return False
    readers = [node for node in holders if node not in writers] if writers else []
    return all(_has_all(node, writers[0], piece) for node in readers)


def _has_all(node: SimulatedNode, of: SimulatedNode, piece: CoordinateRange) -> bool:
    """Whether a node has all that another one has of a range, or more."""
    ours, theirs = node.replica, of.replica
    return all(
        ours.index.fingerprint_of(place) == theirs.index.fingerprint_of(place)
        or covers(ours.version(place), theirs.version(place))
        for place in theirs.index.coordinates(piece)
    )


def _writers(nodes: Sequence[SimulatedNode], piece: CoordinateRange) -> list[SimulatedNode]:
    """Return those of some nodes that may write a range."""
    return [node for node in nodes if holds(node.permissions.writable(PHEXT), piece)]


def _are_equal(nodes: Sequence[SimulatedNode], phext: str, piece: CoordinateRange) -> bool:
    return len({scope_digest(node.replicas.open(phext).index, [piece]) for node in nodes}) <= 1
