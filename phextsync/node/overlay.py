"""Overlay: with whom of the nodes that it knows a node keeps links. Pure functions.

Nodes stand on rings, each ring in an order of its own that digests of their ids give. On the first
ring each is linked with the next two on either side, so that the graph is connected; on each other
one with the next on either side: such a graph of random cycles has a small diameter (Law and Siu
2003). Who knows the same nodes chooses the same links at both ends, and one node that comes or goes
changes two links a ring. In the same way all choose the tree by which everybody is told.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias

Pair: TypeAlias = tuple[bytes, bytes]
"""Two node ids, the smaller one first."""

_NEAR: Final = 2  # on either side of the first ring
_PLACES_KEPT: Final = 16384
_RINGS: Final = 3  # besides the first: fewer, and the diameter grows; more, and so does the cost


def overlay(
    nodes: Iterable[bytes], shared: Mapping[Pair, int], links_max: int
) -> dict[bytes, set[bytes]]:
    """Return the nodes with which each of `nodes` is linked, at most `links_max`, at least 4.

    `shared` has of pairs of nodes how many slots both hold; those with most are linked first, but
    so that each keeps room for the first ring. Up to one node more than `links_max`, all are
    linked.
    """
    ordered = sorted(set(nodes))
    if len(ordered) <= links_max + 1:
        return {node: {other for other in ordered if other != node} for node in ordered}
    chosen: dict[bytes, set[bytes]] = {node: set() for node in ordered}
    for pair in _near(ordered):
        _link(chosen, pair)
    for pair in sorted(shared, key=lambda pair: (-shared[pair], _digest(b"", *pair))):
        if pair[0] in chosen and pair[1] in chosen:
            _link_within(chosen, pair, links_max)
    for ring in range(1, _RINGS + 1):
        for pair in _next(_ring(ordered, ring)):
            _link_within(chosen, pair, links_max)
    return chosen


def spanning_tree(
    chosen: Mapping[bytes, set[bytes]], limited: frozenset[bytes] = frozenset()
) -> dict[bytes, set[bytes]]:
    """Return with which of its peers each node is linked in a tree of shortest ways from one node,
    one tree for each part that is connected. So two nodes are as far from each other at most as
    both are from that node. Over one that is `limited` in what it may pass on leads a way only
    where there is no other."""
    tree: dict[bytes, set[bytes]] = {node: set() for node in chosen}
    reached: set[bytes] = set()
    for root in sorted(_ring([*chosen], 0), key=limited.__contains__):
        edge = [] if root in reached else [root]
        reached.add(root)
        last: list[bytes] = []
        while edge:
            further: list[bytes] = []
            for node in edge:
                for peer in sorted(chosen[node] - reached):
                    _link(tree, (node, peer))
                    reached.add(peer)
                    (last if peer in limited else further).append(peer)
            if not further:
                further, last = last, []
            edge = further
    return tree


class Rings:
    """The rings of some nodes, to see who would be near whom if it were one of them."""

    def __init__(self, nodes: Iterable[bytes]) -> None:
        known = list(nodes)
        self._places = [sorted(_place(ring, n) for n in known) for ring in range(_RINGS + 1)]

    def would_meet(self, node: bytes, newcomer: bytes) -> bool:
        """Whether one of the nodes and one more would be near enough to be linked, if both had
        links to spare."""
        for ring, places in enumerate(self._places):
            at = bisect_left(places, _place(ring, node))
            comes_at = bisect_left(places, _place(ring, newcomer))
            apart = (comes_at - at - (comes_at <= at)) % (len(places) + 1)
            if min(apart, len(places) + 1 - apart) <= (1 if ring else _NEAR):
                return True
        return False


def _near(nodes: list[bytes]) -> Iterable[Pair]:
    ring = _ring(nodes, 0)
    for distance in range(1, _NEAR + 1):
        yield from _next(ring, distance)


def _next(ring: list[bytes], distance: int = 1) -> Iterable[Pair]:
    for i, node in enumerate(ring):
        other = ring[(i + distance) % len(ring)]
        yield (min(node, other), max(node, other))


def _ring(nodes: list[bytes], number: int) -> list[bytes]:
    return sorted(nodes, key=lambda node: _place(number, node))


@lru_cache(_PLACES_KEPT)
def _place(ring: int, node: bytes) -> bytes:
    return _digest(ring.to_bytes(1), node)


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=16).digest()


def _link(chosen: dict[bytes, set[bytes]], pair: Pair) -> None:
    one, other = pair
    chosen[one].add(other)
    chosen[other].add(one)


def _link_within(chosen: dict[bytes, set[bytes]], pair: Pair, links_max: int) -> None:
    if all(len(chosen[node]) < links_max for node in pair):
        _link(chosen, pair)
