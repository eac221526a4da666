"""Unseen: what scrolls held before this machine changed them, as long as others may not know that.

With it one tells, when a change of others arrives, whether both met. Where others are away it is
kept with the records. In sight of all it is needed for a moment, and kept in memory: but a link may
be silent for seconds before it counts as lost.
"""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from phextsync.conflicts import is_answer, may_meet
from phextsync.files.records import Records, Shared
from phextsync.index import Coordinate, CoordinateRange, fits, state_vector
from phextsync.replica.replicas import ReplicaSet
from phextsync.replica.sides import Apart, Sides

_LOOK_S: Final = 0.25  # how often it is asked whether all know
_LATELY_MAX: Final = 64  # texts in memory; of more changes in a moment, conflicts may not be told


@dataclass(frozen=True, slots=True)
class Meeting:
    """What others had, who may not have known what was changed here: `base` before they changed
    it, `theirs` afterwards; `writers` are their node ids. Where the history does not say, `theirs`
    is read off the merge, which shows where both met and not what others had: then not
    `is_known`."""

    base: str
    theirs: str
    writers: tuple[bytes, ...] = ()
    is_known: bool = True


class Unseen:
    """The texts of one binding's scrolls before changes that others may not have seen."""

    def __init__(
        self,
        replicas: ReplicaSet,
        phext: str,
        range_: CoordinateRange,
        records: Records,
        is_apart: Callable[[], bool],
    ) -> None:
        self._replica = replica = replicas.open(phext)
        self._range = range_
        self._records = records
        self._peer_versions = replicas.peer_versions
        self._own = replicas.node_id
        self._is_apart = is_apart
        self._lately: dict[Coordinate, Shared] = {}  # changed in sight of all
        self._versions: dict[Coordinate, tuple[bytes, bytes]] = {}  # before and after a change
        self._looked: dict[Coordinate, bytes] = {}  # versions with nothing new of others
        self._told: set[Coordinate] = set()  # others told what they had
        self._arrived: set[Coordinate] = set()  # something of others was there before a change
        self._coming: Container[Coordinate] = ()
        self._looked_at = 0.0
        for coordinate in records.all_shared:
            self._peer_versions.watch(replica.name, coordinate)

    @contextmanager
    def changing(self, coordinate: Coordinate) -> Iterator[None]:
        """Remember what a scroll holds before the block changes it, unless an older text is."""
        before = self._replica.version(coordinate)
        text = self._replica.get(coordinate, "")
        self._note(coordinate, Shared(text, text, before, before))
        if self._looked.get(coordinate, before) != before:
            self._arrived.add(coordinate)
        self._peer_versions.watch(self._replica.name, coordinate)
        yield
        after = self._looked[coordinate] = self._replica.version(coordinate)
        if after != before:
            self._peer_versions.hear(self._replica.name, coordinate, self._own, after)
        if coordinate in self._versions or len(self._versions) < _LATELY_MAX:
            before, _ = self._versions.get(coordinate, (before, b""))
            self._versions[coordinate] = before, after

    def _note(self, coordinate: Coordinate, shared: Shared) -> None:
        if self._is_apart():
            self._records.set_shared(coordinate, self._lately.pop(coordinate, shared))
        elif self._records.shared(coordinate) is None and len(self._lately) < _LATELY_MAX:
            self._lately.setdefault(coordinate, shared)

    def _shared(self, coordinate: Coordinate) -> Shared | None:
        return self._lately.get(coordinate) or self._records.shared(coordinate)

    def before(self, coordinate: Coordinate) -> str | None:
        """Return what a scroll held, None when all know what was changed."""
        shared = self._shared(coordinate)
        return None if shared is None else shared.text

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

    def meet(
        self,
        coordinate: Coordinate,
        mine: str,
        merged: str,
        others: Callable[[str, str, str], str],
    ) -> list[Meeting]:
        """Return what others had, if what made `merged` of `mine` may have been written without
        knowing `mine`; from then on that is looked at. `others` reads what they had off a merge
        (of base, `mine`, and `merged`)."""
        shared, version = self._shared(coordinate), self._replica.version(coordinate)
        if shared is None:
            return []
        is_new = version != self._looked.get(coordinate, shared.seen) or coordinate in self._arrived
        if not is_new and coordinate not in self._told:
            return []
        self._looked[coordinate] = version
        self._arrived.discard(coordinate)
        self._told.discard(coordinate)
        had = self._peer_versions.take(self._replica.name, coordinate, version)
        has_met = may_meet(shared.first, mine, merged)  # else what is kept is not replayed
        sides = Sides((), are_all=False)
        if has_met and shared.before:
            known = self._peer_versions.known(self._replica.name, coordinate)
            apart = Apart(self._own, shared.before, shared.seen, had, known)
            sides = self._replica.past(coordinate).sides(apart)
            if sides == Sides((), are_all=True):
                return []  # a program of this machine
        met = [Meeting(s.base, s.text, s.writers, s.is_known) for s in sides.others]
        if not (is_new or met):
            return []
        is_lately = coordinate in self._lately
        if is_lately and not met and coordinate not in self._coming:
            return []
        looked = shared._replace(text=merged, seen=version if shared.before else b"")
        if is_lately:
            self._lately[coordinate] = looked
        else:
            self._records.replace_shared(coordinate, looked)
        self._versions.pop(coordinate, None)
        is_unknown = has_met and not sides.are_all
        if is_unknown and not (is_lately and is_answer(shared.text, mine, merged)):
            guessed = others(shared.text, mine, merged)
            met.append(Meeting(shared.text, guessed, is_known=False))
        return met

    def hear(self) -> list[Coordinate]:
        """Return the scrolls of which others told since what they had. What one deleted of what was
        deleted here meets that, although nothing of it is new here."""
        told = self._peer_versions.take_news(self._replica.name, self._range)
        self._told.update(coordinate for coordinate in told if self._shared(coordinate) is not None)
        return told

    def look(self, now: float, coming: Container[Coordinate], is_whole: Callable[[], bool]) -> None:
        """Forget what was changed in sight of all if nobody lacks anything, but of scrolls to which
        something is `coming`: that may have been written before. Keep it with the records if it
        was not in sight of all."""
        self._looked_at, self._coming = now, coming
        if self._lately and self._is_apart():
            for coordinate, shared in self._lately.items():
                self._records.set_shared(coordinate, shared)
            self._lately.clear()
        elif self._lately and is_whole():
            self._lately = {c: shared for c, shared in self._lately.items() if c in coming}
            self._forget_versions()

    def forget(self) -> None:
        """Forget what was changed while others were away: all know it."""
        self._records.drop_shared()
        self._forget_versions()

    def _forget_versions(self) -> None:
        kept = {*self._lately, *self._records.all_shared}
        self._versions = {c: both for c, both in self._versions.items() if c in kept}
        self._looked = {c: version for c, version in self._looked.items() if c in kept}
        self._arrived &= kept
        self._told &= kept
        self._peer_versions.keep_watching(self._replica.name, self._range, kept)

    @property
    def next_due(self) -> float | None:
        """When to look, None when there is nothing."""
        has_news = self._peer_versions.has_news(self._replica.name, self._range)
        return self._looked_at + _LOOK_S if self._lately or has_news else None
