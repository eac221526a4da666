"""Tracked: whose steps are remembered, scroll by scroll, so that they can be undone."""

from collections.abc import Iterator

from phextsync.index import Coordinate


class Tracked:
    """How many histories of each author there are of the scrolls of one phext. The document of
    such a scroll has the steps: it stays open."""

    def __init__(self) -> None:
        self._counts: dict[Coordinate, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, coordinate: object) -> bool:
        return coordinate in self._counts

    def __iter__(self) -> Iterator[Coordinate]:
        return iter(tuple(self._counts))

    def authors(self, coordinate: Coordinate) -> tuple[str, ...]:
        """Return whose steps are remembered."""
        return tuple(self._counts.get(coordinate, ()))

    def add(self, coordinate: Coordinate, author: str) -> None:
        """One more history of an author."""
        authors = self._counts.setdefault(coordinate, {})
        authors[author] = authors.get(author, 0) + 1

    def remove(self, coordinate: Coordinate, author: str) -> bool:
        """One history of an author fewer; say whether it was the last one."""
        authors = self._counts[coordinate]
        authors[author] -= 1
        if authors[author]:
            return False
        del authors[author]
        if not authors:
            del self._counts[coordinate]
        return True
