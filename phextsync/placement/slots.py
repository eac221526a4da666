"""Slots: which members hold which slots, each about its share.

Rendezvous hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018): who has an eighth
more than its share is passed by. A quarter, as there, leaves one member of 500 with 1.5 times the
mean, an eighth with 1.36, and both move about as much when somebody comes.
"""

from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from heapq import nlargest
from typing import Final

from phextsync.placement.draws import Drawer, Drawing, columns

_SLACK: Final = (9, 8)  # of its share a member takes at most
_SLOTS_PER_MEMBER: Final = 2
_MORE_RANKED: Final = 16  # members beyond the copies whose order is kept for each slot
_KEPT: Final = 4  # placements of all slots, 2 MB each among 5,000 members


def slots_for(members: int, at_least: int = 0) -> int:
    """Return how many slots there are: a power of two, and at least twice the members."""
    count = 1
    while count < max(_SLOTS_PER_MEMBER * members, at_least):
        count *= 2
    return count


def share(weight: int, total: int, places: int) -> int:
    """Return how many of `places` places a member takes at most."""
    above, below = _SLACK
    return -(-above * places * weight // (below * total))


class Slots:
    """Which of the members hold which of `slots` slots of a phext, by their places in `members`.
    Made in time in proportion to slots times members.

    Slots choose in their order, older levels first; all choose a first holder, then all a second.
    One that finds nobody with room among its next members takes the first of these.
    """

    def __init__(self, members: Sequence[Drawing], phext: str, slots: int, copies: int) -> None:
        self._members = members
        self._phext = phext
        self._count = slots
        copies = min(copies, len(members))
        ranked: dict[int, list[int]] = {}
        everybody = range(len(members))
        for slot, drawn in columns(members, phext, slots):
            ranked[slot] = nlargest(copies + _MORE_RANKED, everybody, key=drawn.__getitem__)
        total = sum(member.weight for member in members)
        room = [share(member.weight, total, slots * copies) for member in members]
        chosen: dict[int, list[int]] = {slot: [] for slot in ranked}
        for _ in range(copies):
            for slot, candidates in ranked.items():
                left = [number for number in candidates if number not in chosen[slot]]
                holder = next((number for number in left if room[number] > 0), left[0])
                chosen[slot].append(holder)
                room[holder] -= 1
        self._first = [array("H", ranked[slot]) for slot in range(slots)]
        self.holders = tuple(tuple(chosen[slot]) for slot in range(slots))
        """The holders of each slot, the first in rank first."""

    def order(self, slot: int) -> Iterator[int]:
        """Iterate over all members in the order in which they come for a slot: its holders, then
        others by rank. The first of these cost nothing."""
        holders, first = self.holders[slot], self._first[slot]
        yield from holders
        yield from (number for number in first if number not in holders)
        if len(first) < len(self._members):
            known = {*holders, *first}
            ranked = rank(self._members, self._phext, self._count, slot)
            yield from (number for number in ranked if number not in known)


@lru_cache(maxsize=_KEPT)
def slots_of(members: tuple[Drawer, ...], phext: str, slots: int, copies: int) -> Slots:
    """Return which of the members hold which slots. What was asked for last is kept. From any
    thread."""
    return Slots(members, phext, slots, copies)


def rank(members: Sequence[Drawing], phext: str, slots: int, slot: int) -> list[int]:
    """Return all members in the order in which they come for one slot."""
    for index, drawn in columns(members, phext, slots):
        if index == slot:
            return sorted(range(len(members)), key=drawn.__getitem__, reverse=True)
    raise IndexError(slot)
