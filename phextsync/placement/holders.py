"""Holders: which members hold which ranges of a phext.

Boundaries cut a phext into ranges. A range belongs to the slot that the digest of its lower bound
names, so that the part below a new boundary stays where it is. Rules come first: the narrowest one
that a coordinate lies in. A member that may not read and write all of a range is passed by, and one
of which people said by hand what it holds, unless the range is pinned to it.

A holder that is absent stays one, and the next in rank hold the range as well until it is back: so
nothing else moves when members go and come.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import combinations, islice
from typing import Final

from phextsync.index import ORIGIN, Coordinate, CoordinateRange
from phextsync.placement.draws import Drawer
from phextsync.placement.members import Member, is_absent
from phextsync.placement.policy import Policy, Rule
from phextsync.placement.slots import Slots, slots_for, slots_of
from phextsync.ranges import Ranges, holds, union

_BOUNDARIES_MIN: Final = 256
_BOUNDARIES_PER_MEMBER: Final = 16  # more than members ever add by themselves


def boundaries_max(members: int) -> int:
    """Return at how many boundaries a phext is cut at most, whoever lists how many."""
    return max(_BOUNDARIES_MIN, _BOUNDARIES_PER_MEMBER * members)


class Placement:
    """Who holds what of one phext. The same members, policy and boundaries give the same holders on
    every machine; without `copies` in the policy everybody holds all, and nothing is computed."""

    def __init__(
        self,
        members: Mapping[bytes, Member],
        policy: Policy,
        boundaries: Sequence[Coordinate] = (),
    ) -> None:
        self.policy = policy
        self.members = tuple(members[node_id] for node_id in sorted(members))
        self._numbers = {member.node_id: i for i, member in enumerate(self.members)}
        self._boundaries = sorted({ORIGIN, *boundaries})
        self._unused = self._boundaries[boundaries_max(len(members)) :]
        del self._boundaries[boundaries_max(len(members)) :]
        rules = {bound for rule in policy.rules for bound in _bounds(rule.range)}
        self._cuts = sorted({*self._boundaries, *rules})
        self.slots = slots_for(len(self.members), policy.slots)
        self._absent = {
            number
            for number, member in enumerate(self.members)
            if is_absent(member, members, len(self.members), policy.repair_after_s)
        }
        self._known: Slots | None = None

    @property
    def node_ids(self) -> tuple[bytes, ...]:
        """The node ids of the members, sorted."""
        return tuple(self._numbers)

    @property
    def copies(self) -> int:
        """How many members are to hold each range."""
        return len(self.members) if self.policy.copies is None else self.policy.copies

    @property
    def absent(self) -> frozenset[bytes]:
        """The members that count as absent."""
        return frozenset(self.members[number].node_id for number in self._absent)

    @property
    def is_everywhere(self) -> bool:
        """Whether everybody holds all."""
        return self.policy.copies is None or not self.members

    def ranges(self, within: CoordinateRange) -> Iterator[CoordinateRange]:
        """Iterate in order over the ranges that have holders of their own, as far as they lie in
        one."""
        first = bisect_right(self._cuts, within.lower) - 1
        for i in range(max(first, 0), len(self._cuts)):
            upper = self._cuts[i + 1] if i + 1 < len(self._cuts) else None
            both = CoordinateRange(self._cuts[i], upper).intersect(within)
            if both is None:
                break
            yield both

    def holders(self, at: Coordinate) -> tuple[Member, ...]:
        """Return who holds a coordinate, and so the range of `ranges` that it lies in: pinned ones
        first, then by rank, then those that hold it for absent ones."""
        rule = self._rule(at)
        if self.is_everywhere or (rule is not None and rule.everywhere):
            return self.members
        piece = next(self.ranges(CoordinateRange(at, None)))
        pinned = () if rule is None else rule.pinned
        named = [self._numbers[node_id] for node_id in pinned if node_id in self._numbers]
        numbers = [number for number in named if self._may_hold(number, piece)]
        wanted = max(self.policy.copies or 0, len(numbers))
        others = (number for number in self._ranked(at, piece) if number not in named)
        numbers += islice(others, wanted - len(numbers))
        present = (number for number in others if number not in self._absent)
        numbers += islice(present, sum(number in self._absent for number in numbers))
        return tuple(self.members[number] for number in numbers)

    def of(self, node_id: bytes) -> Ranges:
        """Return the ranges that a member holds."""
        return union(
            range_
            for range_ in self.ranges(CoordinateRange())
            if any(member.node_id == node_id for member in self.holders(range_.lower))
        )

    def shared(self) -> Counter[tuple[bytes, bytes]]:
        """Return how many slots each two members both hold, the smaller node id first."""
        ids = tuple(member.node_id for member in self.members)
        found: Counter[tuple[bytes, bytes]] = Counter()
        for numbers in () if self.is_everywhere else self._assigned().holders:
            found.update(combinations([ids[number] for number in sorted(numbers)], 2))
        return found

    def problems(self) -> list[str]:
        """Return what the policy asks for that cannot be, a line each."""
        found = [
            f"{rule.range} is pinned to {node_id.hex()}, which is no member"
            for rule in self.policy.rules
            for node_id in rule.pinned
            if node_id not in self._numbers
        ]
        copies = self.policy.copies or 0
        if copies > len(self.members):
            found.append(f"expected at least {copies} members, found {len(self.members)}")
        if self._unused:
            count, most = len(self._boundaries) + len(self._unused), len(self._boundaries)
            found.append(f"expected at most {most} ranges, found {count}: the last are one")
        return found

    # -- inside ----------------------------------------------------------------------------

    def _rule(self, at: Coordinate) -> Rule | None:
        """Return the narrowest rule that a coordinate lies in: of several that overlap, one of
        those that begin last. Time in proportion to the rules."""
        rules = [rule for rule in self.policy.rules if at in rule.range]
        if not rules:
            return None
        lower = max(rule.range.lower for rule in rules)
        last = [rule for rule in rules if rule.range.lower == lower]
        return min(last, key=lambda rule: _upper_key(rule.range))

    def _ranked(self, at: Coordinate, piece: CoordinateRange) -> Iterator[int]:
        """Iterate over the members that may hold a range from a coordinate on, in the order in
        which they come for its slot."""
        order = self._assigned().order(self._slot(at))
        phext = self.policy.phext
        for number in order:
            if phext not in self.members[number].apart and self._may_hold(number, piece):
                yield number

    def _assigned(self) -> Slots:
        if self._known is None:
            drawers = tuple(Drawer(each.node_id, each.weight) for each in self.members)
            copies = self.policy.copies or 1
            self._known = slots_of(drawers, self.policy.phext, self.slots, copies)
        return self._known

    def _slot(self, at: Coordinate) -> int:
        """Return the slot of the range between boundaries that a coordinate lies in: the upper bits
        of a digest, so that it stays the same fraction when there are more slots."""
        lower = self._boundaries[bisect_right(self._boundaries, at) - 1]
        seed = self.policy.phext.encode() + b"\0" + lower.key
        digest = int.from_bytes(blake2b(seed, digest_size=8).digest())
        return digest * self.slots >> 64

    def _may_hold(self, number: int, range_: CoordinateRange) -> bool:
        permissions = self.members[number].permissions
        return permissions.is_everything or holds(permissions.writable(self.policy.phext), range_)


def _upper_key(range_: CoordinateRange) -> tuple[bool, bytes]:
    upper = range_.to_keys()[1]
    return upper is None, upper or b""


def _bounds(range_: CoordinateRange) -> Iterator[Coordinate]:
    yield range_.lower
    if range_.upper is not None:
        yield range_.upper
