"""Absences: which files are gone that this machine had, since when, and which may be deleted.

Editors and programs let a file be gone for a moment, so it waits. More than half of the names
vanish when somebody slips, or a disk does: such deletions are held until they are confirmed or the
files are back.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from phextsync.files.records import Guise
from phextsync.index import Coordinate

GRACE_S: Final = 1.5
"""How long a file has to be gone or empty before that counts: editors do both before they write,
some for as long as 0.8 s."""
GUARD_NAMES: Final = 20
"""Of at least this many names, ..."""
GUARD_S: Final = 10.0
"""... when more than half vanish within this time, that is held until somebody confirms it."""


class Absences:
    """The files of one binding that are gone. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[Coordinate, float] = {}
        self._missing: dict[Coordinate, None] = {}  # those of them that are not there, even empty
        self._unsure: dict[Coordinate, None] = {}  # those of which that cannot be told yet
        self._displaced: dict[Coordinate, None] = {}  # those that have another file in their place
        self._unfound: dict[Coordinate, None] = {}  # those of them that went on in a round
        self._held: dict[Coordinate, None] = {}
        self._renamed: dict[Coordinate, str] = {}  # what they seem to be now, in this round
        self._guises: dict[Coordinate, Guise] = {}  # as they were seen last, in any round
        self._seen_at: dict[str, Coordinate] = {}  # the same by where they were seen
        self._odd: dict[Coordinate, None] = {}  # those of them whose name cannot be kept
        self._paths: dict[str, Coordinate] = {}  # which wait until it is settled what is gone
        self._held_up: dict[Coordinate, Coordinate] = {}  # the same, of scrolls without a file
        self._deleted: deque[tuple[float, int]] = deque()
        self._confirmed: dict[Coordinate, None] = {}
        self._is_newly_confirmed = False

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[Coordinate]:
        return iter(self._since)

    def __contains__(self, coordinate: Coordinate) -> bool:
        return coordinate in self._since

    @property
    def held(self) -> int:
        """How many deletions wait to be confirmed."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many files may come back, or are to be deleted."""
        return len(self._since) - len(self._odd)

    @property
    def holding(self) -> list[Coordinate]:
        """Which deletions wait to be confirmed."""
        return list(self._held)

    def hold(self, coordinate: Coordinate, now: float) -> None:
        """Note that a deletion waited to be confirmed when the node ended."""
        self._since.setdefault(coordinate, now)
        self._held[coordinate] = None

    def is_confirmed(self, coordinate: Coordinate) -> bool:
        """Whether a file that is gone may be deleted at once."""
        return coordinate in self._confirmed

    def begin_round(self) -> list[str]:
        """Forget what seems to be renamed: it is to be found again. Return the paths that wait."""
        paths = list(self._paths)
        self._is_newly_confirmed = False
        self._renamed.clear()
        self._displaced.clear()
        self._odd.clear()
        self._paths.clear()
        return paths

    def wait(self, path: str, coordinate: Coordinate) -> None:
        """Let a path be looked at again in each round, and when it is settled what became of a
        file that is gone."""
        self._paths[path] = coordinate

    def holds_up(self, other: Coordinate, coordinate: Coordinate) -> bool:
        """Whether a file is gone and stays neither there nor deleted, so that a scroll whose file
        is to lie in its place has to wait; that is remembered."""
        if other not in self._since or self.is_open(other):
            return False
        self._held_up[coordinate] = other
        return True

    def lets_wait(self, path: str, coordinate: Coordinate) -> bool:
        """Whether a file that is gone seems to be at `path`, which does not count yet, so that a
        scroll whose file is to lie there has to wait; that is remembered."""
        other = self._paths.get(path)
        if other is None or (guise := self.guise(other)) is None or guise.path != path:
            return False
        self._held_up[coordinate] = other
        return True

    def is_holding_up(self, other: Coordinate) -> bool:
        """Whether some scroll waits for a file."""
        return other in self._held_up.values()

    def take_held_up(self) -> list[Coordinate]:
        """Return the scrolls that wait, and forget them."""
        waiting, self._held_up = self._held_up, {}
        return list(waiting)

    @property
    def missing(self) -> list[Coordinate]:
        """Which files are not there: one that appears may be one of these."""
        return list(self._missing)

    @property
    def unsure(self) -> list[Coordinate]:
        """Of which files it could not be told whether they are there."""
        return list(self._unsure)

    def is_unsure(self, coordinate: Coordinate) -> bool:
        """Whether it could not be told of a file whether it is there."""
        return coordinate in self._unsure

    def is_missing(self, coordinate: Coordinate) -> bool:
        """Whether a file is known not to be there, even empty."""
        return coordinate in self._missing

    def note(self, coordinate: Coordinate, is_gone: bool | None, now: float) -> None:
        """Note whether a file is gone, or (False) something is where it was, whatever that holds.
        While it cannot be told (None), one that appears may be that file."""
        if is_gone is False and coordinate in self._displaced:
            return
        self._missing.pop(coordinate, None)
        self._unsure.pop(coordinate, None)
        if is_gone:
            self._since.setdefault(coordinate, now)
            self._missing[coordinate] = None
        elif is_gone is None:
            self._unsure[coordinate] = None

    def displace(self, coordinate: Coordinate, now: float) -> None:
        """Note, for this round, that a file is gone though another lies in its place."""
        self.note(coordinate, True, now)
        self._displaced[coordinate] = None

    def is_displaced(self, coordinate: Coordinate) -> bool:
        """Whether another file lies in the place of one that is gone."""
        return coordinate in self._displaced

    def is_elsewhere(self, coordinate: Coordinate, now: float) -> bool:
        """Whether a file that has another in its place is looked for, or seems to be one that waits
        for its new name. One that was found and went on since is looked for once more."""
        if coordinate not in self._displaced:
            return False
        waits = coordinate in self._renamed and self.is_open(coordinate)
        if waits or not self.is_due(coordinate, now):
            self._unfound.pop(coordinate, None)
            return True
        if coordinate in self._unfound:
            return False
        self._unfound[coordinate] = None
        return True

    def end(self, coordinate: Coordinate) -> None:
        """Note that a file is there, or was deleted."""
        self._unsure.pop(coordinate, None)
        self._since.pop(coordinate, None)
        self._missing.pop(coordinate, None)
        self._displaced.pop(coordinate, None)
        self._unfound.pop(coordinate, None)
        self._forget_guise(coordinate)
        self._held.pop(coordinate, None)
        self._odd.pop(coordinate, None)
        self._confirmed.pop(coordinate, None)

    def give_up(self, coordinate: Coordinate, now: float) -> None:
        """Note that a file is left alone from now on: what it was renamed to had its time."""
        if coordinate in self._since and (
            coordinate not in self._missing or self.is_due(coordinate, now)
        ):
            self.end(coordinate)

    def doubt(self, coordinate: Coordinate) -> None:
        """Note that it cannot be told now whether a file is gone: it is not for as long as that. If
        it is, it is what it seemed to be."""
        is_unsure, guise = coordinate in self._unsure, self.guise(coordinate)
        if coordinate not in self._held:
            self.end(coordinate)
            if guise is not None:
                self.see(coordinate, guise)
        if is_unsure:
            self._unsure[coordinate] = None

    def is_due(self, coordinate: Coordinate, now: float) -> bool:
        """Whether a file has been gone for long enough to count."""
        return now - self._since.setdefault(coordinate, now) >= GRACE_S

    def is_open(self, coordinate: Coordinate) -> bool:
        """Whether it is settled by itself what became of a file that is gone."""
        return coordinate not in self._held and coordinate not in self._odd

    def seems_renamed(self, coordinate: Coordinate, path: str) -> bool:
        """Note that a file that is gone seems to be the one at `path`; False when another is."""
        return self._renamed.setdefault(coordinate, path) == path

    def see(self, coordinate: Coordinate, guise: Guise) -> None:
        """Note what a file that is gone seems to be: it may change further until that counts."""
        self._forget_guise(coordinate)
        self._guises[coordinate] = guise
        self._seen_at[guise.path] = coordinate

    def seen_at(self, path: str) -> Coordinate | None:
        """Return the scroll of the file that seemed to be the one at a path."""
        return self._seen_at.get(path)

    def _forget_guise(self, coordinate: Coordinate) -> None:
        guise = self._guises.pop(coordinate, None)
        if guise is not None and self._seen_at.get(guise.path) == coordinate:
            del self._seen_at[guise.path]

    def forget_guises(self) -> None:
        """Forget what files seemed to be that are not gone."""
        for coordinate in [c for c in self._guises if c not in self._since]:
            self._forget_guise(coordinate)

    @property
    def guises(self) -> Mapping[Coordinate, Guise]:
        """What files that are gone seemed to be last."""
        return {c: guise for c, guise in self._guises.items() if c in self._since}

    def guise(self, coordinate: Coordinate) -> Guise | None:
        """Return what a file that is gone seemed to be last, None when nothing did."""
        return self._guises.get(coordinate)

    def keep_odd(self, coordinate: Coordinate, path: str) -> None:
        """Note that a file that is gone has a name now that cannot be kept: it is not deleted."""
        if self.seems_renamed(coordinate, path):
            self._odd[coordinate] = None
            self.wait(path, coordinate)

    def confirm(self) -> None:
        """Let everything be deleted that is gone now."""
        self._confirmed = {c: None for c in self._since if c not in self._odd}
        self._is_newly_confirmed = bool(self._confirmed)

    def doomed(self, gone: Iterable[Coordinate], files: int, now: float) -> list[Coordinate]:
        """Return which of the files that have been `gone` for long enough are to be deleted;
        `files` is how many there are with those that are gone."""
        for coordinate in self._confirmed:
            self._held.pop(coordinate, None)
        if self._are_too_many(files, now):
            self._held.update(dict.fromkeys(self._unsettled()))
        doomed = [c for c in gone if c not in self._held and c not in self._renamed]
        if unasked := sum(c not in self._confirmed for c in doomed):
            self._deleted.append((now, unasked))
        return doomed

    def _unsettled(self) -> Iterator[Coordinate]:
        """Give the files that are gone, and not as somebody said or since they were renamed."""
        settled = self._held, self._renamed, self._confirmed
        return (c for c in self._since if not any(c in some for some in settled))

    def _are_too_many(self, files: int, now: float) -> bool:
        while self._deleted and now - self._deleted[0][0] > GUARD_S:
            self._deleted.popleft()
        lately = sum(count for _, count in self._deleted)
        waiting = sum(1 for _ in self._unsettled())
        total = files + lately - len(self._held)
        return total >= GUARD_NAMES and 2 * (lately + waiting) > total

    def next_due(self, now: float) -> float | None:
        """Return when the next file has been gone for long enough, or a path has waited; now when
        deletions were confirmed."""
        waited_for = (*self._paths.values(), *self._held_up.values())
        ended = any(coordinate not in self._since for coordinate in waited_for)
        if ended or self._is_newly_confirmed:
            return now
        waiting = (since for c, since in self._since.items() if self.is_open(c))
        due = min(waiting, default=None)
        return None if due is None else due + GRACE_S
