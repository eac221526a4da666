"""Following: what this node holds is kept as placement says, for the phexts that it follows."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, Protocol

import trio

from phextsync.boundaries import Boundary
from phextsync.control.desk import Directories
from phextsync.control.placing import is_placed
from phextsync.control.status import PlacedRow
from phextsync.index import Coordinate, CoordinateRange
from phextsync.node.copies import about_bytes, is_taken, placed_row
from phextsync.node.errands import Errands
from phextsync.node.follower import FOLLOW_S, Follower
from phextsync.node.overlay import Pair
from phextsync.node.pace import Pace
from phextsync.placement.members import Member
from phextsync.ranges import Ranges
from phextsync.replica.replicas import ReplicaSet
from phextsync.signals import Flag
from phextsync.sync.synchronizer import Synchronizer
from phextsync.trust.identity import NodeIdentity

LOOK_S: Final = 5.0
"""Between two looks at who is there, where something is placed."""

ALONE_S: Final = 10.0
"""After a start, until what is followed is held where nothing is placed."""

MOVE_ON_S: Final = 0.5
"""Between two looks at what comes."""

ERRANDS_S: Final = 2.0
"""Between two looks at whom to be linked with for a while."""

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

    @property
    def core(self) -> Synchronizer: ...


class Following:
    """Lets a follower look when something has changed, computing in another thread where that
    takes long. `ask_for` is called with nodes to be linked with for so many seconds."""

    def __init__(
        self,
        node: Placed,
        boundary: Boundary,
        ask_for: Callable[[Iterable[bytes], float], None],
    ) -> None:
        self._node = node
        self._ask_for = ask_for
        self._errands = Errands(node.core)
        self._boundary = boundary
        self._changed = Flag()
        self._begun = trio.Event()  # when something is placed
        self._coming = Flag()
        bytes_of = partial(about_bytes, node.replicas)
        self._pace = Pace(trio.current_time, partial(is_taken, node.core, self.holders), bytes_of)
        self._follower = Follower(
            node.replicas,
            pace=self._pace,
            name=node.identity.name,
            changed=self._changed.set,
            check_unbound=self._check_unbound,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What cannot be read, done or followed of what was placed, a line each."""
        return self._follower.warnings

    def rows(self) -> tuple[PlacedRow, ...]:
        """Return how many copies there are of each placed phext, by name."""
        core = self._node.core
        here = {core.node_id, *core.presence.heard()}
        return tuple(
            placed_row(placement, core, here, self._pace.taking(phext))
            for phext, placement in sorted(self._follower.placements.items())
        )

    def holders(self, phext: str, at: Coordinate) -> list[Member]:
        """Return on which others a scroll is placed, those first that come first."""
        return self._follower.holders(phext, at)

    def pieces(self, phext: str, range_: CoordinateRange) -> list[CoordinateRange]:
        """Return a range in the parts that have holders of their own by what was placed."""
        placement = self._follower.placements.get(phext)
        return [range_] if placement is None else [*placement.ranges(range_)]

    @property
    def shared(self) -> Mapping[Pair, int]:
        """How many slots pairs of members both hold, of all placed phexts; the same object as long
        as nothing was placed otherwise."""
        return self._follower.shared

    def _check_unbound(self, phext: str, ranges: Ranges) -> None:
        if self._node.directories is not None:
            self._node.directories.check_unbound(phext, ranges)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_again)
            nursery.start_soon(self._move_on)
            nursery.start_soon(self._follow_alone)
            nursery.start_soon(self._run_errands)
            await self._follow_again()

    async def _follow_alone(self) -> None:
        """Look at what is followed also where nobody has placed anything, or told so in time."""
        await trio.sleep(ALONE_S)
        self._changed.set()

    async def _move_on(self) -> None:
        while True:
            await self._coming.take()
            is_coming = True
            while is_coming:
                await trio.sleep(MOVE_ON_S)
                with self._boundary.around("taking what is placed here"):
                    is_coming = self._follower.move_on()

    async def _look_again(self) -> None:
        await self._begun.wait()
        while True:
            with self._boundary.around("looking at who is there"):
                self._follower.look(trio.current_time(), self._node.core.presence.heard())
            await trio.sleep(LOOK_S)

    async def _run_errands(self) -> None:
        await self._begun.wait()
        while True:
            with self._boundary.around("looking for whom to be linked with"):
                now, here = trio.current_time(), self._node.core.presence.heard()
                node_ids = self._errands.look(now, self._follower.placements, here)
                self._ask_for(node_ids, 2 * ERRANDS_S)
            await trio.sleep(ERRANDS_S)

    async def _follow_again(self) -> None:
        took_s = 0.0
        while True:
            await self._changed.wait()
            await trio.sleep(max(FOLLOW_S, _PAUSE_SHARE * took_s))
            self._changed.lower()
            began_s = trio.current_time()
            with self._boundary.around("following placement"):
                await self._follow()
            took_s = trio.current_time() - began_s

    async def _follow(self) -> None:
        """Hold what placement says now."""
        for turn in self._follower.begin():
            if len(turn.placement.members) > _FEW:
                self._follower.take(turn, await trio.to_thread.run_sync(turn.ranges))
            else:
                self._follower.take(turn, turn.ranges())
        self._follower.end()
        if self._pace.is_waiting:
            self._coming.set()
        if is_placed(self._node.replicas):
            self._begun.set()
