"""Following: what this node holds is kept as placement says, for the phexts that it follows.

Where nobody has placed anything, nothing runs and nothing is written. Where somebody has, this node
has its line in the table of members.
"""

from contextlib import suppress
from typing import Final, Protocol

import trio

from phextsync.boundaries import Boundary
from phextsync.control.desk import Directories
from phextsync.control.placing import (
    PLACEMENT,
    is_placed,
    join,
    member_of,
    placement_of,
    problems_of,
)
from phextsync.errors import PermissionDeniedError, PhextsyncError
from phextsync.index import EVERYTHING, Coordinate
from phextsync.placement.holders import Placement
from phextsync.placement.members import Member
from phextsync.ranges import Ranges
from phextsync.replica.holding import WANTED_MAX
from phextsync.replica.listener import ReplicaListener
from phextsync.replica.replicas import ReplicaSet
from phextsync.signals import Flag
from phextsync.trust.identity import NodeIdentity

_SETTLE_S: Final = 2.0  # what is placed together is followed together
_FEW: Final = 50  # members among whom it takes a few milliseconds
_PAUSE_SHARE: Final = 9  # computing takes at most a tenth of the time, whoever changes what


class Placed(Protocol):
    """What following needs of the node."""

    @property
    def replicas(self) -> ReplicaSet: ...

    @property
    def identity(self) -> NodeIdentity: ...

    @property
    def directories(self) -> Directories | None: ...


class Following:
    """Follows placement for a node. `warnings`: what cannot be read, done or followed of what was
    placed, a line each."""

    def __init__(self, node: Placed, boundary: Boundary) -> None:
        self.warnings: tuple[str, ...] = ()
        self._node = node
        self._replicas = replicas = node.replicas
        self._boundary = boundary
        self._changed = Flag()
        self._placements: dict[str, Placement] = {}  # as they were followed last
        self._whose, replicas.holding.whose = replicas.holding.whose, self._whose_by_placement
        replicas.listen(ReplicaListener(on_open=self._opened, on_held=self._held))
        if is_placed(replicas):
            self._opened(PLACEMENT)

    def _opened(self, phext: str) -> None:
        if phext == PLACEMENT:
            self._replicas.open(PLACEMENT).subscribe(lambda _: self._changed.set())
            self._changed.set()

    def _held(self, phext: str) -> None:
        if self._replicas.holding.hold(phext).follows:
            self._changed.set()

    def _whose_by_placement(self, phext: str, at: Coordinate) -> str:
        """Say who has a scroll that is not held here, linked or not."""
        said, placement = self._whose(phext, at), self._placements.get(phext)
        if placement is None or placement.is_everywhere:
            return said
        names = ", ".join(member.name for member in placement.holders(at))
        return f"{said}; it is placed on {names}"

    async def run(self) -> None:
        """Follow until cancelled."""
        took_s = 0.0
        while True:
            await self._changed.wait()
            await trio.sleep(max(_SETTLE_S, _PAUSE_SHARE * took_s))
            self._changed.lower()
            began_s = trio.current_time()
            with self._boundary.around("following placement"):
                await self.follow()
            took_s = trio.current_time() - began_s

    async def follow(self) -> None:
        """Hold what placement says now."""
        if not is_placed(self._replicas):
            return
        identity, holding = self._node.identity, self._replicas.holding
        known = member_of(self._replicas, identity.node_id)
        since_ms = self._replicas.author.now_ms() if known is None else known.since_ms
        weight = 1 if known is None else known.weight
        with suppress(PermissionDeniedError):  # one that may not write there is no member
            me = identity.node_id, identity.name
            join(self._replicas, Member(*me, weight, since_ms, permissions=identity.permissions))
        self._placements = {}
        followed = [phext for phext in holding.phexts() if holding.hold(phext).follows]
        problems = [await self._follow(phext, identity.node_id) for phext in followed]
        self.warnings = (*filter(None, problems), *problems_of(self._replicas))

    async def _follow(self, phext: str, node_id: bytes) -> str:
        """Hold what placement says of a phext; return what is in the way of that, or nothing."""
        placement = self._placements[phext] = placement_of(self._replicas, phext)
        ranges: Ranges = (EVERYTHING,)
        if node_id in placement.node_ids:
            if len(placement.members) > _FEW:
                ranges = await trio.to_thread.run_sync(placement.of, node_id)
            else:
                ranges = placement.of(node_id)
        problem = ""
        if len(ranges) > WANTED_MAX:
            count, ranges = len(ranges), (EVERYTHING,)
            problem = (
                f"{phext}: all is held, since {count} ranges are placed here, over {WANTED_MAX}"
            )
        try:
            if self._node.directories is not None:
                self._node.directories.check_unbound(phext, ranges)
            copies = placement.policy.copies
            self._replicas.hold(phext, ranges, copies=copies, follows=True)
        except PhextsyncError as error:
            problem = f"placement is not followed: {error}"
        return problem
