"""Neighbourhood: which peers a node is to be linked with now, and which of its links it ends.

Lasting links are those of the `overlay` of all nodes that are there. A passing link is one that
somebody asked for; it ends when it was not asked for again for a while. A node ends only links that
it has dialled: each link has one end that decides.
"""

from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias

from phextsync.node.overlay import Pair, Rings, overlay, spanning_tree
from phextsync.sync.presence import PeerPresence
from phextsync.sync.synchronizer import Synchronizer

PASSING_S: Final = 30.0
"""So long a passing link is kept after it was asked for."""

_UNHEARD: Final = 1  # dialled at a time: all nodes try, and one link joins two parts of a mesh
_SETTLES_S: Final = 5.0  # a link is kept at least, while its node learns who there is
_SURPLUS: Final = "links to others are preferred"


Chosen: TypeAlias = tuple[Mapping[bytes, set[bytes]], Mapping[bytes, set[bytes]]]
"""With whom each node is linked, and with whom of these in the tree."""


class Links(Protocol):
    """The links of the node that are open."""

    def connected(self) -> set[bytes]:
        """Return the node ids at the other ends, also of those not yet let in."""

    def admitted(self) -> set[bytes]:
        """Return the node ids at the other ends, without those that were refused."""

    def dialled_before(self, time: float) -> list[tuple[int, bytes]]:
        """Return number and peer of the links that this node has dialled, before a time."""


class Placed(Protocol):
    """Who knows what is placed."""

    @property
    def shared(self) -> Mapping[Pair, int]:
        """How many slots pairs of nodes both hold; another object when that changes."""


class Choose(Protocol):
    """Says what all choose that know the same."""

    def __call__(
        self,
        nodes: frozenset[bytes],
        shared: Mapping[Pair, int],
        links_max: int,
        limited: frozenset[bytes],
    ) -> Chosen: ...


def choose(
    nodes: frozenset[bytes], shared: Mapping[Pair, int], links_max: int, limited: frozenset[bytes]
) -> Chosen:
    """Return what all that know these nodes choose, of which some are `limited` in what they may
    pass on."""
    chosen = overlay(nodes, shared, links_max)
    return chosen, spanning_tree(chosen, limited)


class Neighbourhood:
    """With whom of those that are there a node is linked, first with those that share slots.

    Where there are more nodes than links, the core is told, and passes on by a tree. `choose` is
    another one where many nodes are in one process, and choose the same.
    """

    def __init__(
        self,
        core: Synchronizer,
        links: Links,
        placed: Placed,
        *,
        links_max: int,
        choose: Choose = choose,
    ) -> None:
        self.links_max = links_max
        self._choose = choose
        self._core = core
        self._links = links
        self._placed = placed
        self._passing: dict[bytes, float] = {}  # until when
        self._others: frozenset[bytes] = frozenset()
        self._slots: Mapping[Pair, int] = {}
        self._limited: frozenset[bytes] = frozenset()
        self._lasting: frozenset[bytes] = frozenset()
        core.presence.subscribe(self._heard)
        self._absent: dict[bytes, bool] = {}  # who is not there, and would be linked if it were
        self._rings: Rings | None = None  # of those that are

    # -- whom to be linked with ------------------------------------------------------------

    def wants(self, now: float, peer_id: bytes) -> bool:
        """Whether a peer that is not linked ought to be, whether or not it is there."""
        if self._passing.get(peer_id, now) > now:
            return True
        self._look()
        if peer_id in self._others:
            return peer_id in self._lasting
        if peer_id not in self._absent:
            self._absent[peer_id] = self._would_link(peer_id)
        return self._absent[peer_id]

    def has_room(self, now: float, peer_id: bytes | None, dialling: int) -> bool:
        """Whether another peer may be dialled, while so many are: who has just started knows of
        nobody, and may not dial all. There is room for one of the overlay, which others give way
        to, for one that is asked for, and for few that nobody hears of: parts of a mesh that were
        cut off from each other may both have all the links they want."""
        if peer_id is not None and self._passing.get(peer_id, now) > now:
            return True
        if peer_id in self._others:
            return peer_id in self._lasting
        return dialling < (_UNHEARD if self._others else self.links_max)

    def here(self) -> set[bytes]:
        """Return the nodes that are heard of now, linked or not."""
        return self._core.presence.here()

    def ask_for(self, now: float, peer_id: bytes, for_s: float = PASSING_S) -> None:
        """Somebody has use for a link with a peer, for so long."""
        self._passing[peer_id] = max(self._passing.get(peer_id, now), now + for_s)

    def wanted(self, now: float) -> frozenset[bytes]:
        """Return with whom of those that are there, or are asked for, there ought to be a link."""
        passing = (peer for peer, until in self._passing.items() if until > now)
        return self._lasting.union(passing)

    def is_asked_for(self, now: float, peer_id: bytes) -> bool:
        """Whether a passing link with a peer is wanted."""
        return self._passing.get(peer_id, now) > now

    # -- which links to end ----------------------------------------------------------------

    def review(self, now: float) -> frozenset[bytes]:
        """End the links that are of no use any more; return with whom there ought to be one since
        the last time."""
        before = self._lasting
        self._look()
        self._passing = {peer: until for peer, until in self._passing.items() if until > now}
        here = self._links.admitted()
        if self._core.tree.is_grown and len(here & self._lasting) * 2 >= len(self._lasting):
            for number, peer_id in self._links.dialled_before(now - _SETTLES_S):
                if peer_id not in self._lasting and peer_id not in self._passing:
                    self._core.end_link(number, _SURPLUS)
        return self._lasting - before

    # -- inside ----------------------------------------------------------------------------

    def _heard(self, _: PeerPresence) -> None:
        """Who hears of many at once, as at a start, chooses before all links have told of all."""
        count = self._core.presence.statistics().starts
        if count > max(self.links_max, 2 * len(self._others)):
            self._look()

    def _would_link(self, peer_id: bytes) -> bool:
        """Whether to link with one that is not there, if it were: perhaps, for the others that are
        not there may take the links. So it is enough to see what lies near."""
        own_id = self._core.node_id
        if len(self._others) < self.links_max:
            return True
        if (min(own_id, peer_id), max(own_id, peer_id)) in self._slots:
            return True
        if self._rings is None:
            self._rings = Rings(self._others | {own_id})
        return self._rings.would_meet(own_id, peer_id)

    def _look(self) -> None:
        """Choose again, if others are there than before, or they share other slots."""
        presence, others = self._core.presence, self._links.admitted()
        if presence.knows_all:
            others |= presence.here()
        others.discard(self._core.node_id)
        slots, limited = self._placed.shared, presence.limited()
        if others == self._others and slots is self._slots and limited == self._limited:
            return
        self._others, self._slots, self._limited = frozenset(others), slots, limited
        self._absent, self._rings = {}, None
        own_id, tree = self._core.node_id, self._core.tree
        nodes = self._others | {own_id}
        chosen, branches = self._choose(nodes, slots, self.links_max, limited)
        self._lasting = frozenset(chosen[own_id])
        tree.is_grown = len(others) > self.links_max
        hears_of_all = self._core.replicas.permissions.reads_everything
        is_chosen = tree.is_grown and hears_of_all
        tree.follow(frozenset(branches[own_id]) if is_chosen else None)
