"""Holding: which ranges of which phexts a node holds, and what becomes of those that it gives up.

A range that is given up is `leaving`: held as before, until others that hold it have it on their
disks (`sync.leaving` finds out). Then it is `dropping`: no longer held, and its scrolls leave the
store with the next batches. That is a deletion for nobody. Without a setting all is held, and
nothing is noted or computed. A node whose store ends with it holds nothing but what is the
library's own: so nobody counts on it, and all that it reads and writes are guests.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import cbor2

from phextsync.errors import NotHeldError, PhextsyncError, StoreError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange, contains
from phextsync.phext_names import is_phext_name, is_reserved
from phextsync.ranges import Ranges, holds, intersection, union, without
from phextsync.replica.durability import Durability
from phextsync.replica.guests import Guests

RANGES_MAX: Final = 64
"""Ranges of a phext that a node may say it holds."""
WANTED_MAX: Final = 24
"""Ranges of a phext that may be asked for: what leaves lies between them. Room is left for ranges
that leave in parts."""

_KEY: Final = b"h"
_WHOLE: Final = (EVERYTHING,)


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held of one phext. `wanted`: what was asked for. `leaving`: held until `copies`
    others have it (None: all that hold it and are linked). `dropping`: about to be gone, even
    where it is wanted again by now. `follows`: what is wanted is what placement says."""

    wanted: Ranges = _WHOLE
    leaving: Ranges = ()
    dropping: Ranges = ()
    copies: int | None = None
    follows: bool = False

    @property
    def firm(self) -> Ranges:
        """What is held and stays."""
        return without(self.wanted, self.dropping)

    @property
    def held(self) -> Ranges:
        """What is held, whether or not it stays."""
        return union(self.firm, self.leaving)

    @property
    def ranges(self) -> int:
        """How many ranges `held` has at most, until nothing is dropping any more: a part of what is
        wanted that is dropping may split one range in two."""
        split = intersection(self.wanted, self.dropping)
        return len(union(self.wanted, self.leaving)) + len(split)


_EVERYTHING: Final = Hold()
_NOTHING: Final = Hold(wanted=())


class Holding:
    """What a node holds of each phext, and which `guests` are here besides. `changed` is called
    with the name of a phext of which it holds something else now. `whose` tells who else holds a
    coordinate, for an error. Of a node that `is_fleeting` what is stored ends with it."""

    def __init__(
        self, durability: Durability, guests: Guests, changed: Callable[[str], None]
    ) -> None:
        self.guests = guests
        self.is_fleeting = durability.is_fleeting
        self.whose: Callable[[str, Coordinate], str] = lambda _phext, _at: "no node runs here"
        self._durability = durability
        self._changed = changed
        rows = [(key[len(_KEY) :].decode(), note) for key, note in durability.notes(_KEY)]
        self._holds = {phext: _decoded(phext, note) for phext, note in rows}
        self._held = {phext: hold.held for phext, hold in self._holds.items()}
        self.is_everything = not self._holds and not self.is_fleeting
        """Whether all of every phext is held. Each update asks for it, so it is no property."""

    # -- what is held ----------------------------------------------------------------------

    def phexts(self) -> list[str]:
        """Return the names of the phexts of which not all is held, or not for ever, sorted."""
        return sorted(self._holds)

    def apart(self) -> tuple[str, ...]:
        """Return the names of the phexts of which people said what is held, sorted."""
        holds = self._holds.items()
        return tuple(sorted(p for p, h in holds if not h.follows and h.wanted != _WHOLE))

    def hold(self, phext: str) -> Hold:
        """Return what is held of a phext, and what becomes of it."""
        return self._holds.get(phext) or self._default(phext)

    def of(self, phext: str) -> Ranges:
        """Return the ranges of a phext that are held."""
        held = self._held.get(phext)
        return self._default(phext).wanted if held is None else held

    def _default(self, phext: str) -> Hold:
        """Return what is held of a phext of which nothing is said."""
        return _NOTHING if self.is_fleeting and not is_reserved(phext) else _EVERYTHING

    def is_held(self, phext: str, coordinate: Coordinate) -> bool:
        """Whether this node holds the scroll. From any thread."""
        return self.is_everything or contains(self.of(phext), coordinate)

    def holds(self, phext: str, range_: CoordinateRange) -> bool:
        """Whether this node holds all of a range."""
        return self.is_everything or holds(self.of(phext), range_)

    def is_current(self, phext: str, coordinate: Coordinate) -> bool:
        """Whether what is here of a scroll is as current as it can be: it is held, or a guest of
        whose changes we are told. From any thread."""
        return self.is_held(phext, coordinate) or self.guests.is_fresh((phext, coordinate))

    def admit(self, phext: str, coordinate: Coordinate, host: int | None = None) -> None:
        """Let a scroll be a guest, told of over the link `host`, unless it is held by now."""
        if not self.is_held(phext, coordinate):
            self.guests.admit((phext, coordinate), host)

    def is_leaving(self, phext: str, coordinate: Coordinate) -> bool:
        """Whether the scroll is about to be gone from here, if it is here."""
        return not self.is_everything and contains(self.hold(phext).dropping, coordinate)

    def check(self, phext: str, coordinate: Coordinate) -> None:
        """NotHeldError where this node does not hold the scroll."""
        if not self.is_held(phext, coordinate):
            raise self._not_held(phext, str(coordinate), self.whose(phext, coordinate))

    def check_here(self, phext: str, coordinate: Coordinate) -> None:
        """NotHeldError where this node neither holds the scroll nor has it as a guest."""
        if not self.is_everything and (phext, coordinate) not in self.guests:
            self.check(phext, coordinate)

    def check_some(self, phext: str, range_: CoordinateRange) -> None:
        """NotHeldError where this node holds nothing of a range."""
        if not intersection((range_,), self.of(phext)):
            raise self._not_held(phext, str(range_), "nothing of it is here")

    def missing(self, phext: str, range_: CoordinateRange) -> tuple[str, ...]:
        """Say which parts of a range this node does not hold, and who does, a line each."""
        if self.holds(phext, range_):
            return ()
        parts = without((range_,), self.of(phext))
        return tuple(str(self._not_held(phext, str(p), self.whose(phext, p.lower))) for p in parts)

    def check_whole(self, phext: str, range_: CoordinateRange) -> None:
        """NotHeldError where this node does not hold all of a range."""
        if missing := self.missing(phext, range_):
            raise NotHeldError("; ".join(missing))

    def _not_held(self, phext: str, what: str, why: str) -> NotHeldError:
        held = ", ".join(map(str, self.of(phext))) or "nothing"
        return NotHeldError(f"{phext} {what} is not held here, where {held} is: {why}")

    # -- changes ---------------------------------------------------------------------------

    def want(
        self,
        phext: str,
        ranges: Iterable[CoordinateRange],
        copies: int | None,
        follows: bool,
        has_scrolls: Callable[[CoordinateRange], bool],
    ) -> None:
        """Hold these ranges of a phext and, in time, no others. A range without scrolls leaves at
        once. PhextsyncError for a phext, ranges or copies that cannot be, and for more ranges, with
        those that have not left yet, than can be told."""
        self._check_lasting()
        wanted = union(ranges)
        if not is_phext_name(phext) or is_reserved(phext):
            raise PhextsyncError(f"expected a phext of your own, found {phext!r:.60}")
        if len(wanted) > WANTED_MAX:
            raise PhextsyncError(f"expected at most {WANTED_MAX} ranges, found {len(wanted)}")
        if copies is not None and copies < 1:
            raise PhextsyncError(f"expected at least 1 copy elsewhere, found {copies}")
        before = self.hold(phext)
        leaving = tuple(filter(has_scrolls, without(before.held, wanted)))
        after = Hold(wanted, leaving, before.dropping, copies, follows)
        if after.ranges > RANGES_MAX:
            raise PhextsyncError(
                f"expected at most {RANGES_MAX} ranges with those that have not left yet, found "
                f"{after.ranges}: wait until more have left, or hold more"
            )
        self._set(phext, after)

    def follow(self, phext: str) -> None:
        """Let what is wanted of a phext be what placement says, from now on."""
        self._check_lasting()
        self._set(phext, replace(self.hold(phext), follows=True))

    def _check_lasting(self) -> None:
        if self.is_fleeting:
            raise PhextsyncError(
                "expected a node with a disk, found one that keeps scrolls in memory: it holds "
                "nothing, since nobody could count on it"
            )

    def drop(self, phext: str, ranges: Iterable[CoordinateRange]) -> bool:
        """Others have ranges that leave: hold them no longer, but for those with which more ranges
        would be held than can be told. Return whether any was dropped."""
        before = after = self.hold(phext)
        for range_ in ranges:
            leaving, dropping = without(after.leaving, (range_,)), union((*after.dropping, range_))
            dropped = replace(after, leaving=leaving, dropping=dropping)
            if dropped.ranges <= RANGES_MAX:
                after = dropped
        self._set(phext, after)
        return after != before

    def drop_guests(self, phext: str, coordinates: Iterable[Coordinate]) -> None:
        """Let guests go, as what was held and is dropped."""
        before = self.hold(phext)
        for coordinate in (places := list(coordinates)):
            self.guests.forget((phext, coordinate))
        ranges = map(CoordinateRange.of, places)
        self._set(phext, replace(before, dropping=union(before.dropping, ranges)))

    def dropped(self, phext: str, range_: CoordinateRange) -> None:
        """Nothing is here any more of a range that was dropped."""
        before = self.hold(phext)
        self._set(phext, replace(before, dropping=without(before.dropping, (range_,))))

    def _set(self, phext: str, hold: Hold) -> None:
        before = self.hold(phext)
        if hold == before:
            return
        if hold.wanted == _WHOLE and not hold.dropping and not hold.follows:
            self._holds.pop(phext, None)
            self._held.pop(phext, None)
            self._durability.note(_KEY + phext.encode(), b"")
        else:
            self._holds[phext] = hold
            self._held[phext] = hold.held
            self._durability.note(_KEY + phext.encode(), _encoded(hold))
        self.is_everything = not self._holds and not self.is_fleeting
        if self.guests:
            self.guests.keep_outside(phext, self.of(phext))
        self._changed(phext)


def _encoded(hold: Hold) -> bytes:
    ranges = [
        [[*range_.to_keys()] for range_ in part]
        for part in (hold.wanted, hold.leaving, hold.dropping)
    ]
    return cbor2.dumps([*ranges, hold.copies, hold.follows])


def _decoded(phext: str, note: bytes) -> Hold:
    """Return what a note says. StoreError when that is nothing that this version writes."""
    try:
        *parts, copies, follows = cbor2.loads(note)
        wanted, leaving, dropping = (tuple(map(_range, part)) for part in parts)
    except (ValueError, TypeError, cbor2.CBORDecodeError) as error:
        raise StoreError(
            f"expected what is held of {phext!r}, found {note!r:.60}: another version of phextsync "
            "has noted it"
        ) from error
    return Hold(wanted, leaving, dropping, copies, follows)


def _range(bounds: list[bytes]) -> CoordinateRange:
    lower, upper = bounds
    end = None if upper is None else Coordinate.from_key(upper)
    return CoordinateRange(Coordinate.from_key(lower), end)
