"""PeerVersions: which versions peers had of scrolls.

What a merge makes does not show what each side had: two that delete the same word delete it once.
The version that a peer tells when it asks for what it lacks does, with the updates that are kept.
"""

from collections.abc import Container, Mapping
from typing import Final, TypeAlias

from phextsync.index import EMPTY_VERSION, Coordinate, covers

ScrollId: TypeAlias = tuple[str, Coordinate]
"""A phext's name with a coordinate."""

Told: TypeAlias = list[tuple[bytes, bytes]]
"""Node ids, and versions that they had."""

_BYTES_MAX: Final = 16 << 20  # of versions; those of the scroll that was told first go first
_BESIDES: Final = 512  # bytes that a version takes besides its own, where it is the only one
_TOLD_MAX: Final = 64  # of one scroll, the last: the scroll is made once more for each


class PeerVersions:
    """Which versions of scrolls peers told, and which they are known to have had. Of a scroll that
    is not watched only those are kept that differ from ours both ways."""

    def __init__(self) -> None:
        self._watched: set[ScrollId] = set()
        self._scrolls: dict[ScrollId, tuple[Told, dict[bytes, bytes]]] = {}
        self._size = 0

    def watch(self, phext: str, coordinate: Coordinate) -> None:
        """Keep from now on all that peers tell of a scroll."""
        self._watched.add((phext, coordinate))

    def is_watched(self, phext: str, coordinate: Coordinate) -> bool:
        """Whether somebody watches a scroll."""
        return (phext, coordinate) in self._watched

    def keep_watching(self, phext: str, coordinates: Container[Coordinate]) -> None:
        """Watch no other scrolls of a phext than these, and forget what was told of others."""
        for scroll in [each for each in {*self._watched, *self._scrolls} if each[0] == phext]:
            if scroll[1] not in coordinates:
                self._watched.discard(scroll)
                self._forget(scroll)

    def tell(
        self, phext: str, coordinate: Coordinate, node_id: bytes, version: bytes, ours: bytes
    ) -> None:
        """A peer told the version that it has, when we had `ours`."""
        scroll = phext, coordinate
        if scroll in self._watched or not (covers(ours, version) or covers(version, ours)):
            told = self._of(scroll)[0]
            told.append((node_id, version))
            if len(told) > _TOLD_MAX:
                self._size -= _size(told.pop(0)[1])
            self._make_room(version)

    def note(self, phext: str, coordinate: Coordinate, node_id: bytes, version: bytes) -> None:
        """What a peer writes from now on it writes knowing this version."""
        known = self._of((phext, coordinate))[1]
        if node_id in known:
            self._size -= _size(known[node_id])
        known[node_id] = version
        self._make_room(version)

    def take(self, phext: str, coordinate: Coordinate, version: bytes) -> Told:
        """Return what was told of a scroll and is in its `version`, the oldest first, and forget
        it."""
        told, known = self._scrolls.get((phext, coordinate), ([], {}))
        taken = [each for each in told if covers(version, each[1])]
        told[:] = [each for each in told if each not in taken]
        for node_id, had in taken:
            self._size -= _size(had)
            if covers(had, known.get(node_id, EMPTY_VERSION)):
                self.note(phext, coordinate, node_id, had)
        return taken

    def known(self, phext: str, coordinate: Coordinate) -> Mapping[bytes, bytes]:
        """Return the versions of a scroll that nodes knew when they wrote last."""
        return self._scrolls.get((phext, coordinate), ([], {}))[1]

    def _of(self, scroll: ScrollId) -> tuple[Told, dict[bytes, bytes]]:
        return self._scrolls.setdefault(scroll, ([], {}))

    def _make_room(self, version: bytes) -> None:
        self._size += _size(version)
        while self._size > _BYTES_MAX:
            self._forget(next(iter(self._scrolls)))

    def _forget(self, scroll: ScrollId) -> None:
        told, known = self._scrolls.pop(scroll, ([], {}))
        self._size -= sum(_size(version) for _, version in told) + sum(map(_size, known.values()))


def _size(version: bytes) -> int:
    return _BESIDES + len(version)
