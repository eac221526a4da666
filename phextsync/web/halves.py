"""Halves: characters beyond U+FFFF, which clients that count in UTF-16 may cut in two.

Yjs makes two replacement characters of one that is cut, Yrs keeps it, and from then on two sides
with one version have two texts: what cuts one is refused. Sans-IO.
"""

from collections.abc import Callable
from typing import Final

from phextsync.errors import TextError
from phextsync.index import cuts, low_halves

_KEPT_MAX: Final = 1 << 16  # about 10 MB for one scroll; with more they are looked up each time


class Halves:
    """Where the text of one scroll must not be cut. `state` gives all of it as one update."""

    def __init__(self, state: Callable[[], bytes | None]) -> None:
        self._state = state
        self._known: set[tuple[int, int]] | None = None

    def check(self, update: bytes) -> None:
        """TextError when an update cuts a character that is there or that it brings."""
        known = self._known
        if known is None:
            state = self._state()
            known = set() if state is None else low_halves(state)
            if len(known) <= _KEPT_MAX:
                self._known = known
        if cuts(update, known) or cuts(update, low_halves(update)):
            raise TextError(
                "expected whole characters, found half of one beyond U+FFFF deleted, or text put"
                " between its halves"
            )

    def note(self, update: bytes) -> None:
        """An update took effect."""
        if self._known is not None:
            self._known |= low_halves(update)
            if len(self._known) > _KEPT_MAX:
                self._known = None

    def forget(self) -> None:
        """The scroll may be another one than before."""
        self._known = None
