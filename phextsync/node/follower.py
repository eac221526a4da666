"""Follower: what a node holds of the phexts that it follows, as placement says. No IO, no clock.

Where nobody has placed anything nothing is written or computed. Where somebody has, this node has
its line in the table of members.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from phextsync.control.placing import (
    PLACEMENT,
    is_placed,
    join,
    member_of,
    members_of,
    placement_of,
    policies_of,
)
from phextsync.errors import PermissionDeniedError, PhextsyncError, StoreFullError
from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.node.growth import Growth
from phextsync.node.overlay import Pair
from phextsync.node.pace import Pace
from phextsync.node.witness import Witness
from phextsync.placement.holders import Placement
from phextsync.placement.members import APART_MAX, Member
from phextsync.placement.policy import Policy
from phextsync.ranges import Ranges, without
from phextsync.replica.holding import WANTED_MAX
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.replicas import ReplicaSet

FOLLOW_S: Final = 2.0
"""What is placed together, within this time, is followed together."""

GROW_S: Final = 30.0
"""Between two looks at ranges that may have grown."""

_FEW: Final = 8  # members, of whom nobody need choose links
_LOOKS_MAX: Final = 5  # at members that come and go all the time

ReadPlacement: TypeAlias = Callable[[ReplicaSet, str, Mapping[bytes, Member] | None], Placement]
"""Returns what `placement_of` does."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A phext that is placed or followed, and how it is placed now."""

    phext: str
    placement: Placement
    node_id: bytes
    has_left: bool

    def ranges(self) -> Ranges:
        """Return what this node is to hold: all of it as long as it is no member yet, nothing
        where it has left. From any thread; takes seconds among thousands of members."""
        if self.node_id in self.placement.node_ids:
            return self.placement.of(self.node_id)
        return () if self.has_left else (EVERYTHING,)


class Follower:
    """Follows placement for a node. `placements`: what is placed, as it was looked at last, by
    phext. `pace` says what is taken when; without one all that comes is taken at once. `changed` is
    called when it has to be looked at again, and `check_unbound` before anything is given up:
    PhextsyncError keeps it here. `warnings`: what cannot be read, done or followed of what was
    placed, a line each."""

    def __init__(
        self,
        replicas: ReplicaSet,
        *,
        name: str,
        changed: Callable[[], None],
        check_unbound: Callable[[str, Ranges], None] = lambda _phext, _ranges: None,
        read: ReadPlacement = placement_of,
        pace: Pace | None = None,
    ) -> None:
        self.warnings: tuple[str, ...] = ()
        self._replicas = replicas
        self._name = name
        self._changed = changed
        self._check_unbound = check_unbound
        self._read = read
        self.placements: dict[str, Placement] = {}
        self.shared: Mapping[Pair, int] = {}
        """How many slots pairs of members both hold, of all placed phexts; the same object as long
        as nothing was placed otherwise."""
        self._members: frozenset[bytes] = frozenset()  # those of the last look
        self._looks = 0  # at members that were not those of the look before
        self._pace = pace
        self._wanted: dict[str, tuple[Ranges, int | None]] = {}
        self._is_holding = False
        self._problems: list[str] = []
        self._unfit: tuple[str, ...] = ()  # what cannot be read or done of what was placed
        self._witness = Witness(replicas)
        self._growth = Growth(replicas)
        self._grows_at = -math.inf
        self._whose, replicas.holding.whose = replicas.holding.whose, self._whose_by_placement
        replicas.listen(ReplicaListener(on_open=self._opened, on_held=self._held))
        if is_placed(replicas):
            self._opened(PLACEMENT)

    def _opened(self, phext: str) -> None:
        if phext == PLACEMENT:
            self._replicas.open(PLACEMENT).subscribe(lambda _: self._changed())
            self._changed()

    def _held(self, phext: str) -> None:
        if self._is_holding:
            return
        if self._replicas.holding.hold(phext).follows or is_placed(self._replicas):
            self._changed()

    def _whose_by_placement(self, phext: str, at: Coordinate) -> str:
        """Say who has a scroll that is not held here, linked or not."""
        said, placement = self._whose(phext, at), self.placements.get(phext)
        if placement is None or placement.is_everywhere:
            return said
        names = ", ".join(member.name for member in placement.holders(at))
        return f"{said}; it is placed on {names}"

    def holders(self, phext: str, at: Coordinate) -> list[Member]:
        """Return on which others a scroll is placed, those first that come first; nothing where
        nobody has placed anything."""
        if not is_placed(self._replicas):
            return []
        placement = self.placements.get(phext) or self._read(self._replicas, phext, None)
        return [m for m in placement.holders(at) if m.node_id != self._replicas.node_id]

    def begin(self) -> list[Turn]:
        """Join the members, and return what is placed or followed: each turn is to be taken. Where
        nothing is placed, all is held of what is followed."""
        replicas, holding = self._replicas, self._replicas.holding
        followed = [phext for phext in holding.phexts() if holding.hold(phext).follows]
        self._problems = []
        if not is_placed(replicas):
            none = Placement({}, Policy())
            return [Turn(phext, none, replicas.node_id, False) for phext in followed]
        has_left = not self._join()
        (members, unread), (policies, unplaced) = members_of(replicas), policies_of(replicas)
        self._witness.read(members, [each.repair_after_s for each in policies if each.copies])
        phexts = sorted({*followed, *(policy.phext for policy in policies)})
        placements = {phext: self._read(replicas, phext, members) for phext in phexts}
        self.placements = {p: each for p, each in placements.items() if each.policy.copies}
        impossible = (
            f"policy of {phext}: {line}"
            for phext, placement in placements.items()
            for line in placement.problems()
        )
        self._unfit = (*unread, *unplaced, *impossible)
        return [
            Turn(phext, placement, replicas.node_id, has_left)
            for phext, placement in placements.items()
            if phext in followed or phext in self.placements
        ]

    def _join(self) -> bool:
        """Be a member, unless this node has left; say whether it has not."""
        replicas, node_id = self._replicas, self._replicas.node_id
        known = member_of(replicas, node_id)
        if known is not None and known.has_left:
            return False
        since_ms = replicas.author.now_ms() if known is None else known.since_ms
        weight = 1 if known is None else known.weight
        apart = replicas.holding.apart()[:APART_MAX]
        me = Member(node_id, self._name, weight, since_ms, False, replicas.permissions, apart)
        try:
            join(replicas, me)
        except PermissionDeniedError:
            pass  # one that may not write there is no member
        except StoreFullError as error:
            self._problems.append(f"this node is no member yet: {error}")
            self._changed()  # nothing else may ever change
        return True

    def look(self, now: float, heard: Mapping[bytes, float]) -> None:
        """It is `now`, and the members in `heard` are there: of each the time of its last word.
        To be called every few seconds where something is placed."""
        with suppress(PermissionDeniedError):
            self._witness.look(now, heard)
            if now >= self._grows_at:
                self._grows_at = now + GROW_S
                for placement in self.placements.values():
                    self._growth.look(placement, heard.__contains__)

    def take(self, turn: Turn, ranges: Ranges) -> None:
        """Hold the ranges of a turn, if the phext is followed, or say in the warnings what is in
        the way."""
        phext = turn.phext
        if not self._replicas.holding.hold(phext).follows:
            return
        if len(ranges) > WANTED_MAX:
            count, ranges = len(ranges), (EVERYTHING,)
            self._problems.append(
                f"{phext}: all is held, since {count} ranges are placed here, over {WANTED_MAX}"
            )
        self._wanted[phext] = ranges, turn.placement.policy.copies
        if self._pace is not None:
            self._pace.plan(phext, self._coming(turn, ranges), turn.placement.policy.rate)
            self.move_on()
        self._hold(phext)

    def _coming(self, turn: Turn, ranges: Ranges) -> list[CoordinateRange]:
        """Return what is to be held of a turn and is not, first what absent members hold."""
        placement = turn.placement
        new = without(ranges, self._replicas.holding.of(turn.phext))
        pieces = [piece for part in new for piece in placement.ranges(part)]
        if placement.absent and not placement.is_everywhere:
            absent = placement.absent
            holders = {piece: placement.holders(piece.lower) for piece in pieces}
            pieces.sort(key=lambda p: not any(m.node_id in absent for m in holders[p]))
        return pieces

    def move_on(self) -> bool:
        """Take more of what is to come, as the pace allows; say whether to go on with that. To be
        called often."""
        if self._pace is None:
            return False
        for phext in dict.fromkeys(self._pace.move_on()):
            self._hold(phext)
        return self._pace.is_waiting

    def _hold(self, phext: str) -> None:
        """Hold what is wanted of a phext and not awaited, as long as it is followed."""
        if not self._replicas.holding.hold(phext).follows:
            return
        wanted, copies = self._wanted[phext]
        awaited = () if self._pace is None else self._pace.awaited(phext)
        ranges = without(wanted, awaited)
        try:
            self._check_unbound(phext, wanted)
            self._is_holding = True
            if len(ranges) > WANTED_MAX:
                ranges = wanted
            self._replicas.hold(phext, ranges, copies=copies, follows=True)
        except PhextsyncError as error:
            self._problems.append(f"placement is not followed: {error}")
        finally:
            self._is_holding = False

    def end(self) -> None:
        """All turns were taken: say who shares what, and what is in the way of what was placed."""
        self._share()
        if is_placed(self._replicas):
            self.warnings = (*self._problems, *self._unfit)

    def _share(self) -> None:
        """Say who shares what, when the members are those of the look before: while many come, each
        node knows others of them, and each would choose another overlay."""
        ids = (placement.node_ids for placement in self.placements.values())
        members = frozenset(node_id for some in ids for node_id in some)
        is_same, self._members = members == self._members, members
        if len(members) > _FEW and not is_same and self._looks < _LOOKS_MAX:
            self._looks += 1
            self._changed()
            return
        self._looks = 0
        shared: Counter[Pair] = Counter()
        for placement in self.placements.values():
            shared.update(placement.shared())
        if shared != self.shared:
            self.shared = shared
