"""Company: with whom a simulated node is linked, where nodes choose that, as a whole node does it.

The choice, the pace, the witnesses and the errands are those of `phextsync.node`; here is only what
calls them in virtual time. Nodes know each other's addresses, and who is there by what they hear.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final, Protocol, TypeAlias, TypeVar

from phextsync.control.placing import PLACEMENT, is_placed, placement_of
from phextsync.index import EVERYTHING, Coordinate
from phextsync.node.copies import about_bytes, is_taken
from phextsync.node.errands import Errands
from phextsync.node.follower import Follower
from phextsync.node.following import ERRANDS_S, LOOK_S, MOVE_ON_S
from phextsync.node.neighbourhood import PASSING_S, Chosen, Links, Neighbourhood, choose
from phextsync.node.overlay import Pair
from phextsync.node.pace import Pace
from phextsync.node.turns import Turns
from phextsync.placement.holders import Placement
from phextsync.placement.members import Member
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.reconcile import scope_digest
from phextsync.sync.synchronizer import Synchronizer

_REVIEW_S: Final = 1.0
_KEPT: Final = 256

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

_Slots: TypeAlias = frozenset[tuple[Pair, int]]


class Shared:
    """What many nodes of one process work out alike, worked out once: what is placed, and with
    whom of the same nodes each is linked. `everybody`: the node ids of all."""

    def __init__(self, everybody: Sequence[bytes], links_max: int) -> None:
        self.everybody = everybody
        self.links_max = links_max
        self._placements: dict[tuple[str, tuple[int, bytes]], Placement] = {}
        self._slots: dict[_Slots, Mapping[Pair, int]] = {}
        self._chosen: dict[tuple[frozenset[bytes], int, int, frozenset[bytes]], Chosen] = {}

    def placement(
        self, replicas: ReplicaSet, phext: str, members: Mapping[bytes, Member] | None
    ) -> Placement:
        """Return what `placement_of` does."""
        key = phext, scope_digest(replicas.open(PLACEMENT).index, [EVERYTHING])
        if key not in self._placements:
            _make_room(self._placements)
            self._placements[key] = placement_of(replicas, phext, members)
        return self._placements[key]

    def same(self, slots: Mapping[Pair, int]) -> Mapping[Pair, int]:
        """Return the first one that is equal: all are told apart by identity."""
        return self._slots.setdefault(frozenset(slots.items()), slots)

    def choose(
        self,
        nodes: frozenset[bytes],
        shared: Mapping[Pair, int],
        links_max: int,
        limited: frozenset[bytes],
    ) -> Chosen:
        """Return what `neighbourhood.choose` does; `shared` is such as `same` has returned."""
        key = nodes, id(shared), links_max, limited
        if key not in self._chosen:
            _make_room(self._chosen)
            self._chosen[key] = choose(nodes, shared, links_max, limited)
        return self._chosen[key]


class Timer(Protocol):
    """Calls something of a node later, if it still runs then, and when it is awake."""

    def __call__(self, seconds: float, call: Callable[[], None]) -> None: ...


class Company:
    """Of one life of a node. `dial` has a link made with a node, if it can be; `after` is its
    timer, `clock` its monotonic clock."""

    def __init__(
        self,
        core: Synchronizer,
        links: Links,
        shared: Shared,
        *,
        name: str,
        random: Random,
        after: Timer,
        clock: Callable[[], float],
        dial: Callable[[bytes], None],
        changed: Callable[[], None],
    ) -> None:
        self._core = core
        self._links = links
        self._shared = shared
        self._random = random
        self._after = after
        self._clock = clock
        self._dial = dial
        self._is_moving = False
        bytes_of = partial(about_bytes, core.replicas)
        taken = partial(is_taken, core, lambda phext, at: self.follower.holders(phext, at))
        self.follower: Follower = Follower(
            core.replicas,
            name=name,
            changed=changed,
            read=shared.placement,
            pace=Pace(clock, taken, bytes_of),
        )
        self.follower.shared = shared.same(self.follower.shared)
        self._neighbourhood = Neighbourhood(
            core, links, self.follower, links_max=shared.links_max, choose=shared.choose
        )
        self._errands = Errands(core)
        core.presence.publish({})  # everybody is to know that this node is there
        for seconds, call in (
            (_REVIEW_S, self._review),
            (LOOK_S, self._look),
            (ERRANDS_S, self._run_errands),
        ):
            after(seconds * random.random(), partial(self._repeat, seconds, call))

    def _repeat(self, seconds: float, call: Callable[[], None]) -> None:
        call()
        self._after(seconds, partial(self._repeat, seconds, call))

    # -- links -----------------------------------------------------------------------------

    def ask_for(self, node_ids: Iterable[bytes], for_s: float = PASSING_S) -> None:
        """Have links with nodes for a while."""
        for node_id in sorted(node_ids):
            self._neighbourhood.ask_for(self._clock(), node_id, for_s)
        self._dial_wanted()

    def turns(self, phext: str, at: Coordinate) -> Turns:
        """Return whom of the holders of a scroll that are there to dial in turn, as whoever reads
        it."""
        holders = (member.node_id for member in self.follower.holders(phext, at))
        linked = {peer_id for _, peer_id, _ in self._core.peers()}
        return Turns(filter((self._neighbourhood.here() - linked).__contains__, holders))

    def _review(self) -> None:
        self._neighbourhood.review(self._clock())
        self._dial_wanted()
        self._dial_unheard()

    def _dial_wanted(self) -> None:
        linked = self._links.connected()
        for node_id in sorted(self._neighbourhood.wanted(self._clock()) - linked):
            self._dial(node_id)

    def _dial_unheard(self) -> None:
        """Dial some that nobody hears of, as many as there is room for."""
        linked, here, now = self._links.connected(), self._neighbourhood.here(), self._clock()
        known = linked | here | {self._core.node_id}
        unheard = [node_id for node_id in self._shared.everybody if node_id not in known]
        self._random.shuffle(unheard)
        dialling = 0
        for node_id in unheard:
            if not self._neighbourhood.has_room(now, node_id, dialling):
                break
            if self._neighbourhood.wants(now, node_id):
                dialling += 1
                self._dial(node_id)

    # -- what is placed --------------------------------------------------------------------

    def follow(self) -> None:
        """Hold what placement says now."""
        for turn in self.follower.begin():
            self.follower.take(turn, turn.ranges())
        self.follower.end()
        self.follower.shared = self._shared.same(self.follower.shared)
        self._move_on()

    def _move_on(self) -> None:
        """Take what comes at its pace, as long as something does."""
        is_coming = self.follower.move_on()
        if is_coming and not self._is_moving:
            self._is_moving = True
            self._after(MOVE_ON_S, self._move_again)

    def _move_again(self) -> None:
        self._is_moving = False
        self._move_on()

    def _look(self) -> None:
        if is_placed(self._core.replicas):
            self.follower.look(self._clock(), self._core.presence.heard())

    def _run_errands(self) -> None:
        if is_placed(self._core.replicas):
            here = self._core.presence.heard()
            node_ids = self._errands.look(self._clock(), self.follower.placements, here)
            self.ask_for(node_ids, 2 * ERRANDS_S)


def _make_room(some: dict[KeyT, ValueT]) -> None:
    if len(some) >= _KEPT:
        del some[next(iter(some))]
