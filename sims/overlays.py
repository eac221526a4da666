"""Overlays: which nodes of a scenario are linked, and how few links reach everybody."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random


@dataclass(frozen=True)
class Overlay:
    """Nodes 0 to `nodes` - 1, each linked to `degree` others, 0: to all.

    Where nodes and degree are both odd, one node has one link more.
    """

    nodes: int
    degree: int = 0

    def __post_init__(self) -> None:
        if self.nodes < 2:
            raise ValueError(f"expected at least 2 nodes, found {self.nodes}")
        if not (self.degree in (0, self.nodes - 1) or 2 <= self.degree < self.nodes):
            expected = f"0 (all) or 2 to {self.nodes - 1} links for each of {self.nodes} nodes"
            raise ValueError(f"expected {expected}, found degree {self.degree}")

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs of nodes that are linked, in order, the smaller node first."""
        if self.degree in (0, self.nodes - 1):
            return tuple((a, b) for b in range(self.nodes) for a in range(b))
        return tuple(sorted({(min(a, b), max(a, b)) for a, b in self._ring()}))

    @cached_property
    def _ways(self) -> frozenset[tuple[int, int]]:
        return frozenset(way for a, b in self.pairs for way in ((a, b), (b, a)))

    def are_linked(self, one: int, other: int) -> bool:
        """Whether two nodes are a pair, in either order."""
        return (one, other) in self._ways

    def draw(self, source: Random) -> tuple[int, int]:
        """Draw two nodes that are linked, in either order.

        Any two are drawn until they are linked, so that where all are a seed keeps its schedule.
        """
        while True:
            one, other = source.sample(range(self.nodes), 2)
            if self.are_linked(one, other):
                return one, other

    def _ring(self) -> Iterator[tuple[int, int]]:
        """Link each node of a ring to others at distances that double: any two are near each
        other; where these do not suffice, at the next shortest ones. The last link of an odd
        degree goes to the opposite node."""
        nodes, half = self.nodes, self.nodes // 2
        ends_before = half if self.degree % 2 else (nodes + 1) // 2
        doubling = [2**i for i in range(nodes.bit_length()) if 2**i < ends_before]
        others = [distance for distance in range(1, ends_before) if distance not in doubling]
        for distance in (doubling + others)[: self.degree // 2]:
            yield from ((node, (node + distance) % nodes) for node in range(nodes))
        if self.degree % 2:
            yield from ((node, node + half) for node in range(nodes - half))
