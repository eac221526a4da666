"""Territory: which places each node holds, may read and may write. All, unless it was told."""

from collections.abc import Iterable

from phextsync.index import Coordinate, contains
from phextsync.ranges import Ranges


class Territory:
    """What the oracle knows of nodes that are not for everything."""

    def __init__(self) -> None:
        self._held: dict[int, Ranges] = {}
        self._readable: dict[int, Ranges] = {}
        self._writable: dict[int, Ranges] = {}

    def permit(self, node: int, readable: Ranges, writable: Ranges) -> None:
        """A node may read and write these ranges, and no others."""
        self._readable[node], self._writable[node] = readable, writable

    def hold(self, node: int, ranges: Ranges) -> bool:
        """A node holds these ranges from now on; say whether that is new."""
        is_new = self._held.get(node) != ranges
        self._held[node] = ranges
        return is_new

    def is_held(self, node: int, place: Coordinate) -> bool:
        """Whether a node holds a place."""
        return _lies_in(self._held, node, place)

    def may_read(self, node: int, place: Coordinate) -> bool:
        """Whether a node may read what is at a place."""
        return _lies_in(self._readable, node, place)

    def may_write(self, node: int, place: Coordinate) -> bool:
        """Whether a node may write at a place."""
        return _lies_in(self._writable, node, place)

    def holders(self, nodes: Iterable[int], place: Coordinate) -> list[int]:
        """Return which of the nodes hold a place."""
        return [node for node in nodes if self.is_held(node, place)]


def _lies_in(known: dict[int, Ranges], node: int, place: Coordinate) -> bool:
    return node not in known or contains(known[node], place)
