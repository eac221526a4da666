"""PeerVersions: which versions peers had of scrolls.

What a merge makes does not show what each side had: two that delete the same word delete it once.
The version that a peer tells when it asks for what it lacks does, with the updates that are kept.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from phextsync.index import EMPTY_VERSION, Coordinate, CoordinateRange, covers

ScrollId: TypeAlias = tuple[str, Coordinate]
"""A phext's name with a coordinate."""

Told: TypeAlias = list[tuple[bytes, bytes]]
"""Node ids, and versions that they had."""

_BYTES_MAX: Final = 16 << 20  # of versions; those of the scroll that was told first go first
_BESIDES: Final = 512  # bytes that a version takes besides its own, where it is the only one
_TOLD_MAX: Final = 16  # of one scroll, the last: the scroll is made once more for each


@dataclass(slots=True)
class _Versions:
    """Of one scroll: what was told and not looked at, which version each node is known to have
    had, and all that were heard, each with its number."""

    told: Told = field(default_factory=list)
    known: dict[bytes, bytes] = field(default_factory=dict)
    heard: dict[tuple[bytes, bytes], int] = field(default_factory=dict)


class PeerVersions:
    """Which versions of scrolls peers told, and which they are known to have had. Of a scroll that
    is not watched only those are kept that differ from ours both ways.

    `scrolls` are those of which there may be something to tell others.
    """

    def __init__(self) -> None:
        self.scrolls: dict[ScrollId, _Versions] = {}
        self._watched: set[ScrollId] = set()
        self._news: dict[ScrollId, None] = {}  # watched, told of, and not looked at since
        self._size = 0
        self._last = 0  # number of what was heard

    def watch(self, phext: str, coordinate: Coordinate) -> None:
        """Keep from now on all that peers tell of a scroll."""
        self._watched.add((phext, coordinate))
        self._of((phext, coordinate))

    def is_watched(self, phext: str, coordinate: Coordinate) -> bool:
        """Whether somebody watches a scroll."""
        return (phext, coordinate) in self._watched

    def keep_watching(
        self, phext: str, range_: CoordinateRange, coordinates: Container[Coordinate]
    ) -> None:
        """Watch no other scrolls of a range than these, and forget what was told of others."""
        for scroll in {*self._watched, *self.scrolls}:
            if scroll[0] == phext and scroll[1] in range_ and scroll[1] not in coordinates:
                self._watched.discard(scroll)
                self._forget(scroll)

    def tell(
        self, phext: str, coordinate: Coordinate, node_id: bytes, version: bytes, ours: bytes
    ) -> None:
        """A node has told the version that it has, or had, when we had `ours`."""
        scroll = phext, coordinate
        if scroll in self._watched or not (covers(ours, version) or covers(version, ours)):
            self.hear(phext, coordinate, node_id, version)
            told = self._of(scroll).told
            if (node_id, version) in told:
                return
            told.append((node_id, version))
            if len(told) > _TOLD_MAX:
                self._size -= _size(told.pop(0)[1])
            if scroll in self._watched:
                self._news[scroll] = None
            self._make_room(version)

    def hear(self, phext: str, coordinate: Coordinate, node_id: bytes, version: bytes) -> None:
        """A node had a version: others are told that."""
        heard = self._of((phext, coordinate)).heard
        if (node_id, version) in heard:
            return
        self._last += 1
        heard[node_id, version] = self._last
        if len(heard) > _TOLD_MAX:
            oldest = next(iter(heard))
            self._size -= _size(oldest[1])
            del heard[oldest]
        self._make_room(version)

    def heard(self, phext: str, coordinate: Coordinate, after: int) -> tuple[Told, int]:
        """Return what was heard of a scroll after that of a number, of each node the last, and the
        number of the last."""
        versions = self.scrolls.get((phext, coordinate))
        if versions is None:
            return [], after
        new = [pair for pair, number in versions.heard.items() if number > after]
        last = dict(new)
        return [pair for pair in new if last[pair[0]] == pair[1]], self._last

    def note(self, phext: str, coordinate: Coordinate, node_id: bytes, version: bytes) -> None:
        """What a peer writes from now on it writes knowing this version."""
        known = self._of((phext, coordinate)).known
        if node_id in known:
            self._size -= _size(known[node_id])
        known[node_id] = version
        self._make_room(version)

    def take(self, phext: str, coordinate: Coordinate, version: bytes) -> Told:
        """Return what was told of a scroll and is in its `version`, the oldest first, and forget
        it."""
        self._news.pop((phext, coordinate), None)
        versions = self.scrolls.get((phext, coordinate)) or _Versions()
        told, known = versions.told, versions.known
        taken = [each for each in told if covers(version, each[1])]
        told[:] = [each for each in told if each not in taken]
        for node_id, had in taken:
            self._size -= _size(had)
            if covers(had, known.get(node_id, EMPTY_VERSION)):
                self.note(phext, coordinate, node_id, had)
        return taken

    def has_news(self, phext: str, range_: CoordinateRange) -> bool:
        """Whether `take_news` would return anything."""
        return any(name == phext and coordinate in range_ for name, coordinate in self._news)

    def take_news(self, phext: str, range_: CoordinateRange) -> list[Coordinate]:
        """Return the watched scrolls of a range of which something was told that was not taken, nor
        returned here."""
        news = [coordinate for name, coordinate in self._news if name == phext]
        news = [coordinate for coordinate in news if coordinate in range_]
        for coordinate in news:
            del self._news[phext, coordinate]
        return news

    def known(self, phext: str, coordinate: Coordinate) -> Mapping[bytes, bytes]:
        """Return the versions of a scroll that nodes knew when they wrote last."""
        versions = self.scrolls.get((phext, coordinate))
        return {} if versions is None else versions.known

    def _of(self, scroll: ScrollId) -> _Versions:
        return self.scrolls.setdefault(scroll, _Versions())

    def _make_room(self, version: bytes) -> None:
        self._size += _size(version)
        while self._size > _BYTES_MAX:
            self._forget(next(iter(self.scrolls)))

    def _forget(self, scroll: ScrollId) -> None:
        self._news.pop(scroll, None)
        versions = self.scrolls.pop(scroll, None) or _Versions()
        kept = (*versions.told, *versions.known.items(), *versions.heard)
        self._size -= sum(_size(version) for _, version in kept)


def _size(version: bytes) -> int:
    return _BESIDES + len(version)
