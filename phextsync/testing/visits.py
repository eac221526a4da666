"""Visits: what users read and write where their node does not hold it, and what they are owed.

* A reader never sees less than it saw: each token that one life of a node has shown at a place, or
  written there, is there when it shows that place again, unless somebody deleted it.
* What a visitor wrote and its node has on its disk is at the holders in the end.
"""

from collections.abc import Callable, Iterable, Mapping

from phextsync.index import Coordinate


class Visits:
    """What the oracle knows of visitors."""

    def __init__(self) -> None:
        self.owed: dict[str, Coordinate] = {}
        self._seen: dict[tuple[int, Coordinate], dict[str, None]] = {}
        self._places: dict[tuple[int, Coordinate], None] = {}
        self._waiting: dict[int, dict[str, Coordinate]] = {}  # written, not yet on the disk
        self._taken: dict[int, dict[str, Coordinate]] = {}

    def is_visited(self, node: int, place: Coordinate) -> bool:
        """Whether a node was ever asked for a place that it did not hold: it may be there."""
        return (node, place) in self._places

    def visit(self, node: int, place: Coordinate) -> None:
        """A node asks for a place that it does not hold."""
        self._places[node, place] = None

    def read(
        self, node: int, place: Coordinate, tokens: Iterable[str], deleted: Mapping[str, None]
    ) -> str | None:
        """A node shows a place; return what it has shown before and does not show now, if any."""
        shown, seen = dict.fromkeys(tokens), self._seen.setdefault((node, place), {})
        missing = [token for token in seen if token not in shown and token not in deleted]
        seen.update(shown)
        return missing[0] if missing else None

    def wrote(self, node: int, place: Coordinate, tokens: Iterable[str]) -> None:
        """A node took what its user wrote."""
        for token in tokens:
            self._seen.setdefault((node, place), {})[token] = None
            self._waiting.setdefault(node, {})[token] = place

    def taken(self, node: int) -> None:
        """A node began to write a batch."""
        self._taken.setdefault(node, {}).update(self._waiting.pop(node, {}))

    def committed(self, node: int) -> None:
        """What a node began to write is on its disk."""
        self.owed.update(self._taken.pop(node, {}))

    def started(self, node: int) -> None:
        """A node started: what was not on its disk is gone, and what it remembers of reads."""
        for some in (self._waiting, self._taken):
            some.pop(node, None)
        for key in [key for key in self._seen if key[0] == node]:
            del self._seen[key]

    def become_held(
        self, node: int, is_held: Callable[[int, Coordinate], bool]
    ) -> list[Coordinate]:
        """A node holds something else now: return what it was asked for and holds. That is visited
        no more."""
        found = [place for at, place in self._places if at == node and is_held(node, place)]
        for place in found:
            del self._places[node, place]
            self._seen.pop((node, place), None)
        return found
