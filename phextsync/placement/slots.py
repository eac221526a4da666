"""Slots: which members hold which slots, each about its share.

Rendezvous hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018): who has an eighth
more than its share is passed by. A quarter, as there, leaves one member of 500 with 1.5 times the
mean, an eighth with 1.36, and both move about as much when somebody comes.
"""

from collections.abc import Sequence
from heapq import nlargest
from typing import Final

from phextsync.placement.draws import columns
from phextsync.placement.members import Member

_SLACK: Final = (9, 8)  # of its share a member takes at most
_SLOTS_PER_MEMBER: Final = 2
_MORE_RANKED: Final = 16  # members beyond the copies whose order is kept for each slot


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


def assign(members: Sequence[Member], phext: str, slots: int, copies: int) -> list[tuple[int, ...]]:
    """Return for each slot which of the members hold it, by their places in `members`, the first
    in rank first. Time in proportion to slots times members.

    Slots choose in their order, older levels first; all choose a first holder, then all a second.
    One that finds nobody with room among its next members takes the first of these.
    """
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
    return [tuple(chosen[slot]) for slot in range(slots)]


def rank(members: Sequence[Member], phext: str, slots: int, slot: int) -> list[int]:
    """Return all members in the order in which they come for one slot."""
    for index, drawn in columns(members, phext, slots):
        if index == slot:
            return sorted(range(len(members)), key=drawn.__getitem__, reverse=True)
    raise IndexError(slot)
