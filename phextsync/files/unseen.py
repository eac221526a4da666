"""Unseen: what scrolls held before this machine changed them, as long as others may not know that.

With it one tells, when a change of others arrives, whether both met. Where others are away it is
kept with the records. In sight of all it is needed for a moment, and kept in memory: but a link may
be silent for seconds before it counts as lost.
"""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Final

from phextsync.conflicts import is_answer
from phextsync.files.records import Records
from phextsync.index import Coordinate, fits, state_vector
from phextsync.replica.replica import Replica

_LOOK_S: Final = 0.25  # how often it is asked whether all know
_LATELY_MAX: Final = 64  # texts in memory; of more changes in a moment, conflicts may not be told


class Unseen:
    """The texts of one binding's scrolls before changes that others may not have seen."""

    def __init__(self, replica: Replica, records: Records, is_apart: Callable[[], bool]) -> None:
        self._replica = replica
        self._records = records
        self._is_apart = is_apart
        self._lately: dict[Coordinate, str] = {}  # changed in sight of all
        self._versions: dict[Coordinate, tuple[bytes, bytes]] = {}  # before and after a change
        self._coming: Container[Coordinate] = ()
        self._looked_at = 0.0

    @contextmanager
    def changing(self, coordinate: Coordinate) -> Iterator[None]:
        """Remember what a scroll holds before the block changes it, unless an older text is."""
        self._note(coordinate, self._replica.get(coordinate, ""))
        before = self._replica.version(coordinate)
        yield
        if coordinate in self._versions or len(self._versions) < _LATELY_MAX:
            before, _ = self._versions.get(coordinate, (before, b""))
            self._versions[coordinate] = before, self._replica.version(coordinate)

    def _note(self, coordinate: Coordinate, text: str) -> None:
        if self._is_apart():
            self._records.set_shared(coordinate, self._lately.pop(coordinate, text))
        elif self._records.shared(coordinate) is None and len(self._lately) < _LATELY_MAX:
            self._lately.setdefault(coordinate, text)

    def before(self, coordinate: Coordinate) -> str | None:
        """Return what a scroll held, None when all know what was changed."""
        lately = self._lately.get(coordinate)
        return self._records.shared(coordinate) if lately is None else lately

    def was_unknown(self, coordinate: Coordinate) -> bool:
        """Whether what came since a scroll was changed here was written by somebody who did not
        know what was changed. False when that cannot be told."""
        if coordinate not in self._versions:
            return False
        before, after = self._versions[coordinate]
        update = self._replica.difference(coordinate, after)
        return update is not None and fits(state_vector(before), update)

    def may_be_unknown(self, coordinate: Coordinate) -> bool:
        """The same, and true as well where it cannot be told of what was changed while others were
        away, as after a start of the node."""
        if coordinate in self._versions:
            return self.was_unknown(coordinate)
        return self._records.shared(coordinate) is not None

    def meet(self, coordinate: Coordinate, mine: str, merged: str) -> str | None:
        """Return what a scroll held, if what made `merged` of `mine` may have been written without
        knowing `mine`; from then on that is known. In sight of all it is not if it was written
        here, or answers what was changed here."""
        before, is_lately = self.before(coordinate), coordinate in self._lately
        if before is None or (is_lately and coordinate not in self._coming):
            return None
        self._versions.pop(coordinate, None)
        if not is_lately:
            self._records.replace_shared(coordinate, merged)
            return before
        self._lately[coordinate] = merged
        return None if is_answer(before, mine, merged) else before

    def look(self, now: float, coming: Container[Coordinate], is_whole: Callable[[], bool]) -> None:
        """Forget what was changed in sight of all if nobody lacks anything, but of scrolls to which
        something is `coming`: that may have been written before. Keep it with the records if it
        was not in sight of all."""
        self._looked_at, self._coming = now, coming
        if self._lately and self._is_apart():
            for coordinate, text in self._lately.items():
                self._records.set_shared(coordinate, text)
            self._lately.clear()
        elif self._lately and is_whole():
            self._lately = {c: text for c, text in self._lately.items() if c in coming}
            self._forget_versions()

    def forget(self) -> None:
        """Forget what was changed while others were away: all know it."""
        self._records.drop_shared()
        self._forget_versions()

    def _forget_versions(self) -> None:
        kept = self._versions.items()
        self._versions = {c: both for c, both in kept if self.before(c) is not None}

    @property
    def next_due(self) -> float | None:
        """When to look, None when there is nothing."""
        return self._looked_at + _LOOK_S if self._lately else None
