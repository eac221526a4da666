"""Halves: characters beyond U+FFFF, which who counts in UTF-16 may cut in two.

Yjs makes two replacement characters of one that is cut, Yrs keeps it, and from then on two sides
with one version have two texts, and Yrs a state that cannot be read: what cuts one is refused.
"""

from typing import Final

from phextsync.crdt import Scroll
from phextsync.errors import UpdateError
from phextsync.index import cuts, low_halves

_KEPT_MAX: Final = 1 << 16  # about 10 MB for one scroll; with more they are looked up each time


class Halves:
    """Where the text of one scroll must not be cut. They are looked up when an update of somebody
    else comes first."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[tuple[int, int]] | None = None

    def check(self, scroll: Scroll, update: bytes) -> None:
        """UpdateError when an update cuts a character that is there or that it brings."""
        known = self._known
        if known is None:
            known = set() if scroll.text.isascii() else low_halves(scroll.state())
            if len(known) <= _KEPT_MAX:
                self._known = known
        if known and cuts(update, known):
            raise _cut()
        check_whole(update)

    def note(self, update: bytes) -> None:
        """An update took effect."""
        if self._known is not None:
            self._known |= low_halves(update)
            if len(self._known) > _KEPT_MAX:
                self._known = None


def check_whole(update: bytes) -> None:
    """UpdateError when an update cuts a character that it brings."""
    brought = low_halves(update)
    if brought and cuts(update, brought):
        raise _cut()


def _cut() -> UpdateError:
    return UpdateError(
        "expected whole characters, found half of one beyond U+FFFF deleted, or text put"
        " between its halves"
    )
