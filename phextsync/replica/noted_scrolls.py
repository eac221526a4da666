"""Noted scrolls: a set of scrolls that a node still knows when it starts again.

A note goes into the batch of the changes that it is about: it is on the disk if they are.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

from phextsync.index import Coordinate
from phextsync.replica.durability import Durability

NotedScroll: TypeAlias = tuple[str, Coordinate]

_KEY_BYTES: Final = 12
_NOTED: Final = b"\x01"


class NotedScrolls:
    """Scrolls by phext and coordinate, with notes whose keys begin with `letter`, which is nobody
    else's. `all` has them; asking it costs nothing."""

    def __init__(self, durability: Durability, letter: bytes) -> None:
        self._durability = durability
        self._letter = letter
        self.all: dict[NotedScroll, None] = dict.fromkeys(self._read())

    def _read(self) -> Iterator[NotedScroll]:
        for key, _ in self._durability.notes(self._letter):
            phext, at = key[len(self._letter) : -_KEY_BYTES], key[-_KEY_BYTES:]
            yield phext.decode(), Coordinate.from_key(at)

    def add(self, scroll: NotedScroll) -> None:
        """Let the next batch note a scroll."""
        if scroll not in self.all:
            self.all[scroll] = None
            self._durability.note(self._key(scroll), _NOTED)

    def discard(self, scroll: NotedScroll) -> None:
        """Let the next batch remove the note of a scroll."""
        if scroll in self.all:
            del self.all[scroll]
            self._durability.note(self._key(scroll), b"")

    def _key(self, scroll: NotedScroll) -> bytes:
        return self._letter + scroll[0].encode() + scroll[1].key
