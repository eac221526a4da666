"""Acquaintances: which peers there are, who of them was here when, and why they are not now."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from phextsync.discovery import RememberedPeers
from phextsync.errors import PhextsyncError
from phextsync.index import CoordinateRange
from phextsync.ranges import Ranges, intersection
from phextsync.sync.events import PeerLost
from phextsync.sync.presence import PeerPresence
from phextsync.transport import SecureLink
from phextsync.trust.certificates import certificate_permissions
from phextsync.trust.known_peers import KnownPeers, State
from phextsync.trust.permissions import NOTHING, Permissions

_MAY_RETURN_S: Final = 30 * 86400.0  # a peer that was not seen for longer is not waited for
_SEEN_AGAIN_S: Final = 3600.0
_LOST_MAX: Final = 256
_REFUSALS_MAX: Final = 256

_log = logging.getLogger("phextsync.node")


@dataclass(frozen=True, slots=True)
class Lost:
    """The end of the last link with a peer; `time_s` is in Unix time."""

    name: str
    reason: str
    time_s: float
    interests: Mapping[str, Ranges]


class Acquaintances:
    """The peers that a node has met, as its folder remembers them.

    `known` says whom people let in or blocked; `remembered` where peers answered and when they
    were seen.
    """

    def __init__(
        self,
        own_id: bytes,
        known: KnownPeers,
        remembered: RememberedPeers,
        wall_time_s: Callable[[], float],
    ) -> None:
        self.known = known
        self.remembered = remembered
        self.wall_time_s = wall_time_s
        self._own_id = own_id
        self._lost: dict[bytes, Lost] = {}  # the latest comes last
        self._last_refusals: dict[bytes, str] = {}  # what was logged of whom
        self._seen_noted = -math.inf
        for peer in known.peers():  # those of before it was noted when a peer was seen
            if peer.state is State.KNOWN and remembered.last_seen_s(peer.node_id) is None:
                self.see(peer.node_id)

    # -- who belongs -----------------------------------------------------------------------

    def judge(self, secure: SecureLink) -> tuple[Permissions, str | None]:
        """Return what a peer may do, and why it is refused, if it is."""
        try:
            permissions = certificate_permissions(secure.certificate)
            refusal = None
            if secure.peer_id != self._own_id:
                refusal = self.known.admit(secure.peer_id, secure.peer_name)
        except PhextsyncError as error:
            permissions, refusal = NOTHING, str(error)
        if refusal is not None and refusal != self._last_refusals.get(secure.peer_id):
            if len(self._last_refusals) >= _REFUSALS_MAX:
                self._last_refusals.clear()
            self._last_refusals[secure.peer_id] = refusal
            _log.warning("refused %s at %s: %s", secure.peer_name, secure.address, refusal)
        return permissions, refusal

    def refresh(self) -> None:
        """Read again what the folder says of peers."""
        before = {peer.node_id for peer in self.known.peers()}
        self.known.refresh()
        for forgotten in before - {peer.node_id for peer in self.known.peers()}:
            self.remembered.overlook(forgotten)

    # -- who was here ----------------------------------------------------------------------

    def see(self, peer_id: bytes) -> None:
        """The peer is somewhere in the mesh, linked with this node or not."""
        if peer_id != self._own_id:
            self.remembered.see(peer_id, self.wall_time_s())

    def join(self, peer_id: bytes, name: str) -> None:
        """A link with a peer is up."""
        self.see(peer_id)
        self.remembered.remember_name(peer_id, name)

    def see_again(
        self,
        now: float,
        connected: Callable[[], set[bytes]],
        present: Callable[[], Iterable[PeerPresence]],
    ) -> None:
        """Note from time to time who is here, and keep what is new of whom this node has met: one
        that is killed knows it afterwards."""
        if now - self._seen_noted >= _SEEN_AGAIN_S:
            self._seen_noted = now
            for peer_id in sorted(connected() | {peer.node_id for peer in present()}):
                self.see(peer_id)
        self.remembered.save_if_changed()

    def lose(self, event: PeerLost) -> None:
        """The link with a peer has ended."""
        self.see(event.peer_id)
        self._lost.pop(event.peer_id, None)
        self._lost[event.peer_id] = Lost(
            event.name, event.reason, self.wall_time_s(), event.interests
        )
        if len(self._lost) > _LOST_MAX:
            del self._lost[next(iter(self._lost))]

    def lost(self, peer_id: bytes) -> Lost | None:
        """Return how the last link with a peer ended, None when none has."""
        return self._lost.get(peer_id)

    def all_lost(self) -> Iterator[tuple[bytes, Lost]]:
        """Iterate over the peers whose links have ended since the start."""
        return iter(self._lost.items())

    # -- who may come back -----------------------------------------------------------------

    def may_return(self) -> set[bytes]:
        """Return the peers that were seen lately, blocked ones too."""
        return set(self.remembered.seen_since(self.wall_time_s() - _MAY_RETURN_S))

    def may_hold(self, absent: bytes, phext: str, range_: CoordinateRange) -> bool:
        """Whether a peer that is not here may hold something of a range, by what it told last."""
        lost = self._lost.get(absent)
        if lost is None or phext not in lost.interests:
            return True
        return bool(intersection((range_,), lost.interests[phext]))
