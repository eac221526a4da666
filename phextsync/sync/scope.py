"""Scope: what both sides of a link hold of a phext. When that changes, the rest is forgotten."""

from collections.abc import Iterable, MutableMapping
from typing import Protocol, TypeVar

from phextsync.index import EVERYTHING, contains
from phextsync.ranges import Ranges, intersection
from phextsync.sync.messages import ScrollId
from phextsync.sync.rights import LinkRights

T = TypeVar("T")


class Noting(Protocol):
    """A part of a link that notes something of scrolls."""

    def keep_to(self, phext: str, scope: Ranges) -> None:
        """Forget what is noted of scrolls of a phext outside of a scope."""


class Scope:
    """The parts of one link that note something of scrolls. What crosses a change of the scope is
    about what both held before: `void` has the number of the last such comparison of a phext,
    `deaf` the ping whose answer says that the peer knows of the change; of what is `awaited` the
    peer takes no turn before it asks for a comparison."""

    def __init__(self, rights: LinkRights, parts: Iterable[Noting]) -> None:
        self.void: dict[str, int] = {}
        self.deaf: dict[str, int] = {}
        self.awaited: set[str] = set()
        self._rights = rights
        self._parts = tuple(parts)

    def changed(self, phext: str) -> None:
        """One of the sides holds something else of a phext now: neither sends, asks for or awaits
        any more what lies outside of what both hold."""
        told = self._rights.told.get(phext, (EVERYTHING,))
        scope = intersection(self._rights.held(phext), told)
        for part in self._parts:
            part.keep_to(phext, scope)


def forget_outside(noted: MutableMapping[ScrollId, T], phext: str, scope: Ranges) -> list[T]:
    """Take what lies outside of a scope out of what is noted of a phext; return it."""
    outside = [s for s in noted if s[0] == phext and not contains(scope, s[1])]
    return [noted.pop(scroll) for scroll in outside]
